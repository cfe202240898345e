package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/actions"
)

// Server is a responder as faults see it.
type Server interface {
	Name() string    // for a reader
	Ports() []uint16 // on which it listens
	State() ServerState
	// Be changes its state, unless it has that state.
	Be(ServerState) error
}

// ServerState is the state of a responder.
type ServerState string

// The states of a responder.
const (
	Serving ServerState = "serving"
	Stalled ServerState = "stalled" // its sockets are open, and it does not answer
	Stopped ServerState = "stopped" // its sockets are closed
)

// servers stops, stalls or restarts responders.
func (s *Set) servers(_ context.Context, f Fault) (*change, error) {
	chosen, err := s.choose(f.Ports)
	if err != nil {
		return nil, err
	}
	c := &change{}
	states := map[actions.Kind][]ServerState{actions.ServerStop: {Stopped}, actions.ServerStall: {Stalled}, actions.ServerRestart: {Stopped, Serving}}
	c.do = func(context.Context) error {
		for _, server := range chosen {
			for _, state := range states[f.Kind] {
				if err := server.Be(state); err != nil {
					return fmt.Errorf("%s: %w", server.Name(), err)
				}
			}
		}
		return nil
	}
	for _, server := range chosen {
		before := server.State()
		c.parts = append(c.parts, &part{
			subject: server.Name(),
			read: func(context.Context) (string, error) {
				sockets, err := listening(server.Ports())
				return fmt.Sprintf("%s: %s", server.State(), sockets), err
			},
			restore: func(context.Context) error { return server.Be(before) },
		})
	}
	return c, nil
}

// choose returns the responders with any of the ports, or all.
func (s *Set) choose(ports []uint16) ([]Server, error) {
	var all []Server
	if s.node.Servers != nil {
		all = s.node.Servers()
	}
	if len(all) == 0 {
		return nil, errors.New("the node has no responder")
	}
	if len(ports) == 0 {
		return all, nil
	}
	var chosen []Server
	var open []string
	for _, server := range all {
		for _, port := range server.Ports() {
			open = append(open, strconv.Itoa(int(port)))
		}
		if slices.ContainsFunc(ports, func(p uint16) bool { return slices.Contains(server.Ports(), p) }) {
			chosen = append(chosen, server)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no responder of the node listens on %v; open are %s", ports, strings.Join(open, ", "))
	}
	return chosen, nil
}

// listening describes the kernel's listening sockets on the ports, and how many connections wait in
// their queues to be accepted.
func listening(ports []uint16) (string, error) {
	sockets, waiting := 0, int64(0)
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6"} {
		tcp := strings.HasPrefix(file, "tcp")
		err := readSockets("/proc/self/net/"+file, tcp, func(port uint16, queue int64) {
			if slices.Contains(ports, port) {
				sockets++
				if tcp {
					waiting += queue
				}
			}
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d listening, %d waiting", sockets, waiting), nil
}

// readSockets reads a table of sockets as in /proc/net/tcp. Of tcp it reads only listening ones,
// which come first: the others of a busy server are too many.
func readSockets(path string, tcp bool, each func(port uint16, queue int64)) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without IPv6
	}
	if err != nil {
		return fmt.Errorf("list the sockets: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan() // the heading
	for lines.Scan() {
		//  0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 ...
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || tcp && fields[3] != "0A" {
			break
		}
		_, hexPort, _ := strings.Cut(fields[1], ":")
		_, hexQueue, _ := strings.Cut(fields[4], ":")
		port, errPort := strconv.ParseUint(hexPort, 16, 16)
		queue, errQueue := strconv.ParseInt(hexQueue, 16, 64)
		if err := errors.Join(errPort, errQueue); err != nil {
			return fmt.Errorf("list the sockets: %q: %w", lines.Text(), err)
		}
		each(uint16(port), queue)
	}
	return lines.Err()
}
