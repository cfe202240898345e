package shared

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
)

// A run journals each object before making it on a daemon, so that the leftovers of a killed run
// are known by name. It removes an object only when its UUID is the recorded one, and so never
// touches others' objects. A volume has no UUID; its name has a random part.

// vxlanDevice is a network device on the host of the libvirt daemon Where.
const vxlanDevice journal.Kind = "vxlan"

// Leaves lists the kinds of objects that a killed run leaves.
var Leaves = []journal.Kind{journal.Domain, journal.Network, journal.Volume, journal.Pool, vxlanDevice}

// errNotOurs says that an object of that name has another UUID.
var errNotOurs = errors.New("it is somebody else's")

// Removers removes objects that a run leaves on a daemon, for [journal.Collect]. It works on one
// daemon after another and is not safe for concurrent use. Close ends its connections.
type Removers struct {
	open map[string]*libvirt.Connection // by URI
	dead map[string]error               // daemons that do not answer: each is asked once
}

// NewRemovers returns removers without connections.
func NewRemovers() *Removers {
	return &Removers{open: map[string]*libvirt.Connection{}, dead: map[string]error{}}
}

// daemon returns a connection to the daemon at a URI.
func (r *Removers) daemon(ctx context.Context, uri string) (*libvirt.Connection, error) {
	if c, ok := r.open[uri]; ok {
		return c, nil
	}
	if err, ok := r.dead[uri]; ok {
		return nil, err
	}
	at, err := libvirt.ParseEndpoint(uri)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	c, err := libvirt.Connect(ctx, at)
	if err != nil {
		r.dead[uri] = err
		return nil, err
	}
	r.open[uri] = c
	return c, nil
}

// Exists implements [journal.Remover]. An object with the name and another UUID has another owner:
// the run's object was never made, or is gone.
func (r *Removers) Exists(ctx context.Context, _ journal.Run, e journal.Entry) (bool, error) {
	if e.Kind == vxlanDevice {
		return existsVXLAN(ctx, e)
	}
	c, err := r.daemon(ctx, e.Where)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	err = c.Do(ctx, func() error { return find(c.Virt, e, false) })
	if gone(err) || errors.Is(err, errNotOurs) {
		return false, nil
	}
	return err == nil, err
}

// Remove implements [journal.Remover].
func (r *Removers) Remove(ctx context.Context, _ journal.Run, e journal.Entry) error {
	var c *libvirt.Connection
	if e.Kind != vxlanDevice {
		var err error
		if c, err = r.daemon(ctx, e.Where); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	return remove(ctx, c, e)
}

// Close ends the connections.
func (r *Removers) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), libvirt.CloseLimit)
	defer cancel()
	var errs []error
	for _, c := range r.open {
		errs = append(errs, c.Close(ctx))
	}
	return errors.Join(errs...)
}

// remove removes an object; a missing one is no error.
func remove(ctx context.Context, c *libvirt.Connection, e journal.Entry) error {
	if e.Kind == vxlanDevice {
		return removeVXLAN(ctx, e)
	}
	err := c.Do(ctx, func() error { return find(c.Virt, e, true) })
	if gone(err) {
		return nil
	}
	return err
}

// find looks an object up and, when remove is true and the object is the run's, removes it.
func find(virt *golibvirt.Libvirt, e journal.Entry, remove bool) error {
	switch e.Kind {
	case journal.Domain:
		domain, err := virt.DomainLookupByName(e.Name)
		if err = check(e, domain.UUID, err); err != nil || !remove {
			return err
		}
		return virt.DomainDestroy(domain)
	case journal.Network:
		network, err := virt.NetworkLookupByName(e.Name)
		if err = check(e, network.UUID, err); err != nil || !remove {
			return err
		}
		return virt.NetworkDestroy(network)
	case journal.Pool:
		pool, err := virt.StoragePoolLookupByName(e.Name)
		if err = check(e, pool.UUID, err); err != nil || !remove {
			return err
		}
		return removePool(virt, pool)
	case journal.Volume:
		pool, err := virt.StoragePoolLookupByName(e.Detail)
		if err != nil {
			return err
		}
		// The pool may not have been refreshed since the volume was made.
		_ = virt.StoragePoolRefresh(pool, 0)
		volume, err := virt.StorageVolLookupByName(pool, e.Name)
		if err != nil || !remove {
			return err
		}
		return virt.StorageVolDelete(volume, 0)
	}
	return fmt.Errorf("nobody knows how to remove a %s", e.Kind)
}

// removePool removes a pool that a run made, with its folder and all that is still in it.
func removePool(virt *golibvirt.Libvirt, pool golibvirt.StoragePool) error {
	active, err := virt.StoragePoolIsActive(pool)
	if err != nil {
		return err
	}
	if active != 0 {
		_ = virt.StoragePoolRefresh(pool, 0)
		volumes, _, err := virt.StoragePoolListAllVolumes(pool, 1, 0)
		if err != nil {
			return err
		}
		for _, volume := range volumes {
			if err := virt.StorageVolDelete(volume, 0); err != nil {
				return err
			}
		}
		if err := virt.StoragePoolDestroy(pool); err != nil {
			return err
		}
	}
	// If the folder was never made, this fails and leaves nothing.
	_ = virt.StoragePoolDelete(pool, golibvirt.StoragePoolDeleteNormal)
	return virt.StoragePoolUndefine(pool)
}

// check compares the UUID found under an object's name with the recorded one.
func check(e journal.Entry, found golibvirt.UUID, err error) error {
	if err == nil && hex.EncodeToString(found[:]) != strings.ReplaceAll(e.Detail, "-", "") {
		return errNotOurs
	}
	return err
}

// gone reports whether an error says that the object does not exist.
func gone(err error) bool {
	failure, ok := errors.AsType[golibvirt.Error](err)
	if !ok {
		return false
	}
	switch golibvirt.ErrorNumber(failure.Code) {
	case golibvirt.ErrNoDomain, golibvirt.ErrNoNetwork, golibvirt.ErrNoStoragePool, golibvirt.ErrNoStorageVol:
		return true
	}
	return false
}

var _ journal.Remover = (*Removers)(nil)
