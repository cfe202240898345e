package ctnetlink

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// oneEntry is a piece of the kernel's answer with one TCP entry.
var oneEntry = append([]byte{48, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0},
	28, 0, 1, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 1, 12, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0)

func FuzzParsePiece(f *testing.F) {
	f.Add(appendMessage(nil, getEntries, unix.NLM_F_DUMP, unix.AF_UNSPEC))
	f.Add([]byte{16, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Add(oneEntry)
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		_, _ = parsePiece(data, entries(func(e Entry) error {
			n++
			if e.StateName() == "" || e.ProtocolName() == "" {
				t.Errorf("%+v", e)
			}
			return nil
		}))
		if n > len(data)/20 {
			t.Errorf("%d entries in %d bytes", n, len(data))
		}
	})
}

func TestParsePiece(t *testing.T) {
	var got []Entry
	take := entries(func(e Entry) error { got = append(got, e); return nil })
	done, err := parsePiece(oneEntry, take)
	if done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	want := []Entry{{State: NoState, Left: -1,
		Tuple: Tuple{Protocol: 6, Source: netip.MustParseAddr("10.0.0.1")}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Entry{}),
		cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParsePiece_Ends(t *testing.T) {
	noEntry := []byte{0xfe, 0xff, 0xff, 0xff} // -ENOENT
	for _, kind := range []byte{unix.NLMSG_DONE, unix.NLMSG_ERROR} {
		end := append([]byte{20, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, noEntry...)
		done, err := parsePiece(end, func([]byte) error { return nil })
		if !done || !errors.Is(err, unix.ENOENT) {
			t.Errorf("message %d: done %v, %v", kind, done, err)
		}
	}
}

func nested(list ...Attribute) []byte {
	var value []byte
	for _, a := range list {
		value = a.append(value)
	}
	return value
}

// FuzzParseEntry checks that the parser accepts any message of the kernel, and that a deletion
// names the listed entry.
func FuzzParseEntry(f *testing.F) {
	addresses := nested(Attribute{ctaIPv4Src, []byte{10, 0, 0, 1}},
		Attribute{ctaIPv4Dst, []byte{10, 0, 0, 2}})
	ports := nested(Attribute{ctaProtoNum, []byte{6}}, Attribute{ctaProtoTarget, []byte{0, 80}})
	tuple := nested(Attribute{ctaTupleIP, addresses}, Attribute{ctaTupleProto, ports})
	f.Add(nested(Attribute{ctaTupleOrig, tuple}, Attribute{ctaID, []byte{1, 2, 3, 4}}))
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
			cmpopts.IgnoreFields(Entry{}, "State", "Replied", "Assured", "Offloaded", "Reply",
				"Left", "Helper"), cmpopts.EquateEmpty(),
		}
		if len(data) < 1<<15 {
			if d := cmp.Diff(e, again, same); d != "" {
				t.Error(d)
			}
		}
	})
}
