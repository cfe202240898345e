package saved

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/ctload/ctload/capture"
)

// bareNumber takes a line with a number alone, of cat, conntrack -C or wc.
func (r *reader) bareNumber(s string) bool {
	fields := strings.Fields(s)
	if !isNumber(fields[0]) || len(fields) > 2 {
		return false
	}
	n := number(fields[0])
	switch {
	case r.command.has("wc") || r.command.names("grep -c"):
		r.flush()
		if r.command.listsTable() && r.command.scope() == capture.Whole ||
			len(fields) == 2 && strings.HasSuffix(fields[1], "_conntrack") {
			r.lines = max(r.lines, n) // a write-up shows the table before and after its cure
			r.saw("the number of entries")
		}
		if r.command.names("table full") || r.command.program(0) == "dmesg" {
			r.c.Log.Read = true
			if r.command.names("table full") {
				r.c.Log.TableFull = max(r.c.Log.TableFull, n)
			}
			r.saw("lines of the kernel's log")
		}
		return true
	case len(r.numbers) > 0 && len(fields) == 1:
		r.flush()
		r.set(r.numbers[0], s)
		r.numbers = r.numbers[1:]
		r.saw("sizes")
		return true
	}
	return false
}

// counted takes a line of sort | uniq -c.
func (r *reader) counted(s string) bool {
	if !r.command.has("uniq") {
		return false
	}
	fields := strings.Fields(s)
	if len(fields) != 2 || !isNumber(fields[0]) {
		return false
	}
	r.flush()
	n, what := number(fields[0]), fields[1]
	address, isSource := strings.CutPrefix(what, "src=")
	switch {
	case isSource && !r.command.names("$4"):
		a, err := netip.ParseAddr(address)
		if err != nil {
			return false
		}
		if !r.command.names("--dport") && !r.command.names("-p ") {
			r.c.Table.Holders = append(r.c.Table.Holders, capture.Holder{Address: a, Entries: n})
		}
		r.saw("sources, as counted on the host")
	case isSource: // the fourth word of an entry without a state
		r.c.Table.Stateless += n
		r.saw("states, as counted on the host")
	case r.command.names("neigh"):
		if r.c.Neighbours == nil {
			r.c.Neighbours = map[string]int64{}
		}
		r.c.Neighbours[what] += n
		r.saw("neighbours")
	case strings.ToUpper(what) == what:
		if r.c.Table.States == nil {
			r.c.Table.States = map[string]int64{}
		}
		r.c.Table.States[what] += n
		r.saw("states, as counted on the host")
	default:
		return false
	}
	return true
}

var nstatLine = regexp.MustCompile(`^([A-Z][A-Za-z0-9]+)\s+(\d+)\s+[\d.]+$`)

// network takes a line of nstat.
func (r *reader) network(s string) bool {
	m := nstatLine.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	if r.c.Network == nil {
		r.c.Network = map[string]int64{}
	}
	r.c.Network[m[1]] = number(m[2])
	r.saw("counters of the network stack")
	return true
}

var socketsOfTCP = regexp.MustCompile(`^TCP: +(\d+) \(.*\bclosed (\d+), orphaned (\d+),` +
	`.*\btimewait (\d+)`)

// sockets takes the lines of ss -s that a capture holds: that of TCP, and the total of UDP.
func (r *reader) sockets(s string) bool {
	if m := socketsOfTCP.FindStringSubmatch(s); m != nil {
		r.flush()
		// What ss calls closed has the sockets in TIME_WAIT.
		r.c.Sockets = append(r.c.Sockets, capture.Sockets{
			TCP: max(0, number(m[1])-number(m[2])), Orphaned: number(m[3]), TimeWait: number(m[4]),
		})
		r.saw("sockets")
		return true
	}
	f := strings.Fields(s)
	if n := len(r.c.Sockets); n > 0 && len(f) == 4 && f[0] == "UDP" && isNumber(f[1]) {
		r.c.Sockets[n-1].UDP = number(f[1])
		return true
	}
	return false
}

// slab is the line of the entries in /proc/slabinfo; a name has the namespace in some kernels.
var slab = regexp.MustCompile(`^[in][pf]_conntrack(?:_[0-9a-f]+)? +(\d+) +\d+ +\d+ +\d+ +\d+ :`)

// slabs takes the line of /proc/slabinfo with the number of entries, which people without
// conntrack(8) look at.
func (r *reader) slabs(s string) bool {
	m := slab.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	r.flush()
	r.setCount(number(m[1]))
	r.saw("the number of entries")
	return true
}

var kernelRelease = regexp.MustCompile(`^[2-9]\.\d+\.\d+\S*$`)

// release takes the output of uname -r.
func (r *reader) release(s string) bool {
	if r.command.program(0) != "uname" {
		return false
	}
	for _, f := range strings.Fields(s) {
		if kernelRelease.MatchString(f) {
			r.c.Kernel = f
			r.saw("the kernel's release")
			return true
		}
	}
	return false
}

func isNumber(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

// number returns the value of a decimal number; 0 for another text.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
