package scenarios

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/internal/spelling"
)

// Size is an amount of memory or data in bytes. In a file it always carries a binary unit:
// "512MiB", "2GiB", "1500B".
type Size int64

// Duration is a span of time. In a file it always carries its units: "500ms", "5s", "2m", "1h30m".
type Duration time.Duration

// Rate is a number of events per second. Its text may name another time that it is counted over:
// "3000", "3000/s", "600/min", "10k/s", "0.5/s".
type Rate float64

// Count is a number of things. In a file a decimal multiple may be abbreviated: "5000", "5k", "1M".
type Count int64

// Share is a part of a whole, 0 to 1. In a file it carries the sign: "2%", "0.5%".
type Share float64

// Offset is a span of time in either direction. In a file: "30s", "-30s".
type Offset Duration

// Bandwidth is a number of bits per second. In a file: "10Mbit/s".
type Bandwidth int64

// Excess is the amount by which one figure exceeds another, as a share of the other, from 0 up:
// "10%", "150%".
type Excess float64

// The largest values that the language accepts: generous, and far from overflow.
const (
	maxSize     Size     = 64 << 40
	maxDuration Duration = Duration(30 * 24 * time.Hour)
	maxRate     Rate     = 1e9
	maxCount    Count    = 1e12

	maxBandwidth Bandwidth = 1e12
)

var (
	sizeUnits  = []string{"B", "KiB", "MiB", "GiB", "TiB"}
	rateUnits  = []string{"s", "min", "h"}
	rateScale  = map[string]float64{"s": 1, "min": 60, "h": 3600}
	countUnits = map[string]int64{"": 1, "k": 1e3, "M": 1e6}
	timeUnits  = []string{"ns", "us", "ms", "s", "m", "h"}
	bandwidths = []string{"bit", "kbit", "Mbit", "Gbit"}

	sizeForm      = regexp.MustCompile(`^([0-9]{1,15})\s*([A-Za-z]*)$`)
	countForm     = regexp.MustCompile(`^([0-9]{1,15})([A-Za-z]*)$`)
	rateForm      = regexp.MustCompile(`^(\d{1,15}(?:\.\d{1,9})?)([A-Za-z]*)(?:/([A-Za-z]+))?$`)
	timeForm      = regexp.MustCompile(`^(?:[0-9]{1,15}(?:\.[0-9]{1,9})?[A-Za-zµ]+)+$`)
	bareNumber    = regexp.MustCompile(`^[0-9]{1,15}(?:\.[0-9]{1,9})?$`) // lacks its unit
	shareForm     = regexp.MustCompile(`^([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*%$`)
	bandwidthForm = regexp.MustCompile(`^([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([A-Za-z]+)(?:/s)?$`)
	timeUnit      = regexp.MustCompile(`[A-Za-zµ]+`)
)

// UnmarshalText parses a size with its unit.
func (s *Size) UnmarshalText(text []byte) error {
	part := sizeForm.FindStringSubmatch(string(text))
	if part == nil {
		return fmt.Errorf("%s is not a size, such as 512MiB or 2GiB", quote(string(text)))
	}
	number, _ := strconv.ParseInt(part[1], 10, 64) // of at most 15 digits
	if number == 0 {
		*s = 0
		return nil
	}
	if part[2] == "" {
		return fmt.Errorf("the size %s has no unit%s", part[1], spelling.Meant(part[1]+"MiB"))
	}
	shift := 10 * slices.Index(sizeUnits, part[2])
	if shift < 0 {
		return fmt.Errorf("%s is not a unit of size%s", quote(part[2]), sizeMeant(part[2]))
	}
	if number > int64(maxSize)>>shift {
		return fmt.Errorf("the size %s is more than %s", string(text), maxSize)
	}
	*s = Size(number << shift)
	return nil
}

func sizeMeant(unit string) string {
	for _, known := range sizeUnits {
		if strings.EqualFold(unit[:1], known[:1]) && len(unit) <= 3 {
			return spelling.Meant(known)
		}
	}
	return spelling.Hint(unit, sizeUnits)
}

// String returns the size with the largest unit that shows it exactly.
func (s Size) String() string { return inUnits(int64(s), 1024, sizeUnits) }

