// Package generators makes load for a connection-tracking table, and the responders that it
// needs. It knows nothing of virtual machines: a [Spec] goes in, a [Result] comes out.
package generators

import (
	"context"
	"time"
)

// Kind names what a generator makes.
type Kind string

// The kinds of load.
const (
	HTTP      Kind = "http"
	TCP       Kind = "tcp"
	Hold      Kind = "hold"
	UDP       Kind = "udp"
	SYN       Kind = "syn"
	Handshake Kind = "handshake"
	ICMP      Kind = "icmp"
	Probe     Kind = "probe"
)

// Spec is one generator's whole assignment; it travels to a node as JSON.
type Spec struct {
	Kind        Kind          `json:"kind"`
	Target      string        `json:"target"`          // address of the responder
	Ports       []uint16      `json:"ports"`           // destination ports, used in turn
	Count       int64         `json:"count,omitempty"` // requests, connections or flows; 0: until Duration
	Concurrency int           `json:"concurrency,omitempty"`
	Rate        float64       `json:"rate,omitempty"` // per second; 0: closed loop
	Duration    time.Duration `json:"duration,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"` // for each request or connection
}

// Progress is what a running generator has done so far.
type Progress struct {
	Offered   int64 `json:"offered"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

// Result is what a generator did.
type Result struct {
	Offered   int64            `json:"offered"`
	Completed int64            `json:"completed"`
	Failed    int64            `json:"failed"`
	Causes    map[string]int64 `json:"causes,omitempty"`
	Started   time.Time        `json:"started"`
	Elapsed   time.Duration    `json:"elapsed"`
}

// Run makes the load and returns when it has ended; progress is called a few times a second.
// When ctx ends first, the result holds what was done until then beside ctx's error.
func Run(ctx context.Context, spec Spec, progress func(Progress)) (Result, error) {
	panic("being written")
}
