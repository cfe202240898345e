// Package lifetimes says how long connections stay open and flows go on. The life of each follows
// from a seed and its number, so that it does not depend on which worker makes it. It is pure.
package lifetimes

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Shape names the form of a distribution.
type Shape string

// The shapes.
const (
	Fixed       Shape = "fixed"       // all alike
	Exponential Shape = "exponential" // memoryless: any moment is as likely to be the last
	// LogNormal has many short lives and a few long ones, as connections of people and machines
	// mixed have.
	LogNormal Shape = "lognormal"
	// Quantiles runs evenly from each quantile to the next.
	Quantiles Shape = "quantiles"
)

// Distribution is a distribution of lives. The zero value has none: nothing stays.
type Distribution struct {
	Shape Shape `json:"shape,omitempty"`
	// Mean is the mean life. Quantiles have theirs instead.
	Mean time.Duration `json:"mean,omitempty"`
	// Sigma is the standard deviation of the logarithm of a lognormal life.
	Sigma float64 `json:"sigma,omitempty"`
	// Quantiles are lives at equal steps of probability, from the shortest to the longest.
	Quantiles []time.Duration `json:"quantiles,omitempty"`
}

// longest bounds every life. The tail of a distribution ends there.
const longest = 30 * 24 * time.Hour

// mostSigma bounds the spread of lognormal lives: at 4 the mean is 3000 times the median.
const mostSigma = 4

// Of returns the distribution in which every life has one length; none for 0.
func Of(life time.Duration) Distribution {
	if life == 0 {
		return Distribution{}
	}
	return Distribution{Shape: Fixed, Mean: life}
}

// None reports whether nothing stays.
func (d Distribution) None() bool { return d.Shape == "" }

// Validate reports what is wrong with the distribution.
func (d Distribution) Validate() error {
	switch d.Shape {
	case "":
		return nil
	case Fixed, Exponential, LogNormal:
		if d.Mean <= 0 || d.Mean > longest {
			return fmt.Errorf("the mean of a lifetime must be more than 0s and at most %s, not %s",
				longest, d.Mean)
		}
		if d.Shape == LogNormal && !(d.Sigma > 0 && d.Sigma <= mostSigma) {
			return fmt.Errorf("the spread of a lognormal lifetime must be more than 0 "+
				"and at most %d, not %v", mostSigma, d.Sigma)
		}
		return nil
	case Quantiles:
		q := d.Quantiles
		if len(q) < 2 || !slices.IsSorted(q) || q[0] < 0 || q[len(q)-1] > longest ||
			q[len(q)-1] == 0 {
			return fmt.Errorf("the quantiles of a lifetime must be at least two durations "+
				"from the shortest to the longest, the last more than 0s and at most %s", longest)
		}
		return nil
	}
	return fmt.Errorf("the shape of a lifetime must be %s, %s, %s or %s, not %q",
		Fixed, Exponential, LogNormal, Quantiles, d.Shape)
}

// Average returns the mean life.
func (d Distribution) Average() time.Duration {
	if d.Shape != Quantiles {
		return d.Mean
	}
	q := d.Quantiles
	sum := float64(q[0]+q[len(q)-1]) / 2
	for _, inner := range q[1 : len(q)-1] {
		sum += float64(inner)
	}
	return time.Duration(sum / float64(len(q)-1))
}

// Quantile returns the life that a share of all lives, 0 to 1, does not exceed.
func (d Distribution) Quantile(share float64) time.Duration {
	mean := float64(d.Mean)
	switch d.Shape {
	case Exponential:
		mean *= -math.Log1p(-share)
	case LogNormal:
		z := math.Sqrt2 * math.Erfinv(2*share-1)
		mean *= math.Exp(d.Sigma*z - d.Sigma*d.Sigma/2)
	case Quantiles:
		steps := len(d.Quantiles) - 1
		at := share * float64(steps)
		i := min(int(at), steps-1)
		mean = float64(d.Quantiles[i]) + (at-float64(i))*float64(d.Quantiles[i+1]-d.Quantiles[i])
	}
	return time.Duration(min(mean, float64(longest)))
}

// Draw returns the life of number n. Lives are independent of each other.
func (d Distribution) Draw(seed uint64, n int64) time.Duration {
	if d.Shape == Fixed || d.Shape == "" {
		return d.Mean
	}
	x := mix(mix(seed+0x6c69_6665) ^ uint64(n)) // the constant separates this use of a seed
	return d.Quantile((float64(x>>11) + .5) / (1 << 53))
}

// mix scatters a number (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
