package faults

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/actions"
)

// server is a responder of the node. The set's lock guards it.
type server struct {
	spec    responders.Spec
	running *responders.Responder // nil while stopped
	state   serverState
}

type serverState string

const (
	serving serverState = "serving"
	stalled serverState = "stalled" // its sockets are open, and it does not answer
	stopped serverState = "stopped" // its sockets are closed
)

// Respond starts a responder, which faults may stop and start again, and which ends with the set.
func (s *Set) Respond(spec responders.Spec) error {
	r := &server{spec: spec, state: stopped}
	if err := r.be(serving); err != nil {
		return err
	}
	r.spec.Ports = slices.Clone(r.running.Ports()) // keep the ports that the kernel chose
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responders = append(s.responders, r)
	return nil
}

// name describes the responder for a reader.
func (r *server) name() string {
	ports := strings.ReplaceAll(strings.Trim(fmt.Sprint(r.spec.Ports), "[]"), " ", ",")
	if len(r.spec.Ports) > 4 {
		ports = fmt.Sprintf("%d,... (%d ports)", r.spec.Ports[0], len(r.spec.Ports))
	}
	network := cmp.Or(r.spec.Network, responders.TCP)
	return fmt.Sprintf("%s responder %s/%s", r.spec.Kind, network, ports)
}

// be changes the state, unless the responder has that state.
func (r *server) be(state serverState) error {
	if state == r.state {
		return nil
	}
	var err error
	switch state {
	case stopped:
		if running := r.running; running != nil {
			r.running = nil
			err = running.Close()
		}
	case serving, stalled:
		if r.running == nil {
			// The responder lives as long as the node, not as long as a call.
			r.running, err = responders.Listen(context.Background(), r.spec)
		}
		switch {
		case err != nil:
		case state == stalled:
			r.running.Stall()
		default:
			r.running.Resume()
		}
	}
	if err != nil {
		return fmt.Errorf("bring it from %s to %s: %w", r.state, state, err)
	}
	r.state = state
	return nil
}

// servers stops, stalls or restarts responders.
func (s *Set) servers(_ context.Context, f Fault) (*change, error) {
	chosen, err := s.choose(f.Ports)
	if err != nil {
		return nil, err
	}
	c := &change{}
	states := map[actions.Kind][]serverState{
		actions.ServerStop: {stopped}, actions.ServerStall: {stalled},
		actions.ServerRestart: {stopped, serving},
	}
	c.do = func(context.Context) error {
		for _, server := range chosen {
			for _, state := range states[f.Kind] {
				if err := server.be(state); err != nil {
					return fmt.Errorf("%s: %w", server.name(), err)
				}
			}
		}
		return nil
	}
	for _, server := range chosen {
		before := server.state
		c.parts = append(c.parts, &part{
			subject: server.name(),
			read: func(context.Context) (string, error) {
				sockets, err := listening(server.spec.Ports)
				return fmt.Sprintf("%s: %s", server.state, sockets), err
			},
			restore: func(context.Context) error { return server.be(before) },
		})
	}
	return c, nil
}

// choose returns the responders with any of the ports, or all.
func (s *Set) choose(ports []uint16) ([]*server, error) {
	if len(s.responders) == 0 {
		return nil, errors.New("the node has no responder")
	}
	if len(ports) == 0 {
		return s.responders, nil
	}
	var chosen []*server
	var open []uint16
	for _, server := range s.responders {
		open = append(open, server.spec.Ports...)
		serves := func(port uint16) bool { return slices.Contains(server.spec.Ports, port) }
		if slices.ContainsFunc(ports, serves) {
			chosen = append(chosen, server)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no responder of the node listens on %v; open are %v", ports, open)
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
