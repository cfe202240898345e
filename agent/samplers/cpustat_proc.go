package samplers

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// procColumns maps the columns of /proc/net/stat/nf_conntrack by the names in its header, which do
// not always match the contents: clashres replaced searched, and chainlength, which replaced
// delete_list, counts inserts refused because the chain was too long.
var procColumns = map[string]int{
	"searched": statSearched, "found": statFound, "new": statNew, "invalid": statInvalid, "ignore": statIgnore,
	"delete": statDelete, "delete_list": statDeleteList, "insert": statInsert, "insert_failed": statInsertFailed,
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
