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
var Leaves = []journal.Kind{
	journal.Domain, journal.Network, journal.Volume, journal.Pool, vxlanDevice,
}

// errNotOurs says that an object of that name has another UUID.
var errNotOurs = errors.New("it belongs to another user of the daemon")

// Removers removes objects that a run leaves on a daemon, for [journal.Collect]. It works on one
// daemon after another and is not safe for concurrent use. Close ends its connections.
type Removers struct {
	daemons map[string]daemon // by URI; each is asked once
}

// daemon is a connection, or the error of the attempt to connect.
type daemon struct {
	*libvirt.Connection
	err error
}

// NewRemovers returns removers without connections.
func NewRemovers() *Removers { return &Removers{daemons: map[string]daemon{}} }

// daemon returns a connection to the daemon at a URI.
func (r *Removers) daemon(ctx context.Context, uri string) (*libvirt.Connection, error) {
	d, asked := r.daemons[uri]
	if !asked {
		ctx, cancel := context.WithTimeout(ctx, answerLimit)
		defer cancel()
		var at *libvirt.Endpoint
		if at, d.err = libvirt.ParseEndpoint(uri); d.err == nil {
			d.Connection, d.err = libvirt.Connect(ctx, at)
		}
		r.daemons[uri] = d
	}
	return d.Connection, d.err
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
	err = c.Do(ctx, func() error {
		_, err := find(c.Libvirt, e)
		return err
	})
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
	for _, d := range r.daemons {
		if d.err == nil {
			errs = append(errs, d.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// remove removes an object; a missing one is no error.
func remove(ctx context.Context, c *libvirt.Connection, e journal.Entry) error {
	if e.Kind == vxlanDevice {
		return removeVXLAN(ctx, e)
	}
	err := c.Do(ctx, func() error {
		remove, err := find(c.Libvirt, e)
		if err != nil {
			return err
		}
		return remove()
	})
	if gone(err) {
		return nil
	}
	return err
}

// find looks an object of the run up and returns the function that removes it.
func find(virt *golibvirt.Libvirt, e journal.Entry) (remove func() error, err error) {
	switch e.Kind {
	case journal.Domain:
		domain, err := virt.DomainLookupByName(e.Name)
		return func() error { return virt.DomainDestroy(domain) }, check(e, domain.UUID, err)
	case journal.Network:
		network, err := virt.NetworkLookupByName(e.Name)
		return func() error { return virt.NetworkDestroy(network) }, check(e, network.UUID, err)
	case journal.Pool:
		pool, err := virt.StoragePoolLookupByName(e.Name)
		return func() error { return removePool(virt, pool) }, check(e, pool.UUID, err)
	case journal.Volume:
		pool, err := virt.StoragePoolLookupByName(e.Detail)
		if err != nil {
			return nil, err
		}
		// The pool may not have been refreshed since the volume was made.
		_ = virt.StoragePoolRefresh(pool, 0)
		volume, err := virt.StorageVolLookupByName(pool, e.Name)
		return func() error { return virt.StorageVolDelete(volume, 0) }, err
	}
	return nil, fmt.Errorf("%s is no kind of object on a libvirt daemon", e.Kind)
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
	failure, _ := errors.AsType[golibvirt.Error](err)
	switch golibvirt.ErrorNumber(failure.Code) {
	case golibvirt.ErrNoDomain, golibvirt.ErrNoNetwork,
		golibvirt.ErrNoStoragePool, golibvirt.ErrNoStorageVol:
		return true
	}
	return false
}
