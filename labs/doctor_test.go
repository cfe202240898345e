package labs

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/vm/guest"
)

// TestOptional gives a lab that a host may lack its level, and never calls it missing.
func TestOptional(t *testing.T) {
	for _, tc := range []struct {
		found Finding
		err   error
		want  Finding
	}{
		{Finding{Detail: "d"}, nil, Finding{"lab", Good, "d", ""}},
		{Finding{Level: Slow, Detail: "d", Fix: "f"}, nil, Finding{"lab", Slow, "d", "f"}},
		{Finding{}, errors.New("a\n  b"), Finding{"lab", Absent, "a b", ""}},
		{Finding{}, guest.Missing("f", "no %s: %w", "d", errors.New("e")),
			Finding{"lab", Absent, "no d: e", "f"}},
	} {
		examine := func(context.Context) (Finding, error) { return tc.found, tc.err }
		got := optional("lab", examine)(t.Context(), "")
		if diff := cmp.Diff([]Finding{tc.want}, got); diff != "" {
			t.Error(diff)
		}
	}
}
