package samplers

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"

	"github.com/ctload/ctload/internal/netnstest"
	"github.com/ctload/ctload/results"
)

// TestProtocolCounters reads the output of kernels of two generations: the older lacks names and
// has others.
func TestProtocolCounters(t *testing.T) {
	for folder, want := range map[string]results.NetCounters{
		"net-6.18": {
			ListenOverflows: 12, ListenDrops: 15, ReqQFullDrop: 4, SyncookiesSent: 33,
			SyncookiesFailed: 2, TCPTimeouts: 1226,
			TCPRetransSegs: 1418, OutRsts: 9, TCPInErrs: 1, TCPAttemptFails: 6, TCPAbortOnMemory: 1,
			TCPBacklogDrop:      3,
			TCPTimeWaitOverflow: 5, UDPNoPorts: 100 + 7, UDPInErrors: 2 + 1, UDPRcvbufErrors: 1 + 1,
			UDPSndbufErrors: 1,
			ICMPInErrors:    1 + 4, ICMPOutErrors: 2, ICMPOutUnreach: 100 + 8, ICMPInUnreach: 99,
			IPInDiscards: 1 + 3, IPOutDiscards: 2, IPOutNoRoutes: 11,
			IPInHdrErrors: 5, IPInAddrErrors: 6 + 2, IPReversePathFilter: 21,
		},
		"net-2.6.32": {
			ListenOverflows: 7, ListenDrops: 9, SyncookiesSent: 1, SyncookiesFailed: 3,
			TCPTimeouts: 44, TCPRetransSegs: 50, OutRsts: 60,
			TCPInErrs: 2, TCPAttemptFails: 10, UDPNoPorts: 5, UDPInErrors: 4, UDPRcvbufErrors: 3,
			ICMPInErrors: 1, ICMPOutUnreach: 2, ICMPInUnreach: 8,
			IPOutNoRoutes: 30,
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
		files := protocolFiles(proc.root)
		var got results.NetCounters
		if err := readProtocols(files, &got, make([]byte, 64<<10)); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", folder, diff)
		}
		if err := files.close(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"x", "Tcp: A\nUdp: 1\n", "Tcp: A B\nTcp: 1\n",
		"Tcp: A\nTcp: 1 2\n", "Tcp: OutRsts\nTcp: x\n"} {
		if err := addCounters(new(results.NetCounters), []byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// TestProtocolCountersAgree compares ctload's reading of this machine's files with the library's.
func TestProtocolCountersAgree(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		flows(t, 30)
		comes(t, func() string {
			var got results.NetCounters
			err := readProtocols(protocolFiles("/proc"), &got, make([]byte, 64<<10))
			if err != nil || got.UDPNoPorts < 30 {
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
		var got results.NetCounters
		if err := readProtocols(protocolFiles("/proc"), &got, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		if got.UDPNoPorts != int64(*snmp.Udp.NoPorts) || got.UDPNoPorts != 30 ||
			got.ICMPOutUnreach != int64(*snmp.OutDestUnreachs) || got.ICMPOutUnreach == 0 ||
			got.ListenDrops != int64(*ext.ListenDrops) {
			t.Errorf("%+v, the library says %v datagrams to closed ports, %v unreachables", got,
				*snmp.Udp.NoPorts, *snmp.OutDestUnreachs)
		}
	})
}

func FuzzAddCounters(f *testing.F) {
	for _, name := range []string{"net-6.18/netstat", "net-6.18/snmp", "net-2.6.32/netstat",
		"net-6.18/snmp6"} {
		text, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		_ = addCounters(new(results.NetCounters), text)
		_ = addCounters6(new(results.NetCounters), text)
	})
}
