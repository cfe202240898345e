package search

import (
	"math"
	"slices"
)

// fit derives the limit from the valid trials of a search, as a probability over the limit's
// position z: the logarithm of the value, signed so that trials below the limit hold.
//
// Each trial has a limit of its own, which scatters around that of the configuration with a
// standard deviation that is not known (a probit model). A trial that held lies below its own
// limit, one that did not lies above it, and one that shows how full the table was tells where its
// own limit lies. The scatter is averaged over, so that few trials, or trials that contradict each
// other, give a wide interval.
type fit struct {
	z, mass []float64 // mass sums to 1
}

// fluke is the share of the trials whose outcome has nothing to do with their value.
const fluke = 0.01

// anywhere is the range of an estimate that is a fluke, on the axis of positions.
const anywhere = 20.0

// extrapolation is the uncertainty of an estimate, as a share of the distance from which it was
// made: entries that have expired and are still counted do not grow with the rate.
const extrapolation = 0.1

// scatters are the standard deviations that a fit considers, from 0.1 % to 6 %.
var scatters = func() (list []scatter) {
	const usual, spread = 0.01, 1.0
	for s := 0.001; s < 0.065; s *= 1.6 {
		d := math.Log(s/usual) / spread
		list = append(list, scatter{s, math.Exp(-d * d / 2)})
	}
	return list
}()

// scatter is a standard deviation of trials, and its weight before any trial.
type scatter struct{ sigma, prior float64 }

// point is a valid trial as a fit sees it.
type point struct {
	z        float64
	held     bool
	estimate float64 // of the limit; NaN without one
}

// fitTo fits the limit to trials. It lies between least and most.
func fitTo(points []point, least, most float64) fit {
	const negligible = 1e-8 // of the most probable cell
	var f fit
	passes := []int{60, 60, 60, 160} // cells; each pass looks closer than the one before
	for pass, cells := range passes {
		step := (most - least) / float64(cells)
		blur := step // so that a coarse pass misses no narrow peak between two cells
		if pass == len(passes)-1 {
			blur = 0
		}
		f = fit{z: make([]float64, cells), mass: make([]float64, cells)}
		for i := range cells {
			f.z[i] = least + (float64(i)+0.5)*step
			f.mass[i] = likelihood(points, f.z[i], blur)
		}
		best := slices.Max(f.mass)
		probable := func(m float64) bool { return m > negligible*best }
		first := slices.IndexFunc(f.mass, probable)
		last := first
		for i := first; i < cells; i++ {
			if probable(f.mass[i]) {
				last = i
			}
		}
		least, most = f.z[first]-step, f.z[last]+step
	}
	sum := 0.0
	for _, m := range f.mass {
		sum += m
	}
	for i := range f.mass {
		f.mass[i] /= sum
	}
	return f
}

// likelihood returns how likely the trials are with the limit at z, whatever their scatter, which
// is at least blur.
func likelihood(points []point, z, blur float64) (sum float64) {
	for _, s := range scatters {
		product := s.prior
		for _, p := range points {
			product *= p.likelihood(z, max(s.sigma, blur))
		}
		sum += product
	}
	return sum
}

// likelihood returns how likely the trial is with the limit at z and that scatter.
func (p point) likelihood(z, sigma float64) float64 {
	if p.held && !math.IsNaN(p.estimate) {
		d := extrapolation * (p.estimate - p.z)
		wide := math.Hypot(sigma, d)
		at := (p.estimate - z) / wide
		return (1-fluke)*math.Exp(-at*at/2)/wide + fluke/anywhere
	}
	at := (z - p.z) / sigma
	if !p.held {
		at = -at
	}
	return (1-fluke)*math.Erfc(-at/math.Sqrt2)/2 + fluke/2
}

// quantile returns the position below which that share of the probability lies.
func (f fit) quantile(share float64) float64 {
	half := (f.z[1] - f.z[0]) / 2
	sum := 0.0
	for i, m := range f.mass {
		if sum+m >= share {
			return f.z[i] - half + 2*half*(share-sum)/m
		}
		sum += m
	}
	return f.z[len(f.z)-1] + half
}
