package generators

import (
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/conntrack"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// entries counts the conntrack entries of a namespace by state of the connection.
func (n *namespace) entries(t testing.TB) (byState map[string]int, assured int) {
	t.Helper()
	conn, err := conntrack.Dial(&netlink.Config{NetNS: int(n.file.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	flows, err := conn.Dump(nil)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{
		"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
		"TIME_WAIT", "CLOSE", "SYN_SENT2",
	}
	byState = make(map[string]int)
	for _, flow := range flows {
		state := "UDP"
		if tcp := flow.ProtoInfo.TCP; tcp != nil {
			state = names[tcp.State]
		}
		byState[state]++
		if flow.Status.Assured() {
			assured++
		}
	}
	return byState, assured
}

// TestHandshakeWithoutSockets checks that a router between two ends without sockets holds the
// connections as if they were real, in the state that the close mode leaves.
func TestHandshakeWithoutSockets(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	const n = 10_000
	for _, test := range []struct {
		close CloseMode
		state string
	}{
		{"", "ESTABLISHED"},
		{CloseRST, "CLOSE"},
		{CloseFIN, "TIME_WAIT"},
	} {
		t.Run(string(test.close), func(t *testing.T) {
			client, router, far := newNamespace(t), newNamespace(t), newNamespace(t)
			join(t, client, "link", router, "near")
			join(t, router, "far", far, "link")
			client.address(t, "link", "10.1.0.1/24")
			router.address(t, "near", "10.1.0.2/24")
			router.address(t, "far", "10.2.0.1/24")
			far.address(t, "link", "10.2.0.2/24")
			client.route(t, "10.4.0.0/16", "10.1.0.2")
			far.route(t, "10.3.0.0/16", "10.2.0.1")
			// Addresses without an owner on the client's side.
			router.route(t, "10.3.0.0/16", "10.1.0.1")
			router.route(t, "10.4.0.0/16", "10.2.0.2") // and on the far side
			router.sysctl(t, "net.ipv4.ip_forward", "1")
			router.track(t)

			spec := responders.Spec{
				Kind: responders.Handshake, Address: "10.4.0.0/24", Ports: mustPorts(t, "80-83"),
				Namespace: far.path(),
			}
			r := startIn(t, spec)
			got, err := Run(t.Context(), Spec{
				Kind: Handshake, Target: "10.4.0.0/24", Ports: spec.Ports, Sources: "10.3.0.0/16",
				Seed: 5, Count: n,
				Close: test.close, Timeout: 10 * time.Second, Namespace: client.path(),
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Completed != n {
				t.Errorf("%d of %d were completed: %v, limits %q",
					got.Completed, n, got.Causes, got.Limits)
			}
			if c := r.Counters(); c.Accepted != n {
				t.Errorf("the far end saw %d SYNs", c.Accepted)
			}
			hosttest.Eventually(t, "all entries "+test.state, func() bool {
				states, _ := router.entries(t)
				return states[test.state] == n
			})
			states, assured := router.entries(t)
			if assured != n || len(states) != 1 {
				t.Errorf("%d entries are ASSURED, the states are %v", assured, states)
			}
		})
	}
}

func TestHandshakeRefusesOwnAddresses(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	spec := Spec{
		Kind: Handshake, Target: serverAddress, Ports: []uint16{80}, Sources: clientAddress,
		Count: 1, Namespace: lab.client.path(),
	}
	if _, err := Run(t.Context(), spec, nil); err == nil {
		t.Error("a handshake from an address of the host was begun")
	}
	answer := responders.Spec{
		Kind: responders.Handshake, Address: serverAddress, Ports: []uint16{80},
		Namespace: lab.server.path(),
	}
	if r, err := responders.Listen(t.Context(), answer); err == nil {
		t.Error("a handshake responder for an address of the host was started", r.Close())
	}
}