// inUnits returns an amount in the largest unit that shows it exactly; each unit is step times the
// one before it.
func inUnits(amount, step int64, units []string) string {
	index := 0
	for amount != 0 && amount%step == 0 && index < len(units)-1 {
		amount /= step
		index++
	}
	return strconv.FormatInt(amount, 10) + units[index]
}

// UnmarshalText parses a duration with its units.
func (d *Duration) UnmarshalText(text []byte) error {
	word := string(text)
	if word == "0" {
		*d = 0
		return nil
	}
	if bareNumber.MatchString(word) {
		return fmt.Errorf("the duration %s has no unit%s", quote(word), spelling.Meant(word+"s"))
	}
	if !timeForm.MatchString(word) {
		return fmt.Errorf("%s is not a duration, such as 500ms, 5s, 2m or 1h30m", quote(word))
	}
	for _, unit := range timeUnit.FindAllString(word, -1) {
		if unit != "µs" && !slices.Contains(timeUnits, unit) {
			return fmt.Errorf("%s is not a unit of time%s", quote(unit), timeMeant(unit))
		}
	}
	parsed, err := time.ParseDuration(word)
	if err != nil || parsed > time.Duration(maxDuration) {
		return fmt.Errorf("the duration %s is more than %s", quote(word), maxDuration)
	}
	*d = Duration(parsed)
	return nil
}

func timeMeant(unit string) string {
	lower := strings.ToLower(unit)
	for prefix, known := range map[string]string{
		"sec": "s", "min": "m", "hour": "h", "hr": "h", "milli": "ms", "micro": "us",
	} {
		if strings.HasPrefix(lower, prefix) {
			return spelling.Meant(known)
		}
	}
	if lower == "d" || strings.HasPrefix(lower, "day") {
		return "; a day is 24h"
	}
	return spelling.Hint(unit, timeUnits)
}

