package samplers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// walkProc lists the table through /proc/net/nf_conntrack, line by line.
func walkProc(ctx context.Context, path string, each func(entry)) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 4<<10), 64<<10)
	for n := 0; lines.Scan(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		e, err := parseTableLine(lines.Text())
		if err != nil {
			return err
		}
		each(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

var errTableLine = errors.New("not a line of /proc/net/nf_conntrack")

// parseTableLine reads one line, as
//
//	ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=...
//	[ASSURED] mark=0 zone=0 use=2
//
// The timeout is missing from entries that a flow table has taken over, the state from protocols
// without states.
func parseTableLine(line string) (entry, error) {
	e := entry{state: noState, replied: true}
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return e, fmt.Errorf("%w: %.80q", errTableLine, line)
	}
	number, err := strconv.ParseUint(fields[3], 10, 8)
	if err != nil {
		return e, fmt.Errorf("%w: protocol number: %w", errTableLine, err)
	}
	e.protocol = uint8(number)
	for _, field := range fields[4:] {
		switch name, value, pair := strings.Cut(field, "="); {
		case field == "[UNREPLIED]":
			e.replied = false
		case field == "[ASSURED]":
			e.assured = true
		case pair && name == "src" && !e.source.IsValid(): // the original direction's comes first
			if e.source, err = netip.ParseAddr(value); err != nil {
				return e, fmt.Errorf("%w: %w", errTableLine, err)
			}
		case !pair && !e.source.IsValid():
			if i := slices.Index(statesOf(e.protocol), field); i >= 0 {
				e.state = uint8(i)
			}
		}
	}
	if !e.source.IsValid() {
		return e, fmt.Errorf("%w: no source in %.80q", errTableLine, line)
	}
	return e, nil
}
