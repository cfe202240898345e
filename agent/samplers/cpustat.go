package samplers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/results"
)

// The sources of counters.
const (
	sourceNetlink = "netlink"
	sourceProcfs  = "procfs"
)

var (
	errNotLoaded = errors.New("connection tracking is not loaded")
	errNoSource  = errors.New("this kernel has no /proc/net/stat/nf_conntrack, and nf_conntrack_netlink is not loaded")
)

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
	proc, sys string
	passive   bool // ask ctnetlink only if that loads no module
	stat      procFile
	buffer    []byte
	netlink   *netlinkStats
	source    string // of the latest reading
	failure   error  // the latest of ctnetlink
	pauseTo   time.Duration
}

func newCounterReader(options Options) *counterReader {
	return &counterReader{
		proc: options.Proc, sys: options.Sys, passive: options.Passive,
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
		return nil, errors.Join(errNotLoaded, c.closeNetlink())
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

// ask asks ctnetlink, if permitted.
func (c *counterReader) ask() (*reading, error) {
	if c.netlink == nil {
		if now := Monotonic(); now < c.pauseTo {
			return nil, c.failure
		}
		if !c.mayAsk() {
			return nil, errNoSource
		}
		conn, err := dialStats()
		if err != nil {
			return nil, err
		}
		c.netlink = conn
	}
	r, err := c.netlink.ask(statsMessageType)
	if err != nil {
		c.pauseTo, c.failure = Monotonic()+netlinkPause, err
		return nil, errors.Join(err, c.closeNetlink())
	}
	return r, nil
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
	if c.netlink == nil {
		return -1
	}
	n, err := c.netlink.expectations()
	if err != nil {
		return -1
	}
	return n
}

// present reports whether the kernel has connection tracking, where its parameters are hidden.
func (c *counterReader) present() bool { return exists(c.sys, "module/nf_conntrack") }

// mayAsk reports whether counterReader may ask ctnetlink when nf_conntrack exists: the options
// permit loading its module, or it is loaded, or connection tracking is built in. (ctnetlink may
// still be a module then; that changes nothing that the trial measures.)
func (c *counterReader) mayAsk() bool {
	if !c.passive || exists(c.sys, "module/nf_conntrack_netlink") {
		return true
	}
	modules, err := os.ReadFile(filepath.Join(c.proc, "modules"))
	if errors.Is(err, fs.ErrNotExist) {
		return true // a kernel without modules
	}
	return err == nil && !strings.HasPrefix(string(modules), "nf_conntrack ") && !strings.Contains(string(modules), "\nnf_conntrack ")
}

func (c *counterReader) close() error { return errors.Join(c.closeNetlink(), c.stat.close()) }

func (c *counterReader) closeNetlink() error {
	if c.netlink == nil {
		return nil
	}
	err := c.netlink.close()
	c.netlink = nil
	return err
}

func exists(elements ...string) bool {
	_, err := os.Stat(filepath.Join(elements...))
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
var conntrackCounters = map[int]results.Counter[results.Counters]{
	statDrop: results.Named("drop"), statEarlyDrop: results.Named("early_drop"), statInsertFailed: results.Named("insert_failed"),
	statChainTooLong: results.Named("chain_toolong"), statClashResolve: results.Named("clash_resolve"),
	statInvalid: results.Named("invalid"), statFound: results.Named("found"),
	statSearchRestart: results.Named("search_restart"), statError: results.Named("error"),
}

// cpuStat holds one CPU's counters; the kernel's are 32 bits wide and wrap.
type cpuStat struct {
	cpu    int
	values [statCount]uint32
}

// reading holds the counters of all possible CPUs at one instant.
type reading struct {
	cpus []cpuStat
	have [statCount]bool // which counters this kernel has
}

// accumulator turns readings into sums since a baseline that do not wrap.
type accumulator struct {
	last   map[int][statCount]uint32
	sum    [statCount]int64
	have   [statCount]bool
	resets int64 // falls of a counter without a wrap: the module was reloaded
}

// baseline makes this reading zero. After a nil reading (connection tracking not loaded) the first
// later one counts in full, since the kernel starts at zero.
func (a *accumulator) baseline(r *reading) {
	*a = accumulator{last: map[int][statCount]uint32{}}
	if r == nil {
		return
	}
	a.have = r.have
	for _, c := range r.cpus {
		a.last[c.cpu] = c.values
	}
}

// add accounts for a reading. Between two readings a counter may wrap once: at ten readings a
// second that takes 20 thousand million events a second on one CPU.
func (a *accumulator) add(r *reading) {
	a.have = r.have
	for _, c := range r.cpus {
		last := a.last[c.cpu] // all zero for a new CPU
		for i, value := range c.values {
			step := value - last[i] // modulo 2^32
			if step > 1<<31 {
				// The counter fell. No kernel counts 2^31 events between two readings: it restarted
				// at zero.
				step = value
				a.resets++
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

// absent returns the names of the counters that this kernel does not keep, so that readers do not
// take their zeros for measurements.
func (a *accumulator) absent() []string {
	var names []string
	for i := range a.have {
		if counter, ok := conntrackCounters[i]; ok && !a.have[i] {
			names = append(names, counter.Name)
		}
	}
	return names
}

// From include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const (
	ipctnlMsgCTGetStatsCPU  = 4
	ipctnlMsgExpGetStatsCPU = 3
	nfgenmsgLength          = 4
	netlinkTimeout          = 5 * time.Second // the kernel answers at once; covers a stopped node
	statsMessageType        = netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | ipctnlMsgCTGetStatsCPU)
	expStatsMessageType     = netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK_EXP<<8 | ipctnlMsgExpGetStatsCPU)
)

// netlinkStats asks ctnetlink for the per-CPU counters (Linux 3.6, CAP_NET_ADMIN in the user
// namespace that owns the network namespace). The first question loads nf_conntrack_netlink, and
// with it nf_conntrack, if they are modules and absent: see counterReader.
type netlinkStats struct{ conn *netlink.Conn }

func dialStats() (*netlinkStats, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	return &netlinkStats{conn: conn}, nil
}

// Of enum ctattr_expect_stats.
const (
	statExpectCreate = 2
	statExpectDelete = 3
)

// expectations returns the present number of expectations.
func (s *netlinkStats) expectations() (int64, error) {
	r, err := s.ask(expStatsMessageType)
	if err != nil {
		return 0, err
	}
	var n uint32
	for _, c := range r.cpus {
		n += c.values[statExpectCreate] - c.values[statExpectDelete]
	}
	return int64(int32(n)), nil
}

// ask gets one message of counters for each possible CPU.
func (s *netlinkStats) ask(kind netlink.HeaderType) (*reading, error) {
	if err := s.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return nil, fmt.Errorf("set a time limit for the netfilter socket: %w", err)
	}
	replies, err := s.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return nil, fmt.Errorf("ask ctnetlink for its counters: %w", err)
	}
	r := &reading{cpus: make([]cpuStat, 0, len(replies))}
	for _, reply := range replies {
		if err := r.parseMessage(reply.Data); err != nil {
			return nil, fmt.Errorf("read the counters of ctnetlink: %w", err)
		}
	}
	return r, nil
}

func (s *netlinkStats) close() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close the netfilter socket: %w", err)
	}
	return nil
}

