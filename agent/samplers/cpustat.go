package samplers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/results"
)

// The sources of counters.
const (
	sourceNetlink = "netlink"
	sourceProcfs  = "procfs"
)

var errNotLoaded = errors.New("connection tracking is not loaded")

// netlinkPause is the wait after a failure of ctnetlink: each question may make the kernel run
// modprobe.
const netlinkPause = 5 * time.Second

// counterReader reads the counters from the best available source: /proc/net/stat/nf_conntrack,
// which is the cheapest, needs no privilege and loads nothing, else ctnetlink. Debian's kernels
// have the file, Ubuntu's do not.
//
// A question to ctnetlink makes the kernel load nf_conntrack_netlink, and nf_conntrack beneath it.
// So counterReader asks none while nf_conntrack is absent, which may be the point of the scenario.
// Once the kernel has it, loading the other tracks nothing; from Linux 5.19 on entries do not
// change either, before that each has room for events with or without it.
type counterReader struct {
	sys     string
	stat    procFile
	buffer  []byte
	source  string // of the latest reading
	failure error  // the latest of ctnetlink
	pauseTo time.Duration
}

func newCounterReader(options Options) *counterReader {
	return &counterReader{
		sys:    options.Sys,
		stat:   procFile{path: filepath.Join(options.Proc, "net/stat/nf_conntrack")},
		buffer: make([]byte, 256<<10), // 160 bytes for each possible CPU
	}
}

