package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Entry is one entry of the table.
type Entry struct {
	Protocol string `json:"p"` // tcp, udp, icmp, icmpv6, gre, ..., or its number
	// State is the entry's state, as TIME_WAIT; empty for protocols without states.
	State string `json:"s,omitempty"`
	// Left is the entry's remaining time in seconds; -1 where the kernel gives none (offloaded).
	Left      int64 `json:"left"`
	Unreplied bool  `json:"unreplied,omitempty"`
	Assured   bool  `json:"assured,omitempty"`
	Offloaded bool  `json:"offloaded,omitempty"` // a flow table forwards the connection
	Original  Tuple `json:"o"`                   // as the first packet had it
	Reply     Tuple `json:"r,omitzero"`          // as an answer has it
	// Helper is the name of the helper that reads the connection.
	Helper string `json:"helper,omitempty"`
	Zone   int64  `json:"zone,omitempty"`
	// Stays tells that the entry was there in a second listing too, in the same state; Gone that it
	// was not. An entry has neither where the second listing ends before it.
	Stays bool `json:"stays,omitempty"`
	Gone  bool `json:"gone,omitempty"`
}

// Tuple is one direction of a connection.
type Tuple struct {
	Source          netip.Addr `json:"s"`
	Destination     netip.Addr `json:"d"`
	SourcePort      uint16     `json:"sp,omitempty"`
	DestinationPort uint16     `json:"dp,omitempty"`
	Type            string     `json:"type,omitempty"` // of ICMP
}

// Kind is the property of an entry that early_drop and the collector look at.
type Kind string

// The kinds of entries: without an answer, answered and not assured, assured.
const (
	Unreplied Kind = "unreplied"
	Replied   Kind = "replied"
	Assured   Kind = "assured"
)

// Kind returns the kind of the entry. An entry can be assured without an answer: not by the kernel.
func (e Entry) Kind() Kind {
	switch {
	case e.Assured:
		return Assured
	case e.Unreplied:
		return Unreplied
	}
	return Replied
}

// IPv6 reports whether the connection is one of IPv6.
func (e Entry) IPv6() bool { return e.Original.Source.Is6() }

// Service names what the connection asked for: the destination port before translation, the type
// of an ICMP message, or nothing.
func (e Entry) Service() string {
	switch {
	case e.Original.Type != "":
		return "type " + e.Original.Type
	case e.Original.DestinationPort != 0:
		return strconv.Itoa(int(e.Original.DestinationPort))
	}
	return ""
}

// Translated reports whether source or destination are translated.
func (e Entry) Translated() (source, destination bool) {
	return e.Original.Source != e.Reply.Destination, e.Original.Destination != e.Reply.Source
}

// ErrEntry tells that a text is no entry.
var ErrEntry = errors.New("not an entry of the connection-tracking table")

// errCut tells that an entry is not complete: its text ends in the middle.
var errCut = errors.New("an entry that ends in the middle")

// stateful are the protocols whose entries have a state.
var stateful = map[string]bool{"tcp": true, "sctp": true, "dccp": true}

// protocols are the names that the kernel and conntrack(8) give protocols.
var protocols = map[string]bool{
	"tcp": true, "udp": true, "icmp": true, "icmpv6": true, "gre": true, "sctp": true,
	"dccp": true, "udplite": true, "unknown": true,
}

// Begins reports whether a line begins as an entry does.
func Begins(line string) bool {
	fields := strings.Fields(line)
	if len(fields) > 2 && (fields[0] == "ipv4" || fields[0] == "ipv6") {
		fields = fields[2:]
	}
	if len(fields) < 2 || !protocols[fields[0]] {
		return false
	}
	_, err := strconv.ParseUint(fields[1], 10, 8)
	return err == nil
}

// Ends reports whether the text of an entry has reached the fields at its end: use= is the last
// that every kernel and every version of conntrack(8) writes.
func Ends(text string) bool {
	for field := range strings.FieldsSeq(text) {
		if strings.HasPrefix(field, "use=") && len(field) > len("use=") {
			return true
		}
	}
	return false
}

// ParseEntry reads an entry as /proc/net/nf_conntrack, /proc/net/ip_conntrack and conntrack -L
// write it, with any of the options of -o:
//
//	ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=...
//	[ASSURED] mark=0 zone=0 use=2
//
// The error is errCut when both directions are not there.
func ParseEntry(text string) (Entry, error) {
	e := Entry{Left: -1}
	if !Begins(text) {
		return e, ErrEntry
	}
	fields := strings.Fields(text)
	if fields[0] == "ipv4" || fields[0] == "ipv6" {
		fields = fields[2:]
	}
	if e.Protocol = fields[0]; e.Protocol == "unknown" {
		e.Protocol = fields[1] // as ctnetlink has it: the number
	}
	fields = fields[2:]
	if len(fields) > 0 {
		if left, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			e.Left, fields = left, fields[1:]
		}
	}
	if len(fields) > 0 && stateful[e.Protocol] && !strings.ContainsAny(fields[0], "=[") {
		e.State, fields = fields[0], fields[1:]
	}
	tuples := []*Tuple{&e.Original, &e.Reply}
	at := -1
	for _, field := range fields {
		name, value, pair := strings.Cut(strings.TrimSuffix(field, ","), "=")
		switch {
		case name == "src" && pair:
			if at++; at == len(tuples) {
				return e, fmt.Errorf("%w: three directions", ErrEntry)
			}
		case field == "[UNREPLIED]":
			e.Unreplied = true
		case field == "[ASSURED]":
			e.Assured = true
		case field == "[OFFLOAD]", field == "[HW_OFFLOAD]":
			e.Offloaded = true
		}
		if !pair {
			continue
		}
		if err := e.read(tuples, at, name, value); err != nil {
			return e, err
		}
	}
	if at != 1 || !e.Original.complete() || !e.Reply.complete() {
		return e, errCut
	}
	return e, nil
}

// complete reports whether both addresses were there.
func (t Tuple) complete() bool { return t.Source.IsValid() && t.Destination.IsValid() }

// read takes one field; at is the direction that the field belongs to.
func (e *Entry) read(tuples []*Tuple, at int, name, value string) (err error) {
	switch name {
	case "helper":
		e.Helper = value
		return nil
	case "zone":
		e.Zone, err = strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: zone: %w", ErrEntry, err)
		}
		return nil
	}
	if at < 0 || at >= len(tuples) {
		return nil
	}
	t := tuples[at]
	switch name {
	case "src", "dst":
		address, err := netip.ParseAddr(value)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrEntry, name, err)
		}
		if name == "src" {
			t.Source = address
		} else {
			t.Destination = address
		}
	case "sport", "dport":
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrEntry, name, err)
		}
		if name == "sport" {
			t.SourcePort = uint16(port)
		} else {
			t.DestinationPort = uint16(port)
		}
	case "type":
		t.Type = value
	}
	return nil
}