// parseMessage adds one CPU: a struct nfgenmsg whose res_id is the CPU, then attributes of 32 bits,
// big endian, by number. It skips unknown attributes: newer kernels may send more.
func (r *reading) parseMessage(data []byte) error {
	if len(data) < nfgenmsgLength {
		return fmt.Errorf("%w: message of %d bytes", ctnetlink.ErrFormat, len(data))
	}
	c := cpuStat{cpu: int(binary.BigEndian.Uint16(data[2:]))}
	err := ctnetlink.Attributes(data[nfgenmsgLength:], func(kind int, value []byte) error {
		if kind < statCount && len(value) == 4 {
			c.values[kind] = binary.BigEndian.Uint32(value)
			r.have[kind] = true
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
	"found": statFound, "invalid": statInvalid, "insert": statInsert, "insert_failed": statInsertFailed,
	"drop": statDrop, "early_drop": statEarlyDrop, "icmp_error": statError, "search_restart": statSearchRestart,
	"clashres": statClashResolve, "chainlength": statChainTooLong,
}

var errStatFormat = errors.New("not the format of /proc/net/stat/nf_conntrack")

// procStat holds the contents of /proc/net/stat/nf_conntrack.
type procStat struct {
	reading
	entries int64 // the count of the namespace: the same number in each row
	// Expectations made by helpers since the module was loaded, over all CPUs; 32 bits each in the
	// kernel.
	expectNew, expectCreate, expectDelete uint32
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
	for _, name := range header {
		if i, ok := procColumns[name]; ok {
			p.have[i] = true
		}
	}
	for cpu, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) != len(header) {
			return nil, fmt.Errorf("%w: %d columns under a header of %d", errStatFormat, len(fields), len(header))
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
			case "expect_new":
				p.expectNew += uint32(n)
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
