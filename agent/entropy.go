package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seedBytes is the length of a seed: the key of the kernel's generator, twice.
const seedBytes = 64

// Reseed gives the node's kernel random bytes of this host, unless the host's kernel is the node's.
// Machines that were restored from one snapshot draw the same numbers otherwise, and so hash and
// choose ports alike. The agent needs CAP_SYS_ADMIN; before Linux 4.14 the kernel uses the bytes
// only later.
func (c *Client) Reseed(ctx context.Context) error {
	seed := make([]byte, seedBytes)
	_, _ = rand.Read(seed) // it never fails
	return drop(call[nothing](ctx, c, "Reseed", seed))
}

func (s *server) reseed(_ context.Context, seed []byte) (nothing, error) {
	if !s.node.Own {
		return nothing{}, nil
	}
	if err := reseed(seed); err != nil {
		return nothing{}, fmt.Errorf("reseed the kernel's random numbers: %w", err)
	}
	return nothing{}, nil
}

// reseed adds the seed to the kernel's entropy (random(4), RNDADDENTROPY) and has the generator of
// all CPUs begin anew from it (RNDRESEEDCRNG).
func reseed(seed []byte) error {
	device, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	// struct rand_pool_info: bits of entropy, bytes, the bytes.
	info := binary.NativeEndian.AppendUint32(nil, uint32(8*len(seed)))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(seed)))
	info = append(info, seed...)
	request := func(number uint, argument unsafe.Pointer) error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), uintptr(number), uintptr(argument))
		if errno != 0 {
			return errno
		}
		return nil
	}
	if err := request(unix.RNDADDENTROPY, unsafe.Pointer(&info[0])); err != nil {
		return err
	}
	err = request(unix.RNDRESEEDCRNG, nil)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) { // Linux before 4.14
		return nil
	}
	return err
}
