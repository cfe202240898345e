package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/generators/responders"
)

// responder is a responder of the node, which faults may stop and start again.
type responder struct {
	mu      sync.Mutex
	spec    responders.Spec
	running *responders.Responder // nil while stopped
	state   faults.ServerState
}

func newResponder(spec responders.Spec) (*responder, error) {
	r := &responder{spec: spec, state: faults.Stopped}
	if err := r.Be(faults.Serving); err != nil {
		return nil, err
	}
	r.spec.Ports = slices.Clone(r.running.Ports()) // keep the ports that the kernel chose
	return r, nil
}

// Name implements faults.Server.
func (r *responder) Name() string {
	ports := strings.ReplaceAll(strings.Trim(fmt.Sprint(r.spec.Ports), "[]"), " ", ",")
	if len(r.spec.Ports) > 4 {
		ports = fmt.Sprintf("%d,... (%d ports)", r.spec.Ports[0], len(r.spec.Ports))
	}
	network := r.spec.Network
	if network == "" {
		network = responders.TCP
	}
	return fmt.Sprintf("%s responder %s/%s", r.spec.Kind, network, ports)
}

// Ports implements faults.Server.
func (r *responder) Ports() []uint16 { return r.spec.Ports }

// State implements faults.Server.
func (r *responder) State() faults.ServerState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Be implements faults.Server.
func (r *responder) Be(state faults.ServerState) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if state == r.state {
		return nil
	}
	var err error
	switch state {
	case faults.Stopped:
		err = r.stop()
	case faults.Serving, faults.Stalled:
		if err = r.start(); err != nil {
			break
		}
		if state == faults.Stalled {
			r.running.Stall()
		} else {
			r.running.Resume()
		}
	default:
		err = errors.New("there is no such state")
	}
	if err != nil {
		return fmt.Errorf("bring it from %s to %s: %w", r.state, state, err)
	}
	r.state = state
	return nil
}

func (r *responder) start() error {
	if r.running != nil {
		return nil
	}
	// The responder lives as long as the node, not as long as a call.
	running, err := responders.Listen(context.Background(), r.spec)
	if err != nil {
		return err
	}
	r.running = running
	return nil
}

func (r *responder) stop() error {
	if r.running == nil {
		return nil
	}
	running := r.running
	r.running = nil
	return running.Close()
}

// Close ends the responder for good.
func (r *responder) Close() error { return r.Be(faults.Stopped) }