// String returns the duration without the zero units that [time.Duration] would append.
func (d Duration) String() string {
	text := time.Duration(d).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Seconds returns the duration in seconds.
func (d Duration) Seconds() float64 { return time.Duration(d).Seconds() }

// UnmarshalText parses a rate, per second where it names no other time.
func (r *Rate) UnmarshalText(text []byte) error {
	word := string(text)
	part := rateForm.FindStringSubmatch(word)
	if part == nil {
		return fmt.Errorf("%s is not a rate, such as 3000/s or 600/min", quote(word))
	}
	scale, ok := rateScale[cmp.Or(part[3], "s")]
	if !ok {
		meant := rateMeant(part[3])
		return fmt.Errorf("%s is not a time that a rate is counted over%s", quote(part[3]), meant)
	}
	multiple, ok := countUnits[part[2]]
	if !ok {
		return fmt.Errorf("%s is not a multiple%s", quote(part[2]), countMeant(part[2]))
	}
	number, _ := strconv.ParseFloat(part[1], 64) // the form bounds its digits
	rate := Rate(number * float64(multiple) / scale)
	if rate > maxRate {
		return fmt.Errorf("the rate %s is more than %s", quote(word), maxRate)
	}
	if number != 0 && rate < 1e-6 {
		return fmt.Errorf("the rate %s is too small", quote(word))
	}
	*r = rate
	return nil
}

func rateMeant(unit string) string {
	switch lower := strings.ToLower(unit); {
	case lower == "m" || strings.HasPrefix(lower, "min"):
		return spelling.Meant("min")
	case strings.HasPrefix(lower, "s"):
		return spelling.Meant("s")
	}
	return spelling.Hint(unit, rateUnits)
}

// String returns the rate per second, or per hour where only that is exact.
func (r Rate) String() string {
	for _, unit := range rateUnits {
		rounded := math.Round(float64(r)*rateScale[unit]*1e6) / 1e6
		text := strconv.FormatFloat(rounded, 'f', -1, 64) + "/" + unit
		var back Rate
		if err := back.UnmarshalText([]byte(text)); err == nil && back == r {
			return text
		}
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64) + "/s"
}

// UnmarshalText parses a count, which may end in k or M.
func (c *Count) UnmarshalText(text []byte) error {
	part := countForm.FindStringSubmatch(string(text))
	if part == nil {
		return fmt.Errorf("%s is not a count, such as 5000, 5k or 1M", quote(string(text)))
	}
	multiple, ok := countUnits[part[2]]
	if !ok {
		return fmt.Errorf("%s is not a multiple%s", quote(part[2]), countMeant(part[2]))
	}
	number, err := strconv.ParseInt(part[1], 10, 64)
	if err != nil || number > int64(maxCount)/multiple {
		return fmt.Errorf("the count %s is more than %d", quote(string(text)), int64(maxCount))
	}
	*c = Count(number * multiple)
	return nil
}

func countMeant(multiple string) string {
	switch multiple {
	case "K":
		return `; did you mean "k" (1000)?`
	case "m":
		return `; did you mean "M" (1000000)?`
	}
	return "; valid here: k (1000), M (1000000)"
}

func readPercent(word string) (float64, error) {
	if part := shareForm.FindStringSubmatch(word); part != nil {
		percent, _ := strconv.ParseFloat(part[1], 64) // the form bounds its digits
		return percent / 100, nil
	}
	if !bareNumber.MatchString(word) {
		return 0, fmt.Errorf("%s is not a share, such as 2%% or 0.5%%", quote(word))
	}
	meant := fmt.Sprintf("%q", word+"%")
	if number, _ := strconv.ParseFloat(word, 64); number > 0 && number < 1 {
		meant = fmt.Sprintf("%q or %s", Share(number), meant)
	}
	return 0, fmt.Errorf("the share %s has no unit; did you mean %s?", quote(word), meant)
}

// UnmarshalText parses a percentage.
func (s *Share) UnmarshalText(text []byte) error {
	share, err := readPercent(string(text))
	if share > 1 {
		return fmt.Errorf("a share must be at most 100%%, not %s", quote(string(text)))
	}
	*s = Share(share)
	return err
}

// UnmarshalText parses a percentage, which may be over 100%.
func (e *Excess) UnmarshalText(text []byte) error {
	share, err := readPercent(string(text))
	*e = Excess(share)
	return err
}

// String returns the percentage.
func (s Share) String() string { return strconv.FormatFloat(float64(s)*100, 'g', 9, 64) + "%" }

// UnmarshalText parses a duration with a sign.
func (o *Offset) UnmarshalText(text []byte) error {
	rest, back := bytes.CutPrefix(text, []byte("-"))
	if !back {
		rest = bytes.TrimPrefix(text, []byte("+"))
	}
	if err := (*Duration)(o).UnmarshalText(rest); err != nil {
		return err
	}
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

// UnmarshalText parses a number of bits per second.
func (b *Bandwidth) UnmarshalText(text []byte) error {
	word := string(text)
	part := bandwidthForm.FindStringSubmatch(word)
	if part == nil {
		return fmt.Errorf("%s is not a bandwidth, such as 512kbit/s or 10Mbit/s", quote(word))
	}
	index := slices.Index(bandwidths, part[2])
	if index < 0 {
		hint := spelling.Hint(part[2], bandwidths)
		return fmt.Errorf("%s is not a unit of bandwidth%s", quote(part[2]), hint)
	}
	number, _ := strconv.ParseFloat(part[1], 64) // the form bounds its digits
	number *= math.Pow(1000, float64(index))
	if number > float64(maxBandwidth) {
		return fmt.Errorf("the bandwidth %s is more than %s", quote(word), maxBandwidth)
	}
	*b = Bandwidth(number)
	return nil
}

// String returns the bandwidth with the largest unit that shows it exactly.
func (b Bandwidth) String() string { return inUnits(int64(b), 1000, bandwidths) + "/s" }

// MarshalText returns String, also for the JSON that a run records of its workload and actions.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText returns String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText returns the count in full.
func (c Count) MarshalText() ([]byte, error) { return fmt.Append(nil, int64(c)), nil }

// MarshalText returns String.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText returns String.
func (o Offset) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// MarshalText returns String.
func (b Bandwidth) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// MarshalText returns String.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText returns the text.
func (e Expression) MarshalText() ([]byte, error) { return []byte(e.Text), nil }
