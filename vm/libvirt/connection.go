package libvirt

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// connection is a libvirt connection whose calls end when their context does: go-libvirt's own take
// neither a context nor a time limit.
type connection struct {
	uri      string
	virt     *golibvirt.Libvirt
	patience time.Duration // see callPatience
}

// callPatience is how long a call may still go on when its context has ended, before the connection is given up to be
// free of it. Most calls end by themselves within a second, and over the connection goes whatever is to be cleaned up,
// and what others are about.
const callPatience = 5 * time.Second

// connect connects to the daemon behind a URI. The error is a *guest.MissingError.
func connect(ctx context.Context, at *endpoint) (*connection, error) {
	virt := golibvirt.NewWithDialer(at)
	_, err := within(ctx, nil, func() (struct{}, error) { return struct{}{}, virt.ConnectToURI(golibvirt.RemoteURI(at.uri)) })
	if err != nil {
		return nil, at.explain(err)
	}
	return &connection{uri: at.uri.String(), virt: virt, patience: callPatience}, nil
}

// create starts a transient domain from its XML; more are further flags.
func (c *connection) create(ctx context.Context, xml string, more golibvirt.DomainCreateFlags) (golibvirt.Domain, error) {
	// The domain ends with this connection too: one more way in which nothing is left.
	flags := golibvirt.DomainStartAutodestroy | more
	return within(ctx, c, func() (golibvirt.Domain, error) { return c.virt.DomainCreateXML(xml, flags) })
}

// do makes a call that returns nothing.
func (c *connection) do(ctx context.Context, call func() error) error {
	_, err := within(ctx, c, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// destroy ends a domain at once. One that has ended by itself is no error.
func (c *connection) destroy(ctx context.Context, domain golibvirt.Domain) error {
	err := c.do(ctx, func() error { return c.virt.DomainDestroy(domain) })
	if golibvirt.IsNotFound(err) {
		return nil
	}
	return err
}

// versions are those of QEMU and libvirt.
func (c *connection) versions(ctx context.Context) (qemu, libvirt string, err error) {
	both, err := within(ctx, c, func() ([2]uint64, error) {
		hypervisor, err := c.virt.ConnectGetVersion()
		if err != nil {
			return [2]uint64{}, err
		}
		library, err := c.virt.ConnectGetLibVersion()
		return [2]uint64{hypervisor, library}, err
	})
	if err != nil {
		return "", "", fmt.Errorf("ask libvirt for its version: %w", err)
	}
	return version(both[0]), version(both[1]), nil
}

// version decodes libvirt's major*1,000,000 + minor*1,000 + release.
func version(n uint64) string {
	return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1_000%1_000, n%1_000)
}

func (c *connection) close(ctx context.Context) error {
	// Not beside the connection's own end, which is what is wanted here.
	_, err := within(ctx, nil, func() (struct{}, error) { return struct{}{}, c.virt.Disconnect() })
	if errors.Is(err, golibvirt.ErrInterrupted) { // the other side was quicker than its answer, as over ssh
		return nil
	}
	return err
}

var errDaemonGone = errors.New("the libvirt daemon is gone")

// within runs one call beside its context. One that is under way when that ends is waited for, for as long as the
// connection's patience, and then ends with the connection: what it did is known, or no more can come of it.
func within[T any](ctx context.Context, c *connection, call func() (T, error)) (T, error) {
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
		lost = c.virt.Disconnected()
	}
	select {
	case o := <-done:
		return o.value, inWords(c, o.err)
	case <-lost:
		select { // the call may have ended in the same moment
		case o := <-done:
			return o.value, inWords(c, o.err)
		default:
			return none, errDaemonGone
		}
	case <-ctx.Done():
	}
	if c != nil {
		patience := time.NewTimer(c.patience)
		defer patience.Stop()
		select {
		case o := <-done:
			return o.value, inWords(c, o.err)
		case <-lost:
		case <-patience.C:
			go func() { _ = c.virt.Disconnect() }()
		}
	}
	return none, fmt.Errorf("libvirt did not answer: %w", context.Cause(ctx))
}

// inWords is the error of a call on a connection that was there. go-libvirt says EINVAL where it is not any
// more, and that a call was interrupted where it went meanwhile.
func inWords(c *connection, err error) error {
	if c != nil && (errors.Is(err, syscall.EINVAL) || errors.Is(err, golibvirt.ErrInterrupted)) {
		return errDaemonGone
	}
	return err
}
