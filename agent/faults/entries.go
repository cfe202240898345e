package faults

import "net/netip"

// entry is what a filter looks at of an entry of the table.
type entry struct {
	protocol, state             uint8 // by number; state is noState for protocols without
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
	assured                     bool
}

// noState is the state of an entry whose protocol has none.
const noState = 0xff
