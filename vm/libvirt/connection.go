// Package libvirt is what labs on libvirt daemons share: connections and streams, descriptions of machines, what
// happens to machines and their cards, and the choice between KVM and emulation.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Connection is a libvirt connection whose calls end when their context does: go-libvirt's own take
// neither a context nor a time limit.
type Connection struct {
	URI      string
	Virt     *golibvirt.Libvirt
	Patience time.Duration // see callPatience
}

// callPatience is how long a call may still go on when its context has ended, before the connection is given up to be
// free of it. Most calls end by themselves within a second, and over the connection goes whatever is to be cleaned up,
// and what others are about.
const callPatience = 5 * time.Second

// Connect connects to the daemon behind a URI. The error is a *guest.MissingError.
func Connect(ctx context.Context, at *Endpoint) (*Connection, error) {
	virt := golibvirt.NewWithDialer(at)
	_, err := Within(ctx, nil, func() (struct{}, error) { return struct{}{}, virt.ConnectToURI(golibvirt.RemoteURI(at.URI)) })
	if err != nil {
		return nil, at.explain(err)
	}
	return &Connection{URI: at.URI.String(), Virt: virt, Patience: callPatience}, nil
}

// Create starts a transient domain from its XML; more are further flags.
func (c *Connection) Create(ctx context.Context, xml string, more golibvirt.DomainCreateFlags) (golibvirt.Domain, error) {
	// The domain ends with this connection too: one more way in which nothing is left.
	flags := golibvirt.DomainStartAutodestroy | more
	return Within(ctx, c, func() (golibvirt.Domain, error) { return c.Virt.DomainCreateXML(xml, flags) })
}

// Do makes a call that returns nothing.
func (c *Connection) Do(ctx context.Context, call func() error) error {
	_, err := Within(ctx, c, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// Destroy ends a domain at once. One that has ended by itself is no error.
func (c *Connection) Destroy(ctx context.Context, domain golibvirt.Domain) error {
	err := c.Do(ctx, func() error { return c.Virt.DomainDestroy(domain) })
	if golibvirt.IsNotFound(err) {
		return nil
	}
	return err
}

// Versions are those of QEMU and libvirt.
func (c *Connection) Versions(ctx context.Context) (qemu, libvirt string, err error) {
	both, err := Within(ctx, c, func() ([2]uint64, error) {
		hypervisor, err := c.Virt.ConnectGetVersion()
		if err != nil {
			return [2]uint64{}, err
		}
		library, err := c.Virt.ConnectGetLibVersion()
		return [2]uint64{hypervisor, library}, err
	})
	if err != nil {
		return "", "", fmt.Errorf("ask libvirt for its version: %w", err)
	}
	return Version(both[0]), Version(both[1]), nil
}

// Version decodes libvirt's major*1,000,000 + minor*1,000 + release.
func Version(n uint64) string {
	return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1_000%1_000, n%1_000)
}

// Close ends the connection.
func (c *Connection) Close(ctx context.Context) error {
	// Not beside the connection's own end, which is what is wanted here.
	_, err := Within(ctx, nil, func() (struct{}, error) { return struct{}{}, c.Virt.Disconnect() })
	if errors.Is(err, golibvirt.ErrInterrupted) { // the other side was quicker than its answer, as over ssh
		return nil
	}
	return err
}

// ErrDaemonGone ends the calls of a connection whose daemon is gone.
var ErrDaemonGone = errors.New("the libvirt daemon is gone")

// Within runs one call beside its context. One that is under way when that ends is waited for, for as long as the
// connection's patience, and then ends with the connection: what it did is known, or no more can come of it.
func Within[T any](ctx context.Context, c *Connection, call func() (T, error)) (T, error) {
	var none T
	if c != nil && ctx.Err() != nil {
		return none, fmt.Errorf("libvirt was not asked: %w", context.Cause(ctx))
	}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := call()
		done <- outcome{value, err}
	}()
	var lost <-chan struct{}
	if c != nil {
		lost = c.Virt.Disconnected()
	}
	select {
	case o := <-done:
		return o.value, inWords(c, o.err)
	case <-lost:
		select { // the call may have ended in the same moment
		case o := <-done:
			return o.value, inWords(c, o.err)
		default:
			return none, ErrDaemonGone
		}
	case <-ctx.Done():
	}
	if c != nil {
		patience := time.NewTimer(c.Patience)
		defer patience.Stop()
		select {
		case o := <-done:
			return o.value, inWords(c, o.err)
		case <-lost:
		case <-patience.C:
			go func() { _ = c.Virt.Disconnect() }()
		}
	}
	return none, fmt.Errorf("libvirt did not answer: %w", context.Cause(ctx))
}

// inWords is the error of a call on a connection that was there. go-libvirt says EINVAL where it is not any
// more, and that a call was interrupted where it went meanwhile.
func inWords(c *Connection, err error) error {
	if c != nil && (errors.Is(err, syscall.EINVAL) || errors.Is(err, golibvirt.ErrInterrupted)) {
		return ErrDaemonGone
	}
	return err
}

const (
	// CallLimit bounds a call to the daemon; a domain start takes about 0.4 s.
	CallLimit = 30 * time.Second
	// CloseLimit bounds what is cleaned up after an interrupt.
	CloseLimit = 10 * time.Second
)

// bootLimit bounds the time from a domain's start to its agent's first answer.
var bootLimit = map[string]time.Duration{KVM: 30 * time.Second, TCG: 120 * time.Second}
