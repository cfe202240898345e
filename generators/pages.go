package generators

import (
	"cmp"

	"github.com/ctload/ctload/generators/latency"
)

// Pages says what the answers to http requests were, as ab reports it.
type Pages struct {
	Server    string `json:"server,omitempty"`     // the Server header
	Length    int64  `json:"length,omitempty"`     // bytes of the first body that was not empty
	Received  int64  `json:"received,omitempty"`   // bytes of all bodies
	KeptAlive int64  `json:"kept_alive,omitempty"` // answers that let the connection stay open

	// Waiting is from the connection's start, or the next request on it, until the first byte;
	// Processing until the answer was complete.
	Waiting    *latency.Histogram `json:"waiting,omitempty"`
	Processing *latency.Histogram `json:"processing,omitempty"`
	// Refused is [Result.Total] of the answers of 400 or above.
	Refused *latency.Histogram `json:"refused,omitempty"`
}

// take counts a complete answer. kept says that the client would keep the connection.
func (p *Pages) take(r *response, kept bool) {
	if p.Server == "" {
		p.Server = r.server
	}
	if p.Length == 0 {
		p.Length = r.body
	}
	p.Received += r.body
	if kept && !r.close {
		p.KeptAlive++
	}
}

func (p *Pages) merge(other Pages) {
	p.Server = cmp.Or(p.Server, other.Server)
	p.Length = cmp.Or(p.Length, other.Length)
	p.Received += other.Received
	p.KeptAlive += other.KeptAlive
	p.Waiting = mergeHistogram(p.Waiting, other.Waiting)
	p.Processing = mergeHistogram(p.Processing, other.Processing)
	p.Refused = mergeHistogram(p.Refused, other.Refused)
}
