package agent

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// A node may stop without the end of its stream: its process is stopped, its machine hangs, its
// host is gone. So the client asks every node for a sign of life, and ends the stream of one that
// gives none, which ends every call.
const (
	beatInterval = time.Second
	// silentBeats limits the beats without a byte from the node: then its stream ends. Samples that
	// come that late are worth nothing: the trial would be INVALID all the same.
	silentBeats = 7
)

// silentError is the cause of the end of a stream whose node stopped answering.
type silentError struct {
	Node     string
	For      time.Duration
	LastWord string // the last call that it answered
}

func (e *silentError) Error() string {
	return fmt.Sprintf("%s has been silent for %v; its last word was an answer to %s",
		e.Node, e.For, e.LastWord)
}

// pulse tracks the signs of life that a client gets from its node.
type pulse struct {
	interval time.Duration
	lastWord atomic.Value // string: the last call that it answered
	begun    atomic.Bool
	// hushed counts the reasons for which the node may be silent: it is paused.
	hushed atomic.Int32
}

// heard notes that the node has answered a call. The first answer starts the heartbeat: before it,
// the node may still boot.
func (c *Client) heard(method string) {
	c.pulse.lastWord.Store(method)
	if !c.pulse.begun.Swap(true) {
		go c.beat()
	}
}

// Hush lets the node be silent, since it is about to be paused, until Unhush.
func (c *Client) Hush() { c.pulse.hushed.Add(1) }

// Unhush ends a Hush.
func (c *Client) Unhush() { c.pulse.hushed.Add(-1) }

// beat asks for a sign of life at every interval, until the stream ends. It counts beats and no
// time: while this host stands still, no beat passes.
func (c *Client) beat() {
	interval := c.pulse.interval
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var asking atomic.Bool
	silent, bytes := 0, c.conn.received.Load()
	for {
		select {
		case <-c.conn.life.Done():
			return
		case <-ticker.C:
		}
		if now := c.conn.received.Load(); now != bytes || c.pulse.hushed.Load() > 0 {
			silent, bytes = 0, now
		} else if silent++; silent >= silentBeats {
			last, _ := c.pulse.lastWord.Load().(string)
			c.conn.end(&silentError{c.node, time.Duration(silent) * interval, last})
			return
		}
		if !asking.Swap(true) {
			go func() {
				defer asking.Store(false)
				var clock Clock
				_ = c.grpc.Invoke(c.conn.life, "/"+serviceName+"/Clock", &nothing{}, &clock)
			}()
		}
	}
}

// callLimit bounds calls to a live node that return one answer: the slowest is a walk over a full
// table in an emulated guest.
const callLimit = 2 * time.Minute

// longLimits bound the calls that load and read all rules, of which a host may have megabytes.
var longLimits = map[string]time.Duration{
	"Configure": 10 * time.Minute, "ReadBack": 10 * time.Minute,
}

// within bounds a call.
func (c *Client) within(ctx context.Context, method string) (context.Context, func()) {
	limit := cmp.Or(longLimits[method], callLimit)
	late := fmt.Errorf("%s gave no answer to %s within %v", c.node, method, limit)
	return context.WithTimeoutCause(ctx, limit, late)
}
