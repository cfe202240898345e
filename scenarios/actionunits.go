package scenarios

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// Share is a part of a whole, 0 to 1. In a file it carries the sign: "2%", "0.5%".
type Share float64

// Offset is a span of time in either direction. In a file: "30s", "-30s".
type Offset Duration

// Bandwidth is a number of bits per second. In a file: "10Mbit/s".
type Bandwidth int64

// Excess is how much one figure exceeds another, as a share of the other, from 0 up: "10%", "150%".
type Excess float64

var (
	shareForm     = regexp.MustCompile(`^([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*%$`)
	bandwidthForm = regexp.MustCompile(`^([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([A-Za-z]+)(?:/s)?$`)
	bandwidths    = []string{"bit", "kbit", "Mbit", "Gbit"}
)

// maxBandwidth is the largest bandwidth that the language accepts.
const maxBandwidth Bandwidth = 1e12

// readPercent parses a percentage as a share.
func readPercent(word string) (float64, error) {
	part := shareForm.FindStringSubmatch(word)
	if part == nil {
		if number, err := strconv.ParseFloat(word, 64); err == nil && bareNumber.MatchString(word) {
			if number > 0 && number < 1 {
				return 0, fmt.Errorf("the share %s has no unit; did you mean %q or %q?", quote(word), Share(number).String(), word+"%")
			}
			return 0, fmt.Errorf("the share %s has no unit; did you mean %q?", quote(word), word+"%")
		}
		return 0, fmt.Errorf("%s is not a share, such as 2%% or 0.5%%", quote(word))
	}
	percent, err := strconv.ParseFloat(part[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not a share, such as 2%% or 0.5%%", quote(word))
	}
	return percent / 100, nil
}

// UnmarshalText parses a percentage.
func (s *Share) UnmarshalText(text []byte) error {
	share, err := readPercent(string(text))
	if err != nil {
		return err
	}
	if share > 1 {
		return fmt.Errorf("a share must be at most 100%%, not %s", quote(string(text)))
	}
	*s = Share(share)
	return nil
}

// UnmarshalText parses a percentage, which may be over 100%.
func (e *Excess) UnmarshalText(text []byte) error {
	share, err := readPercent(string(text))
	if err != nil {
		return err
	}
	*e = Excess(share)
	return nil
}

// String returns the percentage.
func (s Share) String() string { return strconv.FormatFloat(float64(s)*100, 'g', 9, 64) + "%" }

// MarshalText returns String.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses a duration with a sign.
func (o *Offset) UnmarshalText(text []byte) error {
	word := string(text)
	rest, back := strings.CutPrefix(word, "-")
	if !back {
		rest = strings.TrimPrefix(word, "+")
	}
	var d Duration
	if err := d.UnmarshalText([]byte(rest)); err != nil {
		return err
	}
	*o = Offset(d)
	if back {
		*o = -*o
	}
	return nil
}

// String returns the duration, with its sign where it is negative.
func (o Offset) String() string {
	if o < 0 {
		return "-" + Duration(-o).String()
	}
	return Duration(o).String()
}

// MarshalText returns String.
func (o Offset) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText parses a number of bits per second.
func (b *Bandwidth) UnmarshalText(text []byte) error {
	word := string(text)
	part := bandwidthForm.FindStringSubmatch(word)
	if part == nil {
		return fmt.Errorf("%s is not a bandwidth, such as 512kbit/s or 10Mbit/s", quote(word))
	}
	scale := 1.0
	index := indexOf(bandwidths, part[2])
	if index < 0 {
		return fmt.Errorf("%s is not a unit of bandwidth%s", quote(part[2]), spelling.Hint(part[2], bandwidths))
	}
	for range index {
		scale *= 1000
	}
	number, err := strconv.ParseFloat(part[1], 64)
	if err != nil || number*scale > float64(maxBandwidth) {
		return fmt.Errorf("the bandwidth %s is more than %s", quote(word), maxBandwidth)
	}
	*b = Bandwidth(number * scale)
	return nil
}

// String returns the bandwidth with the largest unit that shows it exactly.
func (b Bandwidth) String() string {
	index := 0
	for b != 0 && b%1000 == 0 && index < len(bandwidths)-1 {
		b /= 1000
		index++
	}
	return strconv.FormatInt(int64(b), 10) + bandwidths[index] + "/s"
}

// MarshalText returns String.
func (b Bandwidth) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