// read reads the counters. loaded says whether the table's parameters exist. The error is
// errNotLoaded when the kernel has no connection tracking.
func (c *counterReader) read(loaded bool) (*reading, error) {
	stat, err := c.readStat()
	if err == nil {
		c.source = sourceProcfs
		return &stat.reading, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c.source = ""
	if !loaded && !c.present() {
		return nil, errNotLoaded
	}
	r, err := c.ask()
	if err != nil {
		return nil, fmt.Errorf("the counters of connection tracking cannot be read: %w", err)
	}
	c.source = sourceNetlink
	return r, nil
}

func (c *counterReader) readStat() (*procStat, error) {
	text, err := c.stat.read(c.buffer)
	if err != nil {
		return nil, err
	}
	return parseProcStat(string(text))
}

// ask asks ctnetlink, except for a while after a failure.
func (c *counterReader) ask() (*reading, error) {
	if Monotonic() < c.pauseTo {
		return nil, c.failure
	}
	r, err := askStats(statsMessage)
	if err != nil {
		c.pauseTo, c.failure = Monotonic()+netlinkPause, err
	}
	return r, err
}

// expectations returns the present number of expectations without a walk: those made less those
// removed, from the per-CPU counters; -1 when unknown.
func (c *counterReader) expectations(loaded bool) int64 {
	if stat, err := c.readStat(); err == nil {
		return int64(int32(stat.expectCreate - stat.expectDelete))
	}
	if !loaded && !c.present() {
		return 0
	}
	if c.source != sourceNetlink { // it does not answer
		return -1
	}
	r, err := askStats(expectStatsMessage)
	if err != nil {
		return -1
	}
	var n uint32
	for _, cpu := range r.cpus {
		n += cpu.values[statExpectCreate] - cpu.values[statExpectDelete]
	}
	return int64(int32(n))
}

// present reports whether the kernel has connection tracking, where its parameters are hidden.
func (c *counterReader) present() bool {
	_, err := os.Stat(filepath.Join(c.sys, "module/nf_conntrack"))
	return err == nil
}

// The per-CPU counters of connection tracking, numbered as in enum ctattr_stats_cpu of
// include/uapi/linux/netfilter/nfnetlink_conntrack.h; those left out are 0 in current kernels.
const (
	statFound         = 2
	statInvalid       = 4
	statInsert        = 8 // only entries made through netlink: not the rate of new connections
	statInsertFailed  = 9
	statDrop          = 10
	statEarlyDrop     = 11
	statError         = 12
	statSearchRestart = 13
	statClashResolve  = 14 // Linux 5.10
	statChainTooLong  = 15 // Linux 5.15
	statCount         = 16
)

// conntrackCounters maps the kernel's numbers to the fields of results.Counters.
var conntrackCounters = map[int]results.Counter[results.Counters]{}

func init() {
	for number, name := range map[int]string{
		statFound: "found", statInvalid: "invalid", statInsertFailed: "insert_failed",
		statDrop: "drop", statEarlyDrop: "early_drop", statError: "error",
		statSearchRestart: "search_restart", statClashResolve: "clash_resolve",
		statChainTooLong: "chain_toolong",
	} {
		conntrackCounters[number] = results.Named(name)
	}
}

// cpuStat holds one CPU's counters; the kernel's are 32 bits wide and wrap.
type cpuStat struct {
	cpu    int
	values [statCount]uint32
}

// reading holds the counters of all possible CPUs at one instant.
type reading struct{ cpus []cpuStat }

// accumulator turns readings into sums since a baseline that do not wrap.
type accumulator struct {
	last map[int][statCount]uint32
	sum  [statCount]int64
}

// baseline makes this reading zero. After a nil reading (connection tracking not loaded) the first
// later one counts in full, since the kernel starts at zero.
func (a *accumulator) baseline(r *reading) {
	*a = accumulator{last: map[int][statCount]uint32{}}
	if r == nil {
		return
	}
	for _, c := range r.cpus {
		a.last[c.cpu] = c.values
	}
}

// add accounts for a reading. Between two readings a counter may wrap once: at ten readings a
// second that takes 20 thousand million events a second on one CPU.
func (a *accumulator) add(r *reading) {
	for _, c := range r.cpus {
		last := a.last[c.cpu] // all zero for a new CPU
		for i, value := range c.values {
			step := value - last[i] // modulo 2^32
			if step > 1<<31 {
				// No kernel counts that much between two readings: the module was reloaded.
				step = value
			}
			a.sum[i] += int64(step)
		}
		a.last[c.cpu] = c.values
	}
}

// forget notes that the module has gone.
func (a *accumulator) forget() { clear(a.last) }

func (a *accumulator) counters() results.Counters {
	var all results.Counters
	for i, counter := range conntrackCounters {
		*counter.In(&all) = a.sum[i]
	}
	return all
}

// The questions and their answers, from include/uapi/linux/netfilter/nfnetlink.h and
// nfnetlink_conntrack.h.
const (
	statsMessage       = unix.NFNL_SUBSYS_CTNETLINK<<8 | 4     // IPCTNL_MSG_CT_GET_STATS_CPU
	expectStatsMessage = unix.NFNL_SUBSYS_CTNETLINK_EXP<<8 | 3 // IPCTNL_MSG_EXP_GET_STATS_CPU

	statExpectCreate = 2 // of enum ctattr_expect_stats
	statExpectDelete = 3
)

// askStats asks ctnetlink for the counters of each possible CPU (Linux 3.6, CAP_NET_ADMIN in the
// user namespace that owns the network namespace). The first question loads nf_conntrack_netlink,
// and with it nf_conntrack, if they are modules and absent: see counterReader.
func askStats(kind uint16) (*reading, error) {
	r := new(reading)
	err := ctnetlink.Dump(context.Background(), kind, unix.AF_UNSPEC, r.parseMessage)
	if err != nil {
		return nil, fmt.Errorf("ask ctnetlink for its counters: %w", err)
	}
	return r, nil
}

// parseMessage adds one CPU: a struct nfgenmsg whose res_id is the CPU, then attributes of 32 bits,
// big endian, by number. It skips unknown attributes: newer kernels may send more.
func (r *reading) parseMessage(data []byte) error {
	if len(data) < ctnetlink.HeaderLength {
		return fmt.Errorf("%w: message of %d bytes", ctnetlink.ErrFormat, len(data))
	}
	c := cpuStat{cpu: int(binary.BigEndian.Uint16(data[2:]))}
	err := ctnetlink.Attributes(data[ctnetlink.HeaderLength:], func(kind int, value []byte) error {
		if kind < statCount && len(value) == 4 {
			c.values[kind] = binary.BigEndian.Uint32(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.cpus = append(r.cpus, c)
	return nil
}

// procColumns maps the columns of /proc/net/stat/nf_conntrack by the names in its header, which do
// not always match the contents: clashres replaced searched, and chainlength, which replaced
// delete_list, counts inserts refused because the chain was too long.
var procColumns = map[string]int{
	"found": statFound, "invalid": statInvalid, "insert": statInsert, "icmp_error": statError,
	"insert_failed": statInsertFailed, "drop": statDrop, "early_drop": statEarlyDrop,
	"search_restart": statSearchRestart, "clashres": statClashResolve,
	"chainlength": statChainTooLong,
}

var errStatFormat = errors.New("not the format of /proc/net/stat/nf_conntrack")

// procStat holds the contents of /proc/net/stat/nf_conntrack.
type procStat struct {
	reading
	entries int64 // the count of the namespace: the same number in each row
	// Expectations by helpers since the module was loaded, over all CPUs.
	expectCreate, expectDelete uint32
}

// parseProcStat reads /proc/net/stat/nf_conntrack (CONFIG_NF_CONNTRACK_PROCFS; any user may read
// it): a header and one row for each possible CPU, in hexadecimal. It finds columns by their names,
// since older kernels have fewer.
func parseProcStat(text string) (*procStat, error) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	header := strings.Fields(lines[0])
	if len(header) == 0 || header[0] != "entries" {
		return nil, fmt.Errorf("%w: header %.60q", errStatFormat, lines[0])
	}
	p := &procStat{}
	for cpu, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) != len(header) {
			return nil, fmt.Errorf("%w: %d columns below %q", errStatFormat, len(fields), lines[0])
		}
		c := cpuStat{cpu: cpu}
		for i, field := range fields {
			n, err := strconv.ParseUint(field, 16, 32)
			if err != nil {
				return nil, fmt.Errorf("%w: column %s: %w", errStatFormat, header[i], err)
			}
			switch header[i] {
			case "entries":
				p.entries = int64(n)
			case "expect_create":
				p.expectCreate += uint32(n)
			case "expect_delete":
				p.expectDelete += uint32(n)
			default:
				if column, ok := procColumns[header[i]]; ok {
					c.values[column] = uint32(n)
				}
			}
		}
		p.cpus = append(p.cpus, c)
	}
	return p, nil
}
