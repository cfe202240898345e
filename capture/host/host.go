// Package host takes a capture of the host that it runs on. It only reads: it loads no module, sets
// nothing, listens to no events, never walks /proc/net/nf_conntrack, and runs no tool that would
// load a table.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/capture/saved"
	"github.com/ctload/ctload/internal/kernels"
)

// Options say what to read, and for how long.
type Options struct {
	// Watch is the time during which the number of entries is read, once a second; the counters
	// are read at both ends. 0: once.
	Watch time.Duration
	// Entries is the number of entries that each of two listings takes; 0: no listing.
	Entries int
	// WithoutRoot reads only what every user may read: no entries, no rules, no kernel log.
	WithoutRoot bool
	// Proc and Sys are the mount points of procfs and sysfs, by default /proc and /sys.
	Proc, Sys string
	// Progress is called once a second with the time that is left.
	Progress func(left time.Duration)
}

// DefaultEntries is the usual number of entries of each listing.
const DefaultEntries = 20_000

// Take captures this host. It needs CAP_NET_ADMIN for the entries and the counters, CAP_SYSLOG for
// the kernel's log; what it may not read is a problem of the capture and no error.
func Take(ctx context.Context, o Options) (*capture.Capture, error) {
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Sys == "" {
		o.Sys = "/sys"
	}
	t := &taker{Options: o}
	begun := time.Now()
	t.file("uname", "$ uname -r\n"+kernels.Running()+"\n")
	t.settings()
	modules := t.modules()
	if !t.tracks() {
		c := &capture.Capture{Schema: capture.SchemaVersion,
			Taken:  begun.UTC().Truncate(time.Second),
			Kernel: kernels.Running(), Untracked: true, Modules: modules}
		t.machine(c)
		return c, nil
	}
	t.counters()
	t.log()
	before := t.network()
	sockets := []capture.Sockets{t.sockets()}
	sets := t.rules()
	first, err := t.entries(ctx, t.Entries)
	if err != nil {
		return nil, err
	}
	listed := time.Now()
	counts, err := t.watch(ctx, begun)
	if err != nil {
		return nil, err
	}
	between := time.Since(listed)
	if len(first.list) > 0 {
		if err := t.again(ctx, first); err != nil {
			return nil, err
		}
	}
	apart := time.Since(begun)
	t.counters()
	after := t.network()
	sockets = append(sockets, t.sockets())
	c, _, err := saved.Read(t.files...)
	if err != nil {
		return nil, err
	}
	c.Taken = begun.UTC().Truncate(time.Second)
	c.Counts, c.Modules, c.Parameters = counts, modules, t.parameters()
	c.NetworkBefore, c.Network, c.Sockets, c.Rules.Sets = before, after, sockets, sets
	if n := len(c.Counters); n > 1 {
		c.Counters[n-1].Seconds = apart.Seconds()
	}
	c.Table.Entries, c.Table.Scope = first.list, first.scope
	c.Table.Whole = first.whole()
	if len(first.list) > 0 {
		c.Table.Between = between.Seconds()
	}
	c.Rules.Read = !t.WithoutRoot
	t.machine(c)
	c.Problems = t.problems
	return c, nil
}

// taker gathers texts of the host, in the formats that people save.
type taker struct {
	Options
	files    []saved.File
	problems []string
}

func (t *taker) file(name, text string) {
	t.files = append(t.files, saved.File{Name: name, Text: []byte(text)})
}

// problem notes what could not be read. A part that does not exist is none.
func (t *taker) problem(what string, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.problems = append(t.problems, fmt.Sprintf("%s: %v", what, err))
	}
}

// machine adds the size and the addresses of the host.
func (t *taker) machine(c *capture.Capture) {
	c.CPUs = runtime.NumCPU()
	list, err := net.InterfaceAddrs()
	t.problem("the host's addresses", err)
	for _, own := range list {
		if prefix, err := netip.ParsePrefix(own.String()); err == nil &&
			!prefix.Addr().IsLoopback() {
			c.Own = append(c.Own, prefix.Addr().Unmap())
		}
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		c.MemoryBytes = int64(info.Totalram) * int64(info.Unit)
	}
}

