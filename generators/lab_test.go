package generators

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/threads"
	"github.com/ctload/ctload/internal/hosttest"
)

// namespace is a network namespace of a test.
type namespace struct {
	file *os.File
	net  *netlink.Handle
}

// path returns the namespace's file for Spec.Namespace.
func (n *namespace) path() string { return fmt.Sprintf("/proc/self/fd/%d", n.file.Fd()) }

// within runs f on a thread in the namespace.
func (n *namespace) within(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	threads.Run(n.path(), func(err error) {
		if err == nil {
			err = f()
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// sysctl sets a value in the namespace.
func (n *namespace) sysctl(t testing.TB, name, value string) {
	t.Helper()
	n.within(t, func() error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
	})
}

// count returns the number of conntrack entries in the namespace.
// counts returns the number of entries of the namespace, once it is the one that is wanted: the
// kernel of a busy host takes the last packets later than the load ends.
func (n *namespace) counts(t testing.TB, want int64) (count int64) {
	t.Helper()
	hosttest.Poll(30*time.Second, func() bool {
		count = n.count(t)
		return count >= want
	})
	return count
}

func (n *namespace) count(t testing.TB) int64 {
	t.Helper()
	var count int64
	n.within(t, func() error {
		data, err := os.ReadFile(conntrackCountFile)
		if err == nil {
			count, err = strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		}
		return err
	})
	return count
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := new(namespace)
	done := make(chan error)
	threads.Run("", func(error) {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			n.net, err = netlink.NewHandle()
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.net.Close()
		if err := n.file.Close(); err != nil {
			t.Error(err)
		}
	})
	n.up(t, "lo")
	// Otherwise duplicate address detection delays links by two seconds.
	n.sysctl(t, "net.ipv6.conf.default.accept_dad", "0")
	return n
}

func (n *namespace) up(t testing.TB, name string) {
	t.Helper()
	link, err := n.net.LinkByName(name)
	if err == nil {
		err = n.net.LinkSetUp(link)
	}
	if err != nil {
		t.Fatalf("bringing %s up: %v", name, err)
	}
}

func (n *namespace) address(t testing.TB, name, cidr string) {
	t.Helper()
	link, err := n.net.LinkByName(name)
	var address *netlink.Addr
	if err == nil {
		address, err = netlink.ParseAddr(cidr)
	}
	if err == nil {
		address.Flags = unix.IFA_F_NODAD
		err = n.net.AddrAdd(link, address)
	}
	if err != nil {
		t.Fatalf("giving %s to %s: %v", cidr, name, err)
	}
}

// route sends a prefix to a gateway, or with a gateway of "" makes it local.
func (n *namespace) route(t testing.TB, prefix, gateway string) {
	t.Helper()
	_, destination, err := net.ParseCIDR(prefix)
	if err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{Dst: destination, Gw: net.ParseIP(gateway)}
	if gateway == "" {
		lo, err := n.net.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		route.LinkIndex, route.Type = lo.Attrs().Index, unix.RTN_LOCAL
		route.Table, route.Scope = unix.RT_TABLE_LOCAL, netlink.SCOPE_HOST
	}
	if err := n.net.RouteAdd(route); err != nil {
		t.Fatalf("adding route %s via %q: %v", prefix, gateway, err)
	}
}

// join makes a link between two namespaces.
func join(t testing.TB, a *namespace, aName string, b *namespace, bName string) {
	t.Helper()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: aName},
		PeerName:      bName,
		PeerNamespace: netlink.NsFd(int(b.file.Fd())),
	}
	if err := a.net.LinkAdd(veth); err != nil {
		t.Fatalf("joining %s and %s: %v", aName, bName, err)
	}
	a.up(t, aName)
	b.up(t, bName)
}

// Addresses of the pair.
const (
	clientAddress    = "10.77.0.1"
	clientAddressToo = "10.77.0.3" // for tests that give the client a second address
	serverAddress    = "10.77.0.2"
	clientAddress6   = "fd77::1"
	serverAddress6   = "fd77::2"
	nowhere          = "10.77.0.99" // an address of the link without an owner
	crowd            = "10.78.0.0/16"
	crowd6           = "fd78::/96"
)

// pair holds two namespaces on one link. The server routes a crowd of addresses without an owner to
// the client.
type pair struct{ client, server *namespace }

func newPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{newNamespace(t), newNamespace(t)}
	join(t, p.client, "link", p.server, "link")
	p.client.address(t, "link", clientAddress+"/24")
	p.client.address(t, "link", clientAddress6+"/64")
	p.server.address(t, "link", serverAddress+"/24")
	p.server.address(t, "link", serverAddress6+"/64")
	p.server.route(t, crowd, clientAddress)
	p.server.route(t, crowd6, clientAddress6)
	return p
}

// track makes a namespace track connections, as any rule that matches their state does. It
// lengthens timeouts, so that entries still exist when the test counts them after the load, late on
// a busy host (CLOSE otherwise ends after 10 s).
func (n *namespace) track(t testing.TB) {
	t.Helper()
	n.rules(t, nil, &expr.Ct{Register: 1, Key: expr.CtKeySTATE})
	for _, state := range []string{
		"tcp_timeout_close", "tcp_timeout_close_wait", "tcp_timeout_time_wait",
		"tcp_timeout_syn_recv", "tcp_timeout_syn_sent", "udp_timeout", "icmp_timeout",
		"icmpv6_timeout",
	} {
		n.sysctl(t, "net.netfilter.nf_conntrack_"+state, "600")
	}
}

// rules adds a rule to the input hook.
func (n *namespace) rules(t testing.TB, verdict expr.Any, expressions ...expr.Any) {
	t.Helper()
	n.hook(t, nftables.ChainHookInput, verdict, expressions...)
}

func (n *namespace) hook(
	t testing.TB, hook *nftables.ChainHook, verdict expr.Any, expressions ...expr.Any,
) {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(n.file.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "test"})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: fmt.Sprintf("hook%d", *hook), Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: nftables.ChainPriorityFilter,
	})
	if verdict != nil {
		expressions = append(expressions, verdict)
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: expressions})
	if err := conn.Flush(); err != nil {
		t.Fatalf("adding a rule: %v", err)
	}
}
