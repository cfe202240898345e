package main

import "github.com/ctload/ctload/generators"

// kindHelp is the help of `ctload generate KIND`, and its flags beside the common ones.
type kindHelp struct {
	kind                 generators.Kind
	argument             string // empty: ADDRESS[:PORT]
	short, long, example string
	flags                string // separated by spaces
}

// craftedOnly ends the help of kinds whose packets have addresses that no host need own.
const craftedOnly = " Only in a lab or a\nnetwork namespace that you made."

// kinds are the generators in the order of their help.
var kinds = []kindHelp{{
	kind: generators.HTTP, argument: "URL",
	short: "requests, a new connection each unless --keep-alive",
	long: `HTTP requests, ab-style. Each has a connection of its own, which the server closes after
its answer; with --close-by client or --close rst the client ends it, with --keep-alive N it
carries N requests. An answer of 400 or above is a failure (bad-response), after which a kept-alive
connection goes on unless --close-on-error ends it.`,
	example: `  ctload generate http -c 1000 -n 5000 http://127.0.0.1:8080/
  ctload generate http --rate 3000/s -t 30s http://10.0.0.2/            open loop
  ctload generate http -c 50 -k 100 -t 10s http://10.0.0.2/             kept alive
  ctload generate http -c 200 -t 1m -p 8000-8063 http://10.0.0.2/       many ports in turn`,
	flags: "concurrency ports keep-alive close-on-error close close-by free-bind syn-retries",
}, {
	kind: generators.TCP, short: "connections, closed in a chosen way",
	long: `TCP connections: connect, send --payload, wait for --expect bytes, stay open for a
--lifetime, close. The close mode decides the state of the conntrack entry after it: fin
(TIME_WAIT), rst (CLOSE), abandon (ESTABLISHED: the client vanishes without a packet, which needs
CAP_NET_ADMIN in the network namespace), half-close (CLOSE_WAIT if the peer stays open: ctload
respond leak).`,
	example: `  ctload generate tcp -c 100 -n 10000 --close rst 10.0.0.2:80
  ctload generate tcp --rate 2000/s -t 1m 10.0.0.2:80
  ctload generate tcp --stages 0/s-5000/s:30s,5000/s:1m 10.0.0.2:80      ramp up, then sustain
  ctload generate tcp -r 200/s -t 1m --arrivals poisson --lifetime 1s,2s,30s 10.0.0.2:80
  ctload generate tcp -c 500 -n 200k --sources 10.0.8.0/22 --free-bind 10.0.0.2:80`,
	flags: "concurrency ports close close-by payload expect lifetime free-bind syn-retries",
}, {
	kind: generators.Hold, short: "connections that are opened and kept",
	long: `TCP connections that are opened, at a rate or as fast as -c allows, and kept until the
duration ends, or each for its --lifetime. With --payload and --interval they say something now and
then. A connection that the peer ends before that is a failure (closed-early, reset). Run another
generator beside it for what comes and goes meanwhile.`,
	example: `  ctload generate hold -n 10000 --rate 1000/s -t 1m 10.0.0.2:80
  ctload generate hold -n 10000 -c 100 -t 5m --payload 1B --interval 15s 10.0.0.2:80`,
	flags: "concurrency ports close payload lifetime interval free-bind syn-retries",
}, {
	kind:  generators.UDP,
	short: "new flows, or conversations that are answered",
	long: `UDP flows, without any privilege: one socket sends to each address and port in turn, and
each is a new flow. With --reply the first datagram of each must be answered, with --exchanges that
many; a flow that is answered for more than 2 s becomes an ASSURED stream. An answer is what carries
the datagram's label back: ctload respond echo. With --lifetime a flow sends a datagram at each
--interval of its life and one at its end, answered or not. With --reuse and few --source-ports it
is a stream on fixed tuples, as syslog and statsd are.

With --crafted the datagrams come from --sources, addresses that need not exist, and from no socket:
a flood from very many or spoofed sources, at the speed of syn. Nothing is awaited; a flow is
completed when the device has taken its datagram.` + craftedOnly,
	example: `  ctload generate udp -n 60000 -p 1024-65535 10.0.0.2         as fast as can be
  ctload generate udp --rate 5000/s -t 10s --sources 10.0.0.1 --source-ports 1024-65535 10.0.0.2:53
  ctload generate udp -n 1000 --rate 200/s --exchanges 5 --interval 1s 10.0.0.2:53
  ip netns exec client ctload generate udp --crafted -n 100k --sources 10.9.0.0/16 10.0.0.2:53`,
	flags: "concurrency ports payload exchanges interval lifetime reply free-bind reuse crafted " +
		"interface gateway",
}, {
	kind: generators.SYN, short: "half-open connections from any source",
	long: `Crafted SYNs from --sources, addresses that need not exist: the answers go wherever the
target's routes lead. Without --reply a packet is completed when the device has taken it.` +
		craftedOnly,
	example: `  ip netns exec client ctload generate syn -n 100k --sources 10.9.0.0/16 10.0.0.2:80
  ctload generate syn --namespace /run/netns/client -n 9k -c 1k --sources 10.9.0.0/16 10.0.0.2:80`,
	flags: "concurrency ports reply reuse interface gateway",
}, {
	kind:  generators.Handshake,
	short: "full handshakes from addresses that no host owns",
	long: `Handshakes completed in user space, without sockets: ESTABLISHED, ASSURED entries by the
million. The target's routes for --sources must lead here, and no host may own them. Connections
are abandoned unless --close says fin or rst, at once or at the end of a --lifetime. To load a
router, ctload respond handshake is the far end without sockets.` + craftedOnly,
	example: `  ip netns exec client ctload generate handshake -n 9k --sources 10.9.0.0/16 10.0.0.2
  ip netns exec client ctload generate handshake -r 5k/s -t 30s --sources 10.9.0.0/16 10.0.0.2:80`,
	flags: "concurrency ports close lifetime interface gateway",
}, {
	kind: generators.ICMP, argument: "ADDRESS", short: "echo requests with varying ids",
	long: `Crafted echo requests, each with another id (--source-ports), which is a conntrack entry
of its own, from the own address or from --sources.` + craftedOnly,
	example: `  ip netns exec client ctload generate icmp -n 10000 --reply 10.0.0.2
  ctload generate icmp --namespace /run/netns/client -r 1k/s -t 10s --sources 10.9.0.0/24 10.0.0.2`,
	flags: "concurrency payload reply reuse interface gateway",
}, {
	kind: generators.Probe, short: "a steady tcp, udp or icmp bystander",
	long: `One sample after another at a steady rate, each from a fresh socket: what an ssh login or
a health check sees while something else loads the target. The icmp probe needs no privilege where
net.ipv4.ping_group_range lets the group.`,
	example: `  ctload generate probe --rate 10/s -t 1m 10.0.0.2:22
  ctload generate probe --rate 10/s -t 1m --protocol icmp 10.0.0.2
  ctload generate probe --rate 5/s -t 1m --protocol udp --format json 10.0.0.2:53`,
	flags: "ports protocol payload close free-bind syn-retries",
}}
