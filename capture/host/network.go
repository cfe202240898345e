package host

import (
	"errors"

	"github.com/prometheus/procfs"

	"github.com/ctload/ctload/capture"
)

// network reads the counters of the network stack that look like a full table from outside, named
// as nstat names them.
func (t *taker) network() map[string]int64 {
	proc, err := procfs.NewFS(t.Proc)
	if err != nil {
		t.problem("the network's counters", err)
		return nil
	}
	self, err := proc.Self()
	if err != nil {
		t.problem("the network's counters", err)
		return nil
	}
	four, err := self.Snmp()
	six, sixErr := self.Snmp6()
	further, furtherErr := self.Netstat()
	t.problem("the network's counters", errors.Join(err, sixErr, furtherErr))
	counters := map[string]int64{}
	for name, value := range map[string]*float64{
		"UdpInDatagrams":        four.Udp.InDatagrams,
		"UdpRcvbufErrors":       four.Udp.RcvbufErrors,
		"UdpNoPorts":            four.Udp.NoPorts,
		"Udp6InDatagrams":       six.Udp6.InDatagrams,
		"Udp6RcvbufErrors":      six.Udp6.RcvbufErrors,
		"TcpRetransSegs":        four.Tcp.RetransSegs,
		"TcpExtListenOverflows": further.ListenOverflows,
		"TcpExtListenDrops":     further.ListenDrops,
		"TcpExtTCPReqQFullDrop": further.TCPReqQFullDrop,
		"TcpExtTCPSynRetrans":   further.TCPSynRetrans,
	} {
		if value != nil {
			counters[name] = int64(*value)
		}
	}
	return counters
}

// sockets counts the host's sockets.
func (t *taker) sockets() (s capture.Sockets) {
	proc, err := procfs.NewFS(t.Proc)
	if err != nil {
		t.problem("sockets", err)
		return s
	}
	for _, read := range []func() (*procfs.NetSockstat, error){
		proc.NetSockstat, proc.NetSockstat6,
	} {
		family, err := read()
		t.problem("sockets", err)
		if err != nil {
			continue
		}
		for _, p := range family.Protocols {
			switch p.Protocol {
			case "TCP", "TCP6":
				s.TCP += int64(p.InUse)
			case "UDP", "UDP6":
				s.UDP += int64(p.InUse)
			}
			if p.TW != nil {
				s.TimeWait += int64(*p.TW)
			}
			if p.Orphan != nil {
				s.Orphaned += int64(*p.Orphan)
			}
		}
	}
	return s
}
