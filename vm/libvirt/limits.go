package libvirt

import (
	"time"
)

const (
	// callLimit bounds a call to the daemon; a domain start takes about 0.4 s.
	CallLimit = 30 * time.Second
	// closeLimit bounds what is cleaned up after an interrupt.
	CloseLimit = 10 * time.Second
)

// bootLimit bounds the time from a domain's start to its agent's first answer.
var bootLimit = map[string]time.Duration{KVM: 30 * time.Second, TCG: 120 * time.Second}
