package samplers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
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
		if now := monotonic(); now < c.pauseTo {
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
	r, err := c.netlink.read()
	if err != nil {
		c.pauseTo, c.failure = monotonic()+netlinkPause, err
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
