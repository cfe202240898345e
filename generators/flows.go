package generators

import (
	"encoding/binary"
	"time"

	"github.com/ctload/ctload/generators/deadlines"
)

// flow is one datagram flow that awaits answers.
type flow struct {
	// Link is in the queue of flows that await an answer, or that await their next exchange.
	deadlines.Link
	intended   time.Duration
	begun      time.Duration
	number     int64 // of its tuple
	generation uint32
	left       int32 // exchanges left, the current one included
	due        int32 // answers of the current exchange still to come, without the last
	socket     int32 // position in the worker's list
	sequence   uint16
	used       bool
	resting    bool // between two exchanges
}

// flows is a table of flows. The label in a datagram leads back to its flow.
type flows struct {
	chunks  [][]flow
	free    []int32
	open    int
	waiting deadlines.Queue // flows that await an answer, by time limit
	resting deadlines.Queue // flows between exchanges, by the time of the next
}

func newFlows() *flows {
	f := new(flows)
	at := func(i int32) *deadlines.Link { return &f.at(i).Link }
	f.waiting, f.resting = deadlines.NewQueue(at), deadlines.NewQueue(at)
	return f
}

func (f *flows) at(i int32) *flow { return &f.chunks[i/chunkSize][i%chunkSize] }

// add turns a free slot into a flow.
func (f *flows) add(intended, now time.Duration, number int64, exchanges, socket int32) int32 {
	if len(f.free) == 0 {
		first := int32(len(f.chunks) * chunkSize)
		f.chunks = append(f.chunks, make([]flow, chunkSize))
		for i := first + chunkSize - 1; i >= first; i-- {
			f.free = append(f.free, i)
		}
	}
	i := f.free[len(f.free)-1]
	f.free = f.free[:len(f.free)-1]
	slot := f.at(i)
	*slot = flow{intended: intended, begun: now, number: number, generation: slot.generation, left: exchanges, socket: socket, used: true}
	f.open++
	return i
}

// remove frees a slot.
func (f *flows) remove(i int32) {
	f.waiting.Remove(i)
	f.resting.Remove(i)
	slot := f.at(i)
	slot.used = false
	slot.generation++
	f.free = append(f.free, i)
	f.open--
}

// labelSize is the length, in bytes, of the label that matches an answer to its flow: a mark, the
// slot, its generation and the number of the exchange.
const labelSize = 16

const labelMark = 0x63746c64 // "ctld"

// label writes the label of a flow's current exchange.
func (f *flows) label(i int32, data []byte) {
	slot := f.at(i)
	binary.BigEndian.PutUint32(data, labelMark)
	binary.BigEndian.PutUint32(data[4:], uint32(i))
	binary.BigEndian.PutUint32(data[8:], slot.generation)
	binary.BigEndian.PutUint32(data[12:], uint32(slot.sequence))
}

// find reads a label and returns the flow that awaits it. It returns false for other traffic, a
// duplicate, or an answer that comes too late.
func (f *flows) find(data []byte) (int32, bool) {
	if len(data) < labelSize || binary.BigEndian.Uint32(data) != labelMark {
		return 0, false
	}
	i := binary.BigEndian.Uint32(data[4:])
	if uint64(i) >= uint64(len(f.chunks))*chunkSize {
		return 0, false
	}
	slot := f.at(int32(i))
	if !slot.used || slot.resting || slot.generation != binary.BigEndian.Uint32(data[8:]) ||
		uint32(slot.sequence) != binary.BigEndian.Uint32(data[12:]) {
		return 0, false
	}
	return int32(i), true
}