// settings reads the parameters of connection tracking and of neighbours.
func (t *taker) settings() {
	var b strings.Builder
	for _, folder := range []string{"net/netfilter", "net/ipv4/neigh/default",
		"net/ipv6/neigh/default"} {
		list, err := os.ReadDir(filepath.Join(t.Proc, "sys", folder))
		t.problem(folder, err)
		for _, f := range list {
			name := f.Name()
			if folder != "net/netfilter" && !strings.HasPrefix(name, "gc_thresh") || f.IsDir() {
				continue
			}
			text, err := os.ReadFile(filepath.Join(t.Proc, "sys", folder, name))
			if err != nil {
				continue // some are for writing alone
			}
			key := strings.ReplaceAll(folder, "/", ".") + "." + name
			fmt.Fprintf(&b, "%s = %s\n", key, strings.TrimSpace(string(text)))
		}
	}
	hash := filepath.Join(t.Sys, "module", kernels.Module, "parameters/hashsize")
	if text, err := os.ReadFile(hash); err == nil {
		fmt.Fprintf(&b, "%s = %s\n", kernels.KeyBuckets, strings.TrimSpace(string(text)))
	}
	t.file("sysctls", b.String())
}

// tracks reports whether the host has a table at all.
func (t *taker) tracks() bool {
	_, err := os.Stat(filepath.Join(t.Proc, "sys/net/netfilter/nf_conntrack_count"))
	return err == nil
}

// modules returns the loaded modules of netfilter.
func (t *taker) modules() (list []string) {
	text, err := os.ReadFile(filepath.Join(t.Proc, "modules"))
	t.problem("modules", err)
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, " ")
		for _, part := range []string{"nf_", "nft_", "xt_", "ip_tables", "ip6_tables", "iptable_",
			"ip6table_", "ip_set", "ip_vs", "ipt_", "ip6t_", "br_netfilter"} {
			if strings.HasPrefix(name, part) {
				list = append(list, name)
				break
			}
		}
	}
	slices.Sort(list)
	return list
}

// parameters reads the parameters of the module.
func (t *taker) parameters() map[string]string {
	folder := filepath.Join(t.Sys, "module", kernels.Module, "parameters")
	list, err := os.ReadDir(folder)
	t.problem("parameters of "+kernels.Module, err)
	values := map[string]string{}
	for _, f := range list {
		if text, err := os.ReadFile(filepath.Join(folder, f.Name())); err == nil {
			values[f.Name()] = strings.TrimSpace(string(text))
		}
	}
	return values
}

// counters reads the kernel's counters of each CPU.
func (t *taker) counters() {
	text, err := os.ReadFile(filepath.Join(t.Proc, "net/stat/nf_conntrack"))
	if t.WithoutRoot && errors.Is(err, fs.ErrPermission) {
		return
	}
	t.problem("counters", err)
	t.file("counters", string(text))
}

// log reads the kernel's log.
func (t *taker) log() {
	if t.WithoutRoot {
		return
	}
	const readAll, size = 3, 10 // SYSLOG_ACTION_READ_ALL, SYSLOG_ACTION_SIZE_BUFFER
	n, err := unix.Klogctl(size, nil)
	if err == nil {
		buffer := make([]byte, n)
		if n, err = unix.Klogctl(readAll, buffer); err == nil {
			var b strings.Builder
			b.WriteString("$ dmesg\n")
			for line := range strings.Lines(string(buffer[:n])) {
				if _, rest, ok := strings.Cut(line, ">"); ok && strings.HasPrefix(line, "<") {
					line = rest
				}
				if logTells(line) {
					b.WriteString(line)
				}
			}
			t.file("log", b.String())
			return
		}
	}
	t.problem("the kernel's log", err)
}

// logTells reports whether a line of the log is about a table that is full.
func logTells(line string) bool {
	return strings.Contains(line, "conntrack") || strings.Contains(line, "suppressed") ||
		strings.Contains(line, "neighbor table overflow") || strings.Contains(line, "nf_ct_")
}

// count reads the number of entries.
func (t *taker) count() (n int64, err error) {
	text, err := os.ReadFile(filepath.Join(t.Proc, "sys/net/netfilter/nf_conntrack_count"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &n)
	}
	if err != nil {
		return 0, fmt.Errorf("read the number of entries: %w", err)
	}
	return n, nil
}

// watch reads the number of entries once a second.
func (t *taker) watch(ctx context.Context, begun time.Time) (list []capture.Count, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		n, err := t.count()
		if err != nil {
			return list, err
		}
		at := time.Since(begun)
		seconds := at.Round(time.Millisecond).Seconds()
		list = append(list, capture.Count{Seconds: seconds, Entries: n})
		if at >= t.Watch {
			return list, nil
		}
		if t.Progress != nil {
			t.Progress(t.Watch - at)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return list, context.Cause(ctx)
		}
	}
}
