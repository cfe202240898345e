package samplers

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/results"
)

// netCounter is the place of a counter.
type netCounter = results.Counter[results.NetCounters]

// The counters of these files in the table of results: of netstat and snmp by the kernel's prefix
// and name, of snmp6 by its one word for both.
var (
	netCounters  = map[string]map[string]netCounter{}
	netCounters6 = map[string]netCounter{}
)

func init() {
	for _, c := range results.NetworkCounters {
		prefix, name, ok := strings.Cut(c.Kernel, " ")
		if !ok {
			continue
		}
		if netCounters[prefix] == nil {
			netCounters[prefix] = map[string]netCounter{}
		}
		netCounters[prefix][name] = c
		netCounters6[prefix+"6"+name] = c
	}
}

// protocolReader reads the counters of the protocols. prometheus/procfs reads these files too, at
// five times the cost: it converts each of some 400 counters.
type protocolReader struct{ netstat, snmp, snmp6 procFile }

func newProtocolReader(proc string) *protocolReader {
	file := func(name string) procFile { return procFile{path: filepath.Join(proc, "net", name)} }
	return &protocolReader{netstat: file("netstat"), snmp: file("snmp"), snmp6: file("snmp6")}
}

// read adds the counters to n.
func (r *protocolReader) read(n *results.NetCounters, buffer []byte) error {
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

// addCounters reads pairs of lines, the first with the names and the second with the values, both
// after the same prefix. Names that older kernels lack stay 0.
func addCounters(n *results.NetCounters, text []byte) error {
	for len(text) > 0 {
		var names, values []byte
		names, text, _ = bytes.Cut(text, []byte("\n"))
		values, text, _ = bytes.Cut(text, []byte("\n"))
		prefix, names, ok := bytes.Cut(names, []byte(":"))
		prefix2, values, ok2 := bytes.Cut(values, []byte(":"))
		if !ok || !ok2 || !bytes.Equal(prefix, prefix2) {
			return fmt.Errorf("%w: %.40q above %.40q", errCounterFormat, prefix, prefix2)
		}
		wanted := netCounters[string(prefix)]
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
			counter, ok := wanted[string(name)]
			if !ok {
				continue
			}
			if err := addValue(counter.In(n), value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// addCounters6 reads lines of a name and a value.
func addCounters6(n *results.NetCounters, text []byte) error {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		name, rest := nextWord(line)
		value, _ := nextWord(rest)
		counter, ok := netCounters6[string(name)]
		if !ok {
			continue
		}
		if err := addValue(counter.In(n), value); err != nil {
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
