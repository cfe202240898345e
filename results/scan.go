package results

import "math"

// IdleScan is how many seconds the kernel waits between two scans of an idle table
// (GC_SCAN_INTERVAL_MAX).
const IdleScan = 60.0

// scanInterval is how many seconds the kernel waits from the scan of a table to the next, when so
// many entries are alive, each of which lives for residence seconds, made evenly over the last span
// seconds.
//
// gc_worker keeps a running mean of the entries' remaining timeouts in whole jiffies. It starts as
// if 100 entries had 60 s left, meets each entry twice (both directions are in the hash), and stops
// moving when the difference is smaller than the number of entries met, since the division
// truncates. At 250 Hz that leaves it about 5 s above the true mean.
func scanInterval(alive, residence, span float64, hertz int) float64 {
	span = min(span, residence)
	if alive < 1 || residence-span/2 >= IdleScan {
		return IdleScan
	}
	if hertz <= 0 {
		hertz = 250
	}
	hz := float64(hertz)
	most, least := residence*hz, max(1, residence-span)*hz
	mean, met := math.Trunc(IdleScan*hz), 100.0
	// Entries come in the order of their hashes: the golden ratio's multiples mix their ages.
	at := 0.0
	for left := 2 * alive; left >= 1 && met < max(mean-least, most-mean); left-- {
		if at += math.Phi - 1; at >= 1 {
			at--
		}
		remains := math.Trunc(max(hz, most-at*span*hz))
		met++
		mean += math.Trunc((remains - mean) / met)
	}
	return min(IdleScan, max(1, mean/hz))
}
