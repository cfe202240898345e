package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt/socket"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm/guest"
)

// Endpoint is the place where a libvirt daemon listens: a URI in libvirt's notation.
type Endpoint struct {
	URI       *url.URL
	Transport string // unix, tcp, tls or ssh
	dialer    socket.Dialer
}

// systemSocket is the socket of a host's own daemon.
const systemSocket = "/var/run/libvirt/libvirt-sock"

// forms lists the URIs that ParseEndpoint accepts, for errors.
const forms = "qemu:///system, or qemu+ssh://HOST/system, with tls or tcp in place of ssh"

// URIError says why a URI names no libvirt daemon.
type URIError struct{ URI, Why string }

func (e *URIError) Error() string {
	return fmt.Sprintf("%q is no libvirt daemon: %s; valid are %s", e.URI, e.Why, forms)
}

// CheckURI returns a [*URIError] for a URI that ParseEndpoint rejects, without the network.
func CheckURI(text string) error {
	_, err := ParseEndpoint(text)
	return err
}

// ParseEndpoint parses a URI. A session URI must name its socket (qemu:///session?socket=PATH).
func ParseEndpoint(text string) (*Endpoint, error) {
	wrong := func(why string) error { return &URIError{URI: text, Why: why} }
	uri, err := url.Parse(text)
	if err != nil {
		return nil, wrong("this is no URI")
	}
	driver, transport, _ := strings.Cut(uri.Scheme, "+")
	if transport == "" {
		transport = "unix"
		if uri.Host != "" {
			transport = "tls" // libvirt's own default for another host
		}
	}
	local := transport == "unix"
	switch {
	case driver != "qemu":
		return nil, wrong("only libvirt's qemu driver is understood")
	case uri.Opaque != "" || uri.Path != "/system" && uri.Path != "/session":
		return nil, wrong("its path is /system (or /session with ?socket=PATH)")
	case uri.Path == "/session" && uri.Query().Get("socket") == "":
		return nil, wrong("a session daemon is found by its socket: qemu:///session?socket=PATH")
	case local && uri.Host != "":
		return nil, wrong("a local daemon has no host: three slashes")
	case !local && uri.Hostname() == "":
		return nil, wrong("it names no host")
	}
	a := &Endpoint{URI: uri, Transport: transport}
	switch transport {
	case "unix":
		path := cmp.Or(uri.Query().Get("socket"), systemSocket)
		a.dialer = dialers.NewLocal(dialers.WithSocket(path))
	case "tcp":
		port := dialers.UsePort(cmp.Or(uri.Port(), "16509")) // assigned by IANA, as is the other
		a.dialer = dialers.NewRemote(uri.Hostname(), port)
	case "tls":
		options := []dialers.TLSOption{dialers.UseTLSPort(cmp.Or(uri.Port(), "16514"))}
		if path := uri.Query().Get("pkipath"); path != "" {
			options = append(options, dialers.UsePKIPath(path))
		}
		if uri.Query().Get("no_verify") == "1" {
			options = append(options, dialers.WithInsecureNoVerify())
		}
		a.dialer = dialers.NewTLS(uri.Hostname(), options...)
	case "ssh":
		a.dialer = &sshDialer{uri: uri}
	default:
		return nil, wrong(fmt.Sprintf("there is no way called %q", transport))
	}
	return a, nil
}

// Name returns the name of the host in messages.
func (a *Endpoint) Name() string {
	if a.Transport == "unix" {
		return cmp.Or(a.URI.Query().Get("socket"), "this host")
	}
	return a.URI.Host
}

// Here reports whether the daemon is this host's own. A named socket may lead to another host's.
func (a *Endpoint) Here() bool { return a.Transport == "unix" && a.URI.Query().Get("socket") == "" }

// DeadAfter bounds the silence of a host, twice: after that long without a packet the kernel
// probes, and after that long again it gives the host up.
const DeadAfter = 5 * time.Second

// Dial implements [socket.Dialer]. A connection over the network ends by itself when the host at
// its other end vanishes without closing it.
func (a *Endpoint) Dial() (net.Conn, error) {
	conn, err := a.dialer.Dial()
	if err != nil {
		return nil, err
	}
	inner := conn
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		inner = secured.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		if err := endWithHost(tcp); err != nil {
			err = fmt.Errorf("watch the connection to %s: %w", a.Name(), err)
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// endWithHost bounds how long the kernel waits for a silent peer (keep-alives) and for an
// acknowledgement of data (TCP_USER_TIMEOUT, Linux 2.6.37).
func endWithHost(conn *net.TCPConn) error {
	const probes = 5
	err := conn.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: DeadAfter, Interval: DeadAfter / probes, Count: probes,
	})
	if err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		limit := int(2 * DeadAfter / time.Millisecond)
		failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, limit)
	})
	return errors.Join(err, failure)
}

// explain turns the error of a failed connection into a *guest.MissingError that names the fix.
func (a *Endpoint) explain(err error) error {
	host, fix := a.URI.Hostname(), "virsh -c '"+a.URI.String()+"' version"
	_, unknown := errors.AsType[*net.DNSError](err)
	ssh, _ := a.dialer.(*sshDialer)
	switch {
	case ssh != nil:
		fix = "ssh " + strings.Join(ssh.whom(), " ") + " true   (it must work without a question)"
		if said := ssh.said(); said != "" {
			err = errors.New(said)
		}
	case unknown:
		fix = "check the name in --connect; " + host + " has no address"
	case a.Transport == "unix" && errors.Is(err, os.ErrNotExist):
		fix = guest.Install + "libvirt-daemon-system && sudo systemctl enable --now libvirtd"
	case errors.Is(err, os.ErrPermission):
		fix = "sudo usermod -aG libvirt $USER, then log in again"
	case errors.Is(err, syscall.ECONNREFUSED) && a.Transport == "unix":
		fix = "sudo systemctl restart libvirtd"
	case errors.Is(err, syscall.ECONNREFUSED):
		fix = "on " + host + ": sudo systemctl enable --now libvirtd-" + a.Transport + ".socket"
	case a.Transport == "tls":
		fix = "virt-pki-validate, or name the folder of cacert.pem, clientcert.pem and " +
			"clientkey.pem with ?pkipath=FOLDER"
	case strings.Contains(err.Error(), "authentication"):
		fix = "passwords (SASL) are not understood: qemu+ssh:// or qemu+tls:// need none"
	}
	return guest.Missing(fix, "no connection to libvirt at %s: %w", a.URI, err)
}

// Run runs a script of ip(8) as root on the host of the daemon and returns what it prints.
func (a *Endpoint) Run(ctx context.Context, script string) (string, error) {
	// A shell of its own runs the whole script as root.
	script = Quote("export PATH=$PATH:/usr/sbin:/sbin; set -e\n" + script)
	return a.Shell(ctx, "[ $(id -u) = 0 ] || set -- sudo -n; exec \"$@\" sh -c "+script)
}

// Shell runs a script on the daemon's host, this or over ssh; else errors.ErrUnsupported.
func (a *Endpoint) Shell(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	if ssh, ok := a.dialer.(*sshDialer); ok {
		cmd = exec.CommandContext(ctx, "ssh", append(ssh.target(), "sh -c "+Quote(script))...)
	} else if !a.Here() {
		return "", errors.ErrUnsupported
	}
	cmd.WaitDelay = CloseLimit
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s: %w", strings.TrimSpace(string(exit.Stderr)), err)
	}
	return string(out), err
}
