package scenarios

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
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

// The largest values that the language accepts: generous, and far from overflow.
const (
	maxSize     Size     = 64 << 40
	maxDuration Duration = Duration(30 * 24 * time.Hour)
	maxRate     Rate     = 1e9
	maxCount    Count    = 1e12
)

var (
	sizeUnits  = []string{"B", "KiB", "MiB", "GiB", "TiB"}
	rateUnits  = []string{"s", "min", "h"}
	rateScale  = map[string]float64{"s": 1, "min": 60, "h": 3600}
	countUnits = map[string]int64{"": 1, "k": 1e3, "M": 1e6}
	timeUnits  = []string{"ns", "us", "ms", "s", "m", "h"}

	sizeForm   = regexp.MustCompile(`^([0-9]{1,15})\s*([A-Za-z]*)$`)
	countForm  = regexp.MustCompile(`^([0-9]{1,15})([A-Za-z]*)$`)
	rateForm   = regexp.MustCompile(`^([0-9]{1,15}(?:\.[0-9]{1,9})?)([A-Za-z]*)(?:/([A-Za-z]+))?$`)
	timeForm   = regexp.MustCompile(`^(?:[0-9]{1,15}(?:\.[0-9]{1,9})?[A-Za-zµ]+)+$`)
	bareNumber = regexp.MustCompile(`^[0-9]{1,15}(?:\.[0-9]{1,9})?$`) // lacks its unit
	timeUnit   = regexp.MustCompile(`[A-Za-zµ]+`)
)

// UnmarshalText parses a size with its unit.
func (s *Size) UnmarshalText(text []byte) error {
	part := sizeForm.FindStringSubmatch(string(text))
	if part == nil {
		return fmt.Errorf("%s is not a size, such as 512MiB or 2GiB", quote(string(text)))
	}
	number, err := strconv.ParseInt(part[1], 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not a size, such as 512MiB or 2GiB", quote(string(text)))
	}
	if part[2] == "" && number != 0 {
		return fmt.Errorf("the size %s has no unit; did you mean %q?", part[1], part[1]+"MiB")
	}
	shift := 0
	if number != 0 {
		index := indexOf(sizeUnits, part[2])
		if index < 0 {
			return fmt.Errorf("%s is not a unit of size%s", quote(part[2]), sizeMeant(part[2]))
		}
		shift = 10 * index
	}
	if number > int64(maxSize)>>shift {
		return fmt.Errorf("the size %s is more than %s", string(text), maxSize)
	}
	*s = Size(number << shift)
	return nil
}

// sizeMeant maps common spellings to the binary units.
func sizeMeant(unit string) string {
	if unit != "" {
		for _, known := range sizeUnits {
			if strings.EqualFold(unit[:1], known[:1]) && len(unit) <= 3 {
				return fmt.Sprintf("; did you mean %q?", known)
			}
		}
	}
	return spelling.Hint(unit, sizeUnits)
}

// String returns the size with the largest unit that shows it exactly.
func (s Size) String() string {
	index := 0
	for s != 0 && s%1024 == 0 && index < len(sizeUnits)-1 {
		s /= 1024
		index++
	}
	return strconv.FormatInt(int64(s), 10) + sizeUnits[index]
}

// MarshalText returns String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses a duration with its units.
func (d *Duration) UnmarshalText(text []byte) error {
	word := string(text)
	if word == "0" {
		*d = 0
		return nil
	}
	if bareNumber.MatchString(word) {
		return fmt.Errorf("the duration %s has no unit; did you mean %q?", quote(word), word+"s")
	}
	if !timeForm.MatchString(word) {
		return fmt.Errorf("%s is not a duration, such as 500ms, 5s, 2m or 1h30m", quote(word))
	}
	for _, unit := range timeUnit.FindAllString(word, -1) {
		if unit != "µs" && indexOf(timeUnits, unit) < 0 {
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

// timeMeant maps common words to the units of time.
func timeMeant(unit string) string {
	lower := strings.ToLower(unit)
	for _, known := range []struct{ prefix, unit string }{{"sec", "s"}, {"min", "m"}, {"hour", "h"}, {"hr", "h"}, {"milli", "ms"}, {"micro", "us"}} {
		if strings.HasPrefix(lower, known.prefix) {
			return fmt.Sprintf("; did you mean %q?", known.unit)
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
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

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
		return fmt.Errorf("%s is not a time that a rate is counted over%s", quote(part[3]), rateMeant(part[3]))
	}
	multiple, ok := countUnits[part[2]]
	if !ok {
		return fmt.Errorf("%s is not a multiple%s", quote(part[2]), countMeant(part[2]))
	}
	number, err := strconv.ParseFloat(part[1], 64)
	if err != nil {
		return fmt.Errorf("%s is not a rate, such as 3000/s or 600/min", quote(word))
	}
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
		return `; did you mean "min"?`
	case strings.HasPrefix(lower, "s"):
		return `; did you mean "s"?`
	}
	return spelling.Hint(unit, rateUnits)
}

// String returns the rate per second, or per hour where only that is exact.
func (r Rate) String() string {
	perSecond := strconv.FormatFloat(float64(r), 'f', -1, 64)
	for _, unit := range rateUnits {
		text := strconv.FormatFloat(math.Round(float64(r)*rateScale[unit]*1e6)/1e6, 'f', -1, 64) + "/" + unit
		var back Rate
		if err := back.UnmarshalText([]byte(text)); err == nil && back == r {
			return text
		}
	}
	return perSecond + "/s"
}

// MarshalText returns String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

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

// MarshalText returns the count in full.
func (c Count) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(c), 10), nil }

func indexOf(list []string, word string) int {
	for i, each := range list {
		if each == word {
			return i
		}
	}
	return -1
}
