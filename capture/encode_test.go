package capture

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// TestAppendEntry compares the text of entries with that of encoding/json: an empty one, and one
// whose every field is set.
func TestAppendEntry(t *testing.T) {
	var full Entry
	set(t, reflect.ValueOf(&full).Elem())
	for _, e := range []Entry{{}, full} {
		sameText(t, e)
	}
}

// set gives every field a value.
func set(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString("word")
		case bool:
			f.SetBool(true)
		case int64:
			f.SetInt(-int64(i) - 1)
		case uint16:
			f.SetUint(uint64(i) + 1)
		case netip.Addr:
			f.Set(reflect.ValueOf(netip.MustParseAddr("fe80::1%eth0")))
		case Tuple:
			set(t, f)
		default:
			t.Fatalf("the encoder does not know the type of %s", v.Type().Field(i).Name)
		}
	}
}

func sameText(t *testing.T, e Entry) {
	t.Helper()
	want, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if got := appendEntry(nil, &e); string(got) != string(want) {
		t.Errorf("%s\nencoding/json writes\n%s", got, want)
	}
}

// FuzzAppendEntry writes entries with any texts as encoding/json does.
func FuzzAppendEntry(f *testing.F) {
	f.Add("tcp", "a\"\\<\x00é\xff", int64(-1), []byte{192, 0, 2, 1})
	f.Fuzz(func(t *testing.T, protocol, helper string, left int64, address []byte) {
		a, _ := netip.AddrFromSlice(address)
		e := Entry{Protocol: protocol, Helper: helper, Left: left, Original: Tuple{Source: a}}
		e.Reply.Type = strings.ToUpper(helper)
		sameText(t, e)
	})
}
