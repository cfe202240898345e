package agent

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// TestCounterMeaning provokes a lost race in a namespace. The counters of its own namespace and
// its rules stay as they are.
func TestCounterMeaning(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		hosttest.Need(t, "iptables-nft-restore")
		m, err := new(server).counterMeaning(t.Context(), nothing{})
		if errors.Is(err, unix.EPERM) || errors.Is(err, fs.ErrPermission) {
			hosttest.Skip(t, "%v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		// Either meaning is consistent; a chain cannot be measured here.
		if m.ChainMeasured || m.ChainInInsertFailed != m.ClashInDrop {
			t.Errorf("%+v", m)
		}
		t.Logf("%+v", m)
	})
}
