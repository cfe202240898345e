package samplers

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// lossFields are the counters of /proc/net/netstat and /proc/net/snmp that NetLosses holds, by the
// prefix and the name that the kernel gives them.
var lossFields = map[string]map[string]func(*NetLosses) *int64{
	"TcpExt": {
		"ListenOverflows":     func(n *NetLosses) *int64 { return &n.ListenOverflows },
		"ListenDrops":         func(n *NetLosses) *int64 { return &n.ListenDrops },
		"TCPReqQFullDrop":     func(n *NetLosses) *int64 { return &n.RequestQueueDrops },
		"SyncookiesSent":      func(n *NetLosses) *int64 { return &n.SYNCookiesSent },
		"SyncookiesFailed":    func(n *NetLosses) *int64 { return &n.SYNCookiesFailed },
		"TCPTimeouts":         func(n *NetLosses) *int64 { return &n.TCPTimeouts },
		"TCPAbortOnMemory":    func(n *NetLosses) *int64 { return &n.TCPAbortsOnMemory },
		"TCPBacklogDrop":      func(n *NetLosses) *int64 { return &n.TCPBacklogDrops },
		"TCPTimeWaitOverflow": func(n *NetLosses) *int64 { return &n.TimeWaitOverflow },
		"IPReversePathFilter": func(n *NetLosses) *int64 { return &n.ReversePathDrops },
	},
	"Tcp": {
		"RetransSegs":  func(n *NetLosses) *int64 { return &n.TCPRetransmits },
		"OutRsts":      func(n *NetLosses) *int64 { return &n.TCPResetsSent },
		"InErrs":       func(n *NetLosses) *int64 { return &n.TCPErrors },
		"AttemptFails": func(n *NetLosses) *int64 { return &n.TCPAttemptFails },
	},
	"Udp": {
		"NoPorts":      func(n *NetLosses) *int64 { return &n.UDPNoPorts },
		"InErrors":     func(n *NetLosses) *int64 { return &n.UDPErrors },
		"RcvbufErrors": func(n *NetLosses) *int64 { return &n.UDPReceiveBuffer },
		"SndbufErrors": func(n *NetLosses) *int64 { return &n.UDPSendBuffer },
	},
	"Icmp": {
		"InErrors":        func(n *NetLosses) *int64 { return &n.ICMPErrors },
		"OutErrors":       func(n *NetLosses) *int64 { return &n.ICMPErrors },
		"OutDestUnreachs": func(n *NetLosses) *int64 { return &n.ICMPUnreachSent },
		"InDestUnreachs":  func(n *NetLosses) *int64 { return &n.ICMPUnreachGot },
	},
	"Ip": {
		"InDiscards":   func(n *NetLosses) *int64 { return &n.IPInDiscards },
		"OutDiscards":  func(n *NetLosses) *int64 { return &n.IPOutDiscards },
		"OutNoRoutes":  func(n *NetLosses) *int64 { return &n.IPNoRoutes },
		"InHdrErrors":  func(n *NetLosses) *int64 { return &n.IPHeaderErrors },
		"InAddrErrors": func(n *NetLosses) *int64 { return &n.IPAddressErrors },
	},
}

// lossFields6 are the same of IPv6, by their names in /proc/net/snmp6.
var lossFields6 = func() map[string]func(*NetLosses) *int64 {
	fields := map[string]func(*NetLosses) *int64{}
	for _, prefix := range []string{"Udp", "Icmp", "Ip"} {
		for name, field := range lossFields[prefix] {
			fields[prefix+"6"+name] = field
		}
	}
	return fields
}()

// protocolReader reads the counters of the protocols. prometheus/procfs knows these files too, at five
// times the cost: it makes a number of its own of each of some 400 counters.
type protocolReader struct{ netstat, snmp, snmp6 procFile }

func newProtocolReader(proc string) *protocolReader {
	file := func(name string) procFile { return procFile{path: filepath.Join(proc, "net", name)} }
	return &protocolReader{netstat: file("netstat"), snmp: file("snmp"), snmp6: file("snmp6")}
}

// read adds the counters to n.
func (r *protocolReader) read(n *NetLosses, buffer []byte) error {
	for _, file := range []*procFile{&r.netstat, &r.snmp} {
		text, err := file.read(buffer)
		if err != nil {
			return err
		}
		if err := addCounters(n, text); err != nil {
			return fmt.Errorf("read %s: %w", file.path, err)
		}
	}
	text, err := r.snmp6.read(buffer)
	if errors.Is(err, unix.ENOENT) {
		return nil // IPv6 is off
	}
	if err != nil {
		return err
	}
	if err := addCounters6(n, text); err != nil {
		return fmt.Errorf("read %s: %w", r.snmp6.path, err)
	}
	return nil
}

func (r *protocolReader) close() error {
	return errors.Join(r.netstat.close(), r.snmp.close(), r.snmp6.close())
}

var errCounterFormat = errors.New("not a table of counters")

// addCounters reads pairs of lines, the first with the names and the second with the values, both behind
// the same prefix. Names that older kernels lack stay 0.
func addCounters(n *NetLosses, text []byte) error {
	for len(text) > 0 {
		var names, values []byte
		names, text, _ = bytes.Cut(text, []byte("\n"))
		values, text, _ = bytes.Cut(text, []byte("\n"))
		prefix, names, ok := bytes.Cut(names, []byte(":"))
		prefix2, values, ok2 := bytes.Cut(values, []byte(":"))
		if !ok || !ok2 || !bytes.Equal(prefix, prefix2) {
			return fmt.Errorf("%w: %.40q above %.40q", errCounterFormat, prefix, prefix2)
		}
		wanted := lossFields[string(prefix)]
		if wanted == nil {
			continue
		}
		for {
			var name, value []byte
			name, names = nextWord(names)
			value, values = nextWord(values)
			if len(name) == 0 && len(value) == 0 {
				break
			}
			if len(name) == 0 || len(value) == 0 {
				return fmt.Errorf("%w: not as many values as names of %q", errCounterFormat, prefix)
			}
			field, ok := wanted[string(name)]
			if !ok {
				continue
			}
			if err := addValue(field(n), value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// addCounters6 reads lines of a name and a value.
func addCounters6(n *NetLosses, text []byte) error {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		name, rest := nextWord(line)
		value, _ := nextWord(rest)
		field, ok := lossFields6[string(name)]
		if !ok {
			continue
		}
		if err := addValue(field(n), value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func addValue(field *int64, text []byte) error {
	value, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %w", errCounterFormat, err)
	}
	*field += value
	return nil
}

// nextWord cuts the first word from a line, empty at its end.
func nextWord(line []byte) (word, rest []byte) {
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		return line[:i], line[i:]
	}
	return line, nil
}
