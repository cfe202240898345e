package reports

import (
	"fmt"
	"math"
	"strings"

	"github.com/ctload/ctload/results"
)

// chart is a drawing without a script, in units of its own; all are pixels where it fills a page.
type chart struct {
	Caption       string
	Width, Height float64
	Grid, Bars    []stroke
	Paths         []path
	Dots          []dot
	Labels        []label
}

// stroke is a straight line; Tone names the page's variable of its colour.
type stroke struct {
	X1, Y1, X2, Y2 float64
	Tone           string
}

type path struct {
	Points, Tone string
	Dashed       bool
}

type dot struct {
	X, Y   float64
	Tone   string
	Hollow bool
	Text   string // shown where the pointer rests
}

type label struct {
	X, Y               float64
	Anchor, Text, Tone string
}

// tones are the variables of the page that have a colour for each scenario, in their order.
const tones = 8

func tone(scenario int) string { return fmt.Sprintf("--c%d", scenario%tones) }

// scale places values on a logarithmic axis from one pixel to another.
type scale struct{ from, to, low, high float64 }

// scaleOf returns a scale that holds all values above 0, with some room at both ends.
func scaleOf(from, to float64, values []float64) scale {
	s := scale{from, to, math.Inf(1), 0}
	for _, v := range values {
		if v > 0 {
			s.low, s.high = min(s.low, v), max(s.high, v)
		}
	}
	if s.high == 0 {
		s.low, s.high = 1, 1
	}
	room := math.Pow(s.high/s.low, .06)
	room = max(room, 1.02)
	s.low, s.high = s.low/room, s.high*room
	return s
}

// at returns the place of a value, to a tenth of a pixel.
func (s scale) at(v float64) float64 {
	place := s.from + (s.to-s.from)*math.Log(v/s.low)/math.Log(s.high/s.low)
	return math.Round(place*10) / 10
}

// ticks returns four to ten round values of the axis.
func (s scale) ticks() (list []float64) {
	for _, digits := range [][]float64{{1}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 6, 8}} {
		list = nil
		for power := math.Floor(math.Log10(s.low)); power <= math.Log10(s.high); power++ {
			for _, digit := range digits {
				if v := digit * math.Pow(10, power); v >= s.low && v <= s.high {
					list = append(list, v)
				}
			}
		}
		if len(list) >= 4 {
			return list
		}
	}
	// The axis is less than an octave: even steps of a round size.
	step := math.Pow(10, math.Floor(math.Log10(s.high-s.low)))
	for _, part := range []float64{1, .5, .2, .1} {
		list = nil
		for v := math.Ceil(s.low/(step*part)) * step * part; v <= s.high; v += step * part {
			list = append(list, v)
		}
		if len(list) >= 4 {
			break
		}
	}
	return list
}

// points joins places as an SVG polyline has them.
type points []string

func (p *points) add(x, y float64) { *p = append(*p, fmt.Sprintf("%g,%g", x, y)) }

func (p points) path(tone string, dashed bool) path {
	return path{strings.Join(p, " "), tone, dashed}
}

// abscissa draws the ticks of a horizontal axis, and their lines from top to bottom.
func (c *chart) abscissa(s scale, top, bottom float64, unit string) {
	for _, v := range s.ticks() {
		x := s.at(v)
		c.Grid = append(c.Grid, stroke{x, top, x, bottom, ""})
		c.Labels = append(c.Labels, label{x, bottom + 18, "middle", results.Figure(v) + unit, ""})
	}
}
