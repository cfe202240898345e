package samplers

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"

	"github.com/ctload/ctload/internal/netnstest"
)

// TestProtocolCounters reads what kernels of two generations print: the older lacks names and has others.
func TestProtocolCounters(t *testing.T) {
	for folder, want := range map[string]NetLosses{
		"net-6.18": {
			ListenOverflows: 12, ListenDrops: 15, RequestQueueDrops: 4, SYNCookiesSent: 33, SYNCookiesFailed: 2, TCPTimeouts: 1226,
			TCPRetransmits: 1418, TCPResetsSent: 9, TCPErrors: 1, TCPAttemptFails: 6, TCPAbortsOnMemory: 1, TCPBacklogDrops: 3,
			TimeWaitOverflow: 5, UDPNoPorts: 100 + 7, UDPErrors: 2 + 1, UDPReceiveBuffer: 1 + 1, UDPSendBuffer: 1,
			ICMPErrors: 1 + 2 + 4, ICMPUnreachSent: 100 + 8, ICMPUnreachGot: 99, IPInDiscards: 1 + 3, IPOutDiscards: 2, IPNoRoutes: 11,
			IPHeaderErrors: 5, IPAddressErrors: 6 + 2, ReversePathDrops: 21,
		},
		"net-2.6.32": {
			ListenOverflows: 7, ListenDrops: 9, SYNCookiesSent: 1, SYNCookiesFailed: 3, TCPTimeouts: 44, TCPRetransmits: 50, TCPResetsSent: 60,
			TCPErrors: 2, TCPAttemptFails: 10, UDPNoPorts: 5, UDPErrors: 4, UDPReceiveBuffer: 3, ICMPErrors: 1, ICMPUnreachSent: 2, ICMPUnreachGot: 8,
			IPNoRoutes: 30,
		},
	} {
		proc := newFakeProc(t)
		for _, name := range []string{"netstat", "snmp", "snmp6"} {
			text, err := os.ReadFile(filepath.Join("testdata", folder, name))
			if os.IsNotExist(err) && name == "snmp6" {
				continue // IPv6 is off
			}
			if err != nil {
				t.Fatal(err)
			}
			proc.write("net/"+name, string(text))
		}
		reader := newProtocolReader(proc.root)
		var got NetLosses
		if err := reader.read(&got, make([]byte, 64<<10)); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", folder, diff)
		}
		if err := reader.close(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"x", "Tcp: A\nUdp: 1\n", "Tcp: A B\nTcp: 1\n", "Tcp: A\nTcp: 1 2\n", "Tcp: OutRsts\nTcp: x\n"} {
		if err := addCounters(new(NetLosses), []byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// TestProtocolCountersAgree holds our reading of this machine's files against the library's.
func TestProtocolCountersAgree(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		flows(t, 30)
		comes(t, func() string {
			var got NetLosses
			if err := newProtocolReader("/proc").read(&got, make([]byte, 64<<10)); err != nil || got.UDPNoPorts < 30 {
				return fmt.Sprintf("of 30 datagrams %d met a closed port, %v", got.UDPNoPorts, err)
			}
			return ""
		})
		fs, err := procfs.NewFS("/proc")
		if err != nil {
			t.Fatal(err)
		}
		self, err := fs.Self()
		if err != nil {
			t.Fatal(err)
		}
		snmp, err := self.Snmp()
		if err != nil {
			t.Fatal(err)
		}
		ext, err := self.Netstat()
		if err != nil {
			t.Fatal(err)
		}
		var got NetLosses
		if err := newProtocolReader("/proc").read(&got, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		if got.UDPNoPorts != int64(*snmp.Udp.NoPorts) || got.UDPNoPorts != 30 || got.ICMPUnreachSent != int64(*snmp.OutDestUnreachs) || got.ICMPUnreachSent == 0 || got.ListenDrops != int64(*ext.ListenDrops) {
			t.Errorf("%+v, the library says %v datagrams to closed ports, %v unreachables", got, *snmp.Udp.NoPorts, *snmp.OutDestUnreachs)
		}
	})
}

func FuzzAddCounters(f *testing.F) {
	for _, name := range []string{"net-6.18/netstat", "net-6.18/snmp", "net-2.6.32/netstat", "net-6.18/snmp6"} {
		text, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		_ = addCounters(new(NetLosses), text)
		_ = addCounters6(new(NetLosses), text)
	})
}
