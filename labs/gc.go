package labs

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt/shared"
	"github.com/ctload/ctload/vm/netns"
)

// removers remove what runs leave on this host, by kind; shared.Removers does so on daemons.
var removers = map[journal.Kind]journal.Remover{
	journal.Path:        journal.Paths{},
	journal.HostSetting: netns.Remover{},
	journal.HostModule:  netns.Remover{},
}

// Collect removes what killed runs left outside their sandboxes, or with dryRun only looks, and
// calls tell for each thing. With URIs of libvirt daemons it handles only what is there. The error
// names what could not be removed.
func Collect(ctx context.Context, connect []string, dryRun bool, tell func(journal.Finding)) (err error) {
	state, err := journal.Folder()
	if err != nil {
		return err
	}
	daemons := shared.NewRemovers()
	defer func() { err = errors.Join(err, daemons.Close()) }()
	all := maps.Clone(removers)
	for _, kind := range daemons.Kinds() {
		all[kind] = daemons
	}
	return journal.Collect(ctx, journal.Options{
		Folder: state, Removers: all, DryRun: dryRun, Tell: tell,
		Only: func(e journal.Entry) bool { return len(connect) == 0 || slices.Contains(connect, e.Where) },
	})
}
