package labs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt/shared"
	"github.com/ctload/ctload/vm/netns"
	"github.com/ctload/ctload/vm/vagrant"
)

// otherLabLimit bounds the examination of an optional lab.
const otherLabLimit = 30 * time.Second

func examineNamespaces(ctx context.Context) Finding {
	f := Finding{What: "--driver netns", Level: Good, Detail: "namespaces on this host's kernel, at its full speed"}
	if err := checkNamespaces(ctx, false); err != nil {
		return absent(f, err)
	}
	if err := netns.Changeable(); err != nil {
		f.Detail += "; its table and hash cannot be changed (--allow-host-changes): " + err.Error()
	}
	return f
}

// systemDaemon is the libvirt daemon that distributions start.
const systemDaemon = "qemu:///system"

func examineSystemDaemon(ctx context.Context) Finding {
	f := Finding{What: "--connect " + systemDaemon, Level: Good}
	ctx, cancel := context.WithTimeout(ctx, otherLabLimit)
	defer cancel()
	facts, err := shared.Examine(ctx, systemDaemon)
	if err != nil {
		return absent(f, err)
	}
	f.Detail = facts.String()
	if facts.Warning != "" {
		f.Level, f.Detail, f.Fix = Slow, facts.Warning, facts.Fix
	}
	return f
}

func examineVagrant(ctx context.Context) Finding {
	f := Finding{What: "--driver " + driverVagrant, Level: Good, Detail: "boxes of distributions, with vagrant-libvirt"}
	ctx, cancel := context.WithTimeout(ctx, otherLabLimit)
	defer cancel()
	if err := vagrant.CheckHost(ctx); err != nil {
		return absent(f, err)
	}
	return f
}

// absent turns a finding about an optional lab into absent with err as its detail.
func absent(f Finding, err error) Finding {
	f = missing(f, err)
	f.Level = Absent
	f.Detail = strings.Join(strings.Fields(f.Detail), " ")
	return f
}

// examineLeft looks for what killed runs left.
func examineLeft() Finding {
	f := Finding{What: "leftovers", Level: Good, Detail: "no killed run has left anything"}
	state, err := journal.Folder()
	if err != nil {
		return absent(f, err)
	}
	left, err := journal.Dead(state, func(run journal.Run, e journal.Entry) bool { return !e.Kind.OfHost() || run.SameBoot() })
	if err != nil {
		return absent(f, &guest.MissingError{What: "the journals of runs cannot be read", Err: err, Fix: "look into " + state})
	}
	if len(left) > 0 {
		f.Level, f.Fix = Slow, "ctload gc"
		f.Detail = fmt.Sprintf("%d things of killed runs are left, the first: %s", len(left), left[0].Entry)
	}
	return f
}
