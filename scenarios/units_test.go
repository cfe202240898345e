package scenarios

import (
	"encoding"
	"fmt"
	"reflect"
	"testing"
)

func TestUnits(t *testing.T) {
	for _, test := range []struct {
		into  interface{ encoding.TextUnmarshaler }
		text  string
		value string // fmt's %d or %v of the number
		back  string
	}{
		{new(Size), "512MiB", "536870912", "512MiB"},
		{new(Size), "1024 KiB", "1048576", "1MiB"},
		{new(Size), "1500B", "1500", "1500B"},
		{new(Size), "64TiB", "70368744177664", "64TiB"},
		{new(Size), "0", "0", "0B"},
		{new(Duration), "5s", "5000000000", "5s"},
		{new(Duration), "120s", "120000000000", "2m"},
		{new(Duration), "1h30m", "5400000000000", "1h30m"},
		{new(Duration), "1h0m5s", "3605000000000", "1h0m5s"},
		{new(Duration), "24h", "86400000000000", "24h"},
		{new(Duration), "1.5s", "1500000000", "1.5s"},
		{new(Duration), "0", "0", "0s"},
		{new(Rate), "3000/s", "3000", "3000/s"},
		{new(Rate), "3000", "3000", "3000/s"},
		{new(Rate), "10k", "10000", "10000/s"},
		{new(Rate), "600/min", "10", "10/s"},
		{new(Rate), "1/min", "0.016666666666666666", "1/min"},
		{new(Rate), "7/h", "0.0019444444444444444", "7/h"},
		{new(Rate), "1.5k/s", "1500", "1500/s"},
		{new(Rate), "0.5/s", "0.5", "0.5/s"},
		{new(Count), "5000", "5000", "5000"},
		{new(Count), "5k", "5000", "5000"},
		{new(Count), "1M", "1000000", "1000000"},
		{new(Excess), "10%", "0.1", ""},
		{new(Excess), "2.5 %", "0.025", ""},
		{new(Excess), "150%", "1.5", ""},
		{new(Port), "22", "22", ""},
		{new(PortRange), "80", "{80 80}", "80"},
		{new(PortRange), "8000-8063", "{8000 8063}", "8000-8063"},
	} {
		if err := test.into.UnmarshalText([]byte(test.text)); err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		var value string
		switch v := test.into.(type) {
		case *Size:
			value = fmt.Sprint(int64(*v))
		case *Duration:
			value = fmt.Sprint(int64(*v))
		case *Rate:
			value = fmt.Sprint(float64(*v))
		case *Count:
			value = fmt.Sprint(int64(*v))
		case *Excess:
			value = fmt.Sprint(float64(*v))
		case *Port:
			value = fmt.Sprint(uint16(*v))
		case *PortRange:
			value = fmt.Sprintf("{%d %d}", v.First, v.Last)
		}
		if value != test.value {
			t.Errorf("%T %q is %s, not %s", test.into, test.text, value, test.value)
		}
		back := valueTree(reflect.ValueOf(test.into)).text
		if test.back != "" && back != test.back {
			t.Errorf("%T %q is written as %q, not %q", test.into, test.text, back, test.back)
		}
	}
}

func TestUnitsRefuse(t *testing.T) {
	for _, test := range []struct {
		into encoding.TextUnmarshaler
		text []string
	}{
		{new(Size), []string{
			"", "512", "MiB", "512MB", "512M", "512mib", "-1MiB", "1.5GiB", "0x10MiB", "65TiB",
			"99999999999999999999B", "1MiB\n", "１MiB",
		}},
		{new(Duration), []string{
			"", "5", "s", "5 s", "-5s", "5sec", "1d", "721h", "1e3s", ".5s", "5s5",
			"99999999999999999h",
		}},
		{new(Rate), []string{
			"", "5zz", "/s", "5/", "5/sec", "5/m", "-5/s", "5 /s", "5K/s", "2G/s", "1000000001/s",
			"1/s/s", "NaN/s", "Inf/s", "0.000000001/h",
		}},
		{new(Count), []string{
			"", "-1", "5K", "1.5k", "5G", "1e3", "0x10", "5_000", "1000000000001", "5 k",
		}},
		{new(Share), []string{"", "5", "-5%", "101%", "NaN%", "1e1%", "%"}},
		{new(Excess), []string{"", "10", "-5%", "NaN%", "1e1%", "%", "10000000%"}},
		{new(Port), []string{"", "0", "65536", "-1", "http", "80 "}},
		{new(PortRange), []string{
			"", "0", "80-", "-80", "80-70", "80-65536", "80-90-100", "80 - 90",
		}},
	} {
		for _, text := range test.text {
			if err := test.into.UnmarshalText([]byte(text)); err == nil {
				t.Errorf("%T accepts %q", test.into, text)
			}
		}
	}
}

// FuzzUnits: a value that was read is written as text that reads as the same value.
func FuzzUnits(f *testing.F) {
	for _, text := range []string{
		"512MiB", "5s", "1h30m", "3000/s", "7/h", "0.1/min", "5k", "80-90", "1µs", "2.5%",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var size, size2 Size
		if size.UnmarshalText([]byte(text)) == nil {
			err := size2.UnmarshalText([]byte(size.String()))
			if err != nil || size2 != size || size < 0 {
				t.Errorf("size %q: %s: %v", text, size, err)
			}
		}
		var duration, duration2 Duration
		if duration.UnmarshalText([]byte(text)) == nil {
			err := duration2.UnmarshalText([]byte(duration.String()))
			if err != nil || duration2 != duration || duration < 0 {
				t.Errorf("duration %q: %s: %v", text, duration, err)
			}
		}
		var rate, rate2 Rate
		if rate.UnmarshalText([]byte(text)) == nil {
			err := rate2.UnmarshalText([]byte(rate.String()))
			if err != nil || rate2 != rate || rate < 0 {
				t.Errorf("rate %q: %s: %v (%v, %v)", text, rate, err, float64(rate), float64(rate2))
			}
		}
		var excess Excess
		wrong := excess.UnmarshalText([]byte(text)) == nil && !(excess >= 0 && excess <= 1e4)
		if wrong {
			t.Errorf("excess %q: %v", text, float64(excess))
		}
		var count, count2 Count
		if count.UnmarshalText([]byte(text)) == nil {
			written := fmt.Sprint(count)
			err := count2.UnmarshalText([]byte(written))
			if err != nil || count2 != count || count < 0 {
				t.Errorf("count %q: %s: %v", text, written, err)
			}
		}
	})
}
