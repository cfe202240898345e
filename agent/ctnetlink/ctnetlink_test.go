package ctnetlink

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// oneEntry is a piece of the kernel's answer with one TCP entry.
var oneEntry = append([]byte{48, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0},
	28, 0, 1, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 1, 12, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0)

func FuzzParseEntries(f *testing.F) {
	f.Add(listRequest())
	f.Add([]byte{16, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Add(oneEntry)
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		_, _ = parseEntries(data, func(e Entry) error {
			n++
			if e.StateName() == "" || e.ProtocolName() == "" {
				t.Errorf("%+v", e)
			}
			return nil
		})
		if n > len(data)/20 {
			t.Errorf("%d entries in %d bytes", n, len(data))
		}
	})
}

func TestParseEntries_OfOne(t *testing.T) {
	var got []Entry
	done, err := parseEntries(oneEntry, func(e Entry) error { got = append(got, e); return nil })
	if done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	want := []Entry{{Protocol: 6, State: NoState, Source: netip.MustParseAddr("10.0.0.1")}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Entry{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func nested(list ...attribute) []byte {
	var value []byte
	for _, a := range list {
		value = a.append(value)
	}
	return value
}

// FuzzParseEntry checks that the parser accepts any message of the kernel, and that a deletion
// names the listed entry.
func FuzzParseEntry(f *testing.F) {
	tuple := nested(attribute{ctaTupleIP, nested(attribute{ctaIPv4Src, []byte{10, 0, 0, 1}}, attribute{ctaIPv4Dst, []byte{10, 0, 0, 2}})},
		attribute{ctaTupleProto, nested(attribute{ctaProtoNum, []byte{6}}, attribute{ctaProtoTarget, []byte{0, 80}})})
	f.Add(nested(attribute{ctaTupleOrig, tuple}, attribute{ctaID, []byte{1, 2, 3, 4}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseEntry(data)
		if err != nil {
			return
		}
		const headers = 16 + 4
		again, err := parseEntry(e.appendDeletion(nil)[headers:])
		if err != nil {
			t.Fatal(err)
		}
		same := cmp.Options{
			cmp.AllowUnexported(Entry{}), cmpopts.EquateComparable(netip.Addr{}),
			cmpopts.IgnoreFields(Entry{}, "State", "Replied", "Assured"), cmpopts.EquateEmpty(),
		}
		if len(data) < 1<<15 {
			if d := cmp.Diff(e, again, same); d != "" {
				t.Error(d)
			}
		}
	})
}
