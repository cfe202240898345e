// Package libvirt holds what labs on libvirt daemons share: connections and streams, descriptions
// of machines, faults of machines and their cards, and the choice between KVM and emulation.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Connection is a libvirt connection whose calls end when their context does: go-libvirt's own
// calls take neither a context nor a time limit.
type Connection struct {
	*golibvirt.Libvirt
	URI    string
	Linger time.Duration // how long a call may outlive its context; see lingerLimit
}

// lingerLimit bounds how long a call may outlive its context before Within disconnects to end it.
// Most calls end within a second, and cleaning up and concurrent calls need the connection.
const lingerLimit = 5 * time.Second

// Connect connects to the daemon behind a URI. The error is a *guest.MissingError.
func Connect(ctx context.Context, at *Endpoint) (*Connection, error) {
	virt := golibvirt.NewWithDialer(at)
	err := run(ctx, nil, func() error { return virt.ConnectToURI(golibvirt.RemoteURI(at.URI)) })
	if err != nil {
		return nil, at.explain(err)
	}
	return &Connection{virt, at.URI.String(), lingerLimit}, nil
}

// Create starts a transient domain from its XML; more holds further flags.
func (c *Connection) Create(ctx context.Context, xml string, more createFlags) (Handle, error) {
	// The domain also ends with this connection, so that a killed run leaves none.
	flags := golibvirt.DomainStartAutodestroy | more
	return Within(ctx, c, func() (Handle, error) { return c.DomainCreateXML(xml, flags) })
}

// Handle is libvirt's name of a machine that exists.
type Handle = golibvirt.Domain

type createFlags = golibvirt.DomainCreateFlags

// Do makes a call that returns nothing.
func (c *Connection) Do(ctx context.Context, call func() error) error { return run(ctx, c, call) }

func run(ctx context.Context, c *Connection, call func() error) error {
	_, err := Within(ctx, c, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// Ask makes a call with one argument, as [Within] does.
func Ask[A, T any](ctx context.Context, c *Connection, call func(A) (T, error), a A) (T, error) {
	return Within(ctx, c, func() (T, error) { return call(a) })
}

// Destroy ends a domain at once. A domain that has already ended is no error.
func (c *Connection) Destroy(ctx context.Context, domain golibvirt.Domain) error {
	err := c.Do(ctx, func() error { return c.DomainDestroy(domain) })
	if golibvirt.IsNotFound(err) {
		return nil
	}
	return err
}

// Versions returns the versions of QEMU and libvirt.
func (c *Connection) Versions(ctx context.Context) (qemu, libvirt string, err error) {
	hypervisor, err := Within(ctx, c, c.ConnectGetVersion)
	if err != nil {
		return "", "", fmt.Errorf("ask libvirt for the version of QEMU: %w", err)
	}
	library, err := Within(ctx, c, c.ConnectGetLibVersion)
	if err != nil {
		return "", "", fmt.Errorf("ask libvirt for its version: %w", err)
	}
	return Version(hypervisor), Version(library), nil
}

// Version decodes libvirt's major*1,000,000 + minor*1,000 + release.
func Version(n uint64) string {
	return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1_000%1_000, n%1_000)
}

// Close ends the connection.
func (c *Connection) Close(ctx context.Context) error {
	// nil: a disconnected connection is the aim here and no error.
	err := run(ctx, nil, c.Disconnect)
	if errors.Is(err, golibvirt.ErrInterrupted) { // the other side hung up, as over ssh
		return nil
	}
	return err
}

// ErrDaemonGone ends the calls of a connection whose daemon is gone.
var ErrDaemonGone = errors.New("the libvirt daemon is gone")

// Within runs one call beside its context. When the context ends, Within waits for the call up to
// the connection's limit and then disconnects, so that the call can have no later effect.
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
		// go-libvirt's errors before and during the loss of a connection.
		gone := errors.Is(err, syscall.EINVAL) || errors.Is(err, golibvirt.ErrInterrupted)
		if c != nil && gone {
			err = ErrDaemonGone
		}
		done <- outcome{value, err}
	}()
	var lost <-chan struct{}
	if c != nil {
		lost = c.Disconnected()
	}
	select {
	case o := <-done:
		return o.value, o.err
	case <-lost:
		select { // the call may have ended at the same moment
		case o := <-done:
			return o.value, o.err
		default:
			return none, ErrDaemonGone
		}
	case <-ctx.Done():
	}
	if c != nil {
		limit := time.NewTimer(c.Linger)
		defer limit.Stop()
		select {
		case o := <-done:
			return o.value, o.err
		case <-lost:
		case <-limit.C:
			go func() { _ = c.Disconnect() }()
		}
	}
	return none, fmt.Errorf("libvirt did not answer: %w", context.Cause(ctx))
}

const (
	// CallLimit bounds a call to the daemon; a domain start takes about 0.4 s.
	CallLimit = 30 * time.Second
	// CloseLimit bounds the cleaning up after an interrupt.
	CloseLimit = 10 * time.Second
)

// bootLimit bounds the time from a domain's start to its agent's first answer.
var bootLimit = map[string]time.Duration{KVM: 30 * time.Second, TCG: 120 * time.Second}
