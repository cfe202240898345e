package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/netns"
)

// Collect removes what killed runs left outside their sandboxes, or only looks, and calls tell for
// each thing. With URIs it handles only those daemons. The error names what is still there.
func Collect(
	ctx context.Context, connect []string, dryRun bool, tell func(journal.Finding),
) (err error) {
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
	return collect(ctx, journal.Options{
		Removers: removers, DryRun: dryRun, Tell: tell,
		Only: func(e journal.Entry) bool {
			return len(connect) == 0 || slices.Contains(connect, e.Where)
		},
	})
}

// hostFolder is [journal.HostFolder], but for tests.
var hostFolder = journal.HostFolder

// journals returns the folders of the journals that concern this user: the host's, and their own.
// Without a home there is none of their own.
func journals() []string {
	folders := []string{hostFolder}
	if own, err := journal.Folder(); err == nil {
		folders = append(folders, own)
	}
	return folders
}

// collect does the same in all folders of journals. Only root may remove objects that the host's
// journals name.
func collect(ctx context.Context, o journal.Options) error {
	var errs []error
	dry := o.DryRun
	for _, o.Folder = range journals() {
		o.DryRun = dry || o.Folder == hostFolder && unix.Access(hostFolder, unix.W_OK) != nil
		errs = append(errs, journal.Collect(ctx, o))
	}
	return errors.Join(errs...)
}

// restoreHost restores the settings that a killed run has left changed, where it may, or says how
// to. It refuses to measure on a host that another run is changing.
func (o Order) restoreHost(ctx context.Context) error {
	ofHost := func(e journal.Entry) bool { return e.Kind.OfHost() }
	removers := map[journal.Kind]journal.Remover{}
	for _, kind := range netns.Leaves {
		removers[kind] = netns.Remover{}
	}
	var left []string
	var changing error
	err := collect(ctx, journal.Options{
		Removers: removers, DryRun: !o.Choice.AllowHostChanges, Only: ofHost,
		Tell: func(f journal.Finding) {
			switch {
			case f.State == journal.There:
				left = append(left, f.Entry.String())
			case f.State == journal.Torn && filepath.Dir(f.Path) == hostFolder:
				left = append(left, fmt.Sprintf("what a torn record names: %q", f.Torn))
			case f.State == journal.Alive && slices.ContainsFunc(f.Has, ofHost):
				changing = guest.Missing("wait for its end", "another run (%s, process %d) is "+
					"changing this host's settings", f.Run.Label, f.Run.PID)
			}
		},
	})
	if len(left) > 0 {
		err = errors.Join(err, guest.Missing("sudo ctload gc",
			"a killed run has left this host changed: %s", strings.Join(left, ", ")))
	}
	return errors.Join(err, changing)
}

// examineLeft looks for what killed runs left.
func examineLeft() Finding {
	f := good("leftovers", "no killed run has left anything")
	var left []journal.Entry
	for _, folder := range journals() {
		dead, err := journal.Dead(folder)
		if err != nil {
			return f.absent(guest.Missing("look into "+folder, "journals are unreadable: %w", err))
		}
		left = append(left, dead...)
	}
	if n := len(left); n > 0 {
		f.Level, f.Fix = Slow, "ctload gc"
		f.Detail = fmt.Sprintf("%d things of killed runs are left, the first: %s", n, left[0])
	}
	return f
}
