package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/netns"
)

// Collect removes what killed runs left outside their sandboxes, or with dryRun only looks, and
// calls tell for each thing. With URIs of libvirt daemons it handles only what is there. The error
// names what could not be removed.
func Collect(ctx context.Context, connect []string, dryRun bool, tell func(journal.Finding)) (err error) {
	state, err := journal.Folder()
	if err != nil {
		return err
	}
	removers := map[journal.Kind]journal.Remover{journal.Path: journal.Paths{}} // the run's folder
	for _, d := range drivers {
		if d.remover == nil {
			continue
		}
		r := d.remover()
		if c, ok := r.(io.Closer); ok {
			defer func() { err = errors.Join(err, c.Close()) }()
		}
		for _, kind := range d.leaves {
			removers[kind] = r
		}
	}
	return journal.Collect(ctx, journal.Options{
		Folder: state, Removers: removers, DryRun: dryRun, Tell: tell,
		Only: func(e journal.Entry) bool { return len(connect) == 0 || slices.Contains(connect, e.Where) },
	})
}

// restoreHost restores the settings that a killed run has left changed, where it may, or says how to.
// It refuses to measure on a host that another run is changing.
func (o Order) restoreHost(ctx context.Context) error {
	state, err := journal.Folder()
	if err != nil {
		return err
	}
	ofHost := func(e journal.Entry) bool { return e.Kind.OfHost() }
	removers := map[journal.Kind]journal.Remover{}
	for _, kind := range netns.Leaves {
		removers[kind] = netns.Remover{}
	}
	var left []string
	var changing error
	err = journal.Collect(ctx, journal.Options{
		Folder: state, Removers: removers, DryRun: !o.Choice.AllowHostChanges, Only: ofHost,
		Tell: func(f journal.Finding) {
			switch {
			case f.State == journal.There:
				left = append(left, f.Entry.String())
			case f.State == journal.Alive && slices.ContainsFunc(f.Has, ofHost):
				changing = &guest.MissingError{
					What: fmt.Sprintf("another run (%s, process %d) is changing this host's settings", f.Run.Label, f.Run.PID), Fix: "wait for its end",
				}
			}
		},
	})
	if len(left) > 0 {
		err = errors.Join(err, &guest.MissingError{
			What: "a run that was killed has left this host changed: " + strings.Join(left, ", "), Fix: "sudo ctload gc",
		})
	}
	return errors.Join(err, changing)
}

// examineLeft looks for what killed runs left.
func examineLeft() Finding {
	f := Finding{What: "leftovers", Level: Good, Detail: "no killed run has left anything"}
	state, err := journal.Folder()
	if err != nil {
		return f.absent(err)
	}
	left, err := journal.Dead(state, func(run journal.Run, e journal.Entry) bool { return !e.Kind.OfHost() || run.SameBoot() })
	if err != nil {
		return f.absent(&guest.MissingError{What: "the journals of runs cannot be read", Err: err, Fix: "look into " + state})
	}
	if len(left) > 0 {
		f.Level, f.Fix = Slow, "ctload gc"
		f.Detail = fmt.Sprintf("%d things of killed runs are left, the first: %s", len(left), left[0].Entry)
	}
	return f
}
