package generators

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/internal/netnstest"
)

// wrongChecksums is how many segments and ICMP messages the namespace's kernel threw away because their
// checksums were wrong.
func (n *namespace) wrongChecksums(t testing.TB) (total int64) {
	t.Helper()
	n.within(t, func() error {
		snmp, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		counters := parseNetCounters(string(snmp))
		total = counters["Tcp InCsumErrors"] + counters["Icmp InCsumErrors"]
		snmp6, err := os.ReadFile("/proc/thread-self/net/snmp6")
		for line := range strings.Lines(string(snmp6)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "Icmp6InCsumErrors" {
				count, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					return err
				}
				total += count
			}
		}
		return err
	})
	return total
}

// A real kernel receives every crafted packet, checks its checksums and answers it, and says so when one
// is wrong.
func TestChecksumsByReceiver(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	lab := newPair(t)
	lab.server.sysctl(t, "net.ipv4.icmp_ratelimit", "0")
	lab.server.sysctl(t, "net.ipv4.icmp_msgs_per_sec", "1000000")
	lab.server.sysctl(t, "net.ipv4.tcp_syncookies", "0")
	lab.server.sysctl(t, "net.core.somaxconn", "65535")
	r := startIn(t, ResponderSpec{Kind: RespondSilent, Ports: mustPorts(t, "5000-5003"), Namespace: lab.server.path()})
	const n = 2000
	for _, test := range []struct {
		name string
		spec Spec
	}{
		{"syn", Spec{Kind: SYN, Sources: crowd, Reply: true}},
		{"syn6", Spec{Kind: SYN, Sources: crowd6, Reply: true, Target: serverAddress6}},
		{"handshake closed", Spec{Kind: Handshake, Sources: crowd, Close: CloseFIN, Seed: 3}},
		{"handshake6 closed", Spec{Kind: Handshake, Sources: crowd6, Close: CloseFIN, Seed: 3, Target: serverAddress6}},
		{"icmp", Spec{Kind: ICMP, Reply: true, Payload: 33}},
		{"icmp6", Spec{Kind: ICMP, Reply: true, Payload: 33, Target: serverAddress6, Sources: crowd6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := test.spec
			spec.Count, spec.Namespace, spec.Timeout = n, lab.client.path(), 5*time.Second
			if spec.Target == "" {
				spec.Target = serverAddress
			}
			if spec.Kind != ICMP {
				spec.Ports = r.Ports()
			}
			got, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Completed != n {
				t.Errorf("%d of %d were answered, failed by %v", got.Completed, n, got.Causes)
			}
			if wrong := lab.server.wrongChecksums(t); wrong != 0 {
				t.Errorf("the receiver found %d wrong checksums", wrong)
			}
		})
	}
	// The receiver does look: what is wrong is found.
	spec := Spec{Kind: SYN, Target: serverAddress, Ports: []uint16{5000}, Sources: crowd, Count: 1}
	plan, err := spec.plan()
	if err != nil {
		t.Fatal(err)
	}
	lab.client.within(t, func() error {
		way, err := plan.findOutlet(t.Context())
		if err != nil {
			return err
		}
		o, err := newOutbox(way.index, 0, func(_ int64, errno unix.Errno) { t.Error(errno) })
		if err != nil {
			return err
		}
		template := packets.NewTCP(way.link, false, packets.SYN, nil)
		for i := range int64(n) {
			tuple := plan.tuples.At(uint64(i))
			frame := o.put(&template, i)
			template.SetTCP(frame, tuple.Source, tuple.Target, 1, 0)
			frame[len(frame)-3] ^= 1 // the last byte of the checksum
		}
		o.flush()
		return o.close()
	})
	eventually(t, "every wrong checksum is found", func() bool { return lab.server.wrongChecksums(t) == n })
}
