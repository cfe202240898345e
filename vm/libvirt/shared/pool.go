package shared

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
)

// imagesFolder is libvirt's folder for images; its security drivers expect them there.
const imagesFolder = "/var/lib/libvirt/images"

// findPool returns the storage pool for kernels: the named one, else the one called default, else
// any that is a folder; nil without one.
func (h *hypervisor) findPool(ctx context.Context) (*golibvirt.StoragePool, error) {
	virt := h.virt
	if name := h.options.Pool; name != "" {
		pool, err := libvirt.Ask(ctx, virt, virt.StoragePoolLookupByName, name)
		if gone(err) {
			return nil, h.lacks(h.virsh("pool-list --all"), "it has no storage pool %s", name)
		}
		return &pool, err
	}
	pools, err := libvirt.Within(ctx, virt, func() ([]golibvirt.StoragePool, error) {
		const flags = golibvirt.ConnectListStoragePoolsActive | golibvirt.ConnectListStoragePoolsDir
		pools, _, err := virt.ConnectListAllStoragePools(1, flags)
		return pools, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the storage pools of %s: %w", h.at.Name(), err)
	}
	var found *golibvirt.StoragePool
	for _, pool := range pools {
		// A pool of ctload goes with its run.
		if pool.Name == "default" || found == nil && !strings.HasPrefix(pool.Name, "ctload-") {
			found = &pool
		}
	}
	return found, nil
}

// makePool makes a pool for this run, with its own folder inside libvirt's: two pools cannot share
// a folder, and two runs must not depend on each other's pool.
func (h *hypervisor) makePool(ctx context.Context) (golibvirt.StoragePool, error) {
	made, err := h.record(journal.Pool, h.options.objectName("pool"), newUUID())
	if err != nil {
		return golibvirt.StoragePool{}, err
	}
	doc := libvirtxml.StoragePool{
		Type: "dir", Name: made.Name, UUID: made.Detail,
		Target: &libvirtxml.StoragePoolTarget{Path: imagesFolder + "/" + made.Name},
	}
	text, err := doc.Marshal()
	if err != nil {
		return golibvirt.StoragePool{}, err
	}
	pool, err := libvirt.Within(ctx, h.virt, func() (golibvirt.StoragePool, error) {
		virt := h.virt
		// A transient pool could not remove its folder.
		pool, err := virt.StoragePoolDefineXML(text, 0)
		if err != nil {
			return pool, err
		}
		if err := virt.StoragePoolBuild(pool, golibvirt.StoragePoolBuildNew); err != nil {
			return pool, err
		}
		return pool, virt.StoragePoolCreate(pool, golibvirt.StoragePoolCreateNormal)
	})
	if err != nil {
		err = h.lacks("name a pool with --pool; "+h.virsh("pool-list --all"),
			"it has no storage pool, and one in %s could not be made: %v", imagesFolder, err)
	}
	return pool, err
}

// image returns the path on the hypervisor of a file of this host. The first call uploads it.
func (h *hypervisor) image(ctx context.Context, path string) (string, error) {
	h.making.Lock()
	defer h.making.Unlock()
	if there, ok := h.images[path]; ok {
		return there, nil
	}
	if h.pool == nil {
		pool, err := h.makePool(ctx)
		if err != nil {
			return "", err
		}
		h.pool = &pool
	}
	there, err := h.upload(ctx, path, fmt.Sprintf("image%d", len(h.images)))
	if err != nil {
		return "", err
	}
	h.images[path] = there
	return there, nil
}

func (h *hypervisor) upload(ctx context.Context, path, name string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	size := info.Size()
	// A slow line carries a megabyte each second.
	limit := libvirt.CallLimit + time.Duration(size>>20)*time.Second
	late := fmt.Errorf("an image of %d MiB did not arrive in time", size>>20)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	if err := h.roomFor(ctx, size); err != nil {
		return "", err
	}
	volumeName := h.options.objectName(name) + "-" + newUUID()[:8]
	if _, err := h.record(journal.Volume, volumeName, h.pool.Name); err != nil {
		return "", err
	}
	// Readable for QEMU's user, whichever owner another machine sets; it holds no secret.
	doc := libvirtxml.StorageVolume{
		Name:     volumeName,
		Capacity: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: uint64(size)},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "raw"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0644"},
		},
	}
	text, err := doc.Marshal()
	if err != nil {
		return "", err
	}
	there, err := libvirt.Within(ctx, h.virt, func() (string, error) {
		volume, err := h.virt.StorageVolCreateXML(*h.pool, text, 0)
		if err != nil {
			return "", err
		}
		return h.virt.StorageVolGetPath(volume)
	})
	if err != nil {
		return "", h.refused(err, "make volume "+volumeName)
	}
	// A connection of its own: go-libvirt ends a broken upload only with its connection.
	carrier, err := libvirt.Connect(ctx, h.at)
	if err != nil {
		return "", err
	}
	carrier.Linger = 0
	err = carrier.Do(ctx, func() error {
		volume, err := carrier.StorageVolLookupByPath(there)
		if err != nil {
			return err
		}
		return carrier.StorageVolUpload(volume, file, 0, uint64(size), 0)
	})
	if err = errors.Join(err, carrier.Close(ctx)); err != nil {
		return "", h.refused(err, "carry an image to volume "+volumeName)
	}
	return there, nil
}

// roomFor checks that a pool can hold size more bytes.
func (h *hypervisor) roomFor(ctx context.Context, size int64) error {
	available, err := libvirt.Within(ctx, h.virt, func() (uint64, error) {
		// Other writers into the folder do not update the pool.
		if err := h.virt.StoragePoolRefresh(*h.pool, 0); err != nil {
			return 0, err
		}
		_, _, _, available, err := h.virt.StoragePoolGetInfo(*h.pool)
		return available, err
	})
	if err != nil {
		return h.refused(err, "ask for the room in pool "+h.pool.Name)
	}
	if int64(available) < size {
		return h.lacks("free some, or name another pool with --pool",
			"pool %s has %d MiB left, an image needs %d", h.pool.Name, available>>20, size>>20+1)
	}
	return nil
}

// refused returns the error of an object that a daemon did not make: a *vm.LostError when the
// daemon is gone, otherwise a *guest.MissingError.
func (h *hypervisor) refused(err error, doing string) error {
	if lost := h.lost(doing, err); lost != nil {
		return lost
	}
	fix := "journalctl -u libvirtd, there"
	failure, _ := errors.AsType[golibvirt.Error](err)
	switch golibvirt.ErrorNumber(failure.Code) {
	case golibvirt.ErrStorageVolExist, golibvirt.ErrDomExist, golibvirt.ErrNetworkExist:
		fix = "ctload gc, if a killed run has left it; else start the run again, with another name"
	case golibvirt.ErrOperationFailed, golibvirt.ErrOperationInvalid:
		fix = "ctload gc lists what killed runs have left"
	}
	return h.lacks(fix, "it refused to %s: %w", doing, err)
}
