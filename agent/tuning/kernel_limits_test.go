package tuning

import (
	"errors"
	"strings"
	"testing"
)

// TestToolError_Limit names the limit that nft's own words do not, and its cure.
func TestToolError_Limit(t *testing.T) {
	for said, want := range map[string]bool{
		"netlink: Error: Could not process rule: Message too long":          true,
		"netlink: Error: cache initialization failed: No buffer space left": true,
		"/dev/stdin:1:1-8: Error: syntax error":                             false,
	} {
		e := &ToolError{Name: "nft", Args: []string{"-f", "-"}, Stderr: said,
			Err: errors.New("exit status 1")}
		if named := strings.Contains(e.Error(), "net.core.wmem_max"); named != want {
			t.Errorf("%q: %v", said, e)
		}
	}
}
