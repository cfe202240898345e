package sockets

// Eagerness decides whether to look right after connect if the connection is there already. On
// one machine the handshake is often over when connect returns, and a look then saves two calls;
// over a wire the look is wasted, so after a few misses it is only tried now and then.
type Eagerness struct{ misses, skipped int }

// Try reports whether to look this time.
func (e *Eagerness) Try() bool {
	if e.misses < 8 {
		return true
	}
	if e.skipped++; e.skipped == 256 {
		e.skipped = 0
		return true
	}
	return false
}

// Learn notes whether a look has found anything.
func (e *Eagerness) Learn(hit bool) {
	if hit {
		e.misses = 0
	} else {
		e.misses++
	}
}
