package tuples

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddresses(t *testing.T) {
	for _, test := range []struct {
		text, want string
		count      uint64
		first      string
		last       string
	}{
		{"10.0.0.1", "10.0.0.1", 1, "10.0.0.1", "10.0.0.1"},
		{"10.0.0.0/30", "10.0.0.1-10.0.0.2", 2, "10.0.0.1", "10.0.0.2"},
		{"10.0.0.0/31", "10.0.0.0-10.0.0.1", 2, "10.0.0.0", "10.0.0.1"},
		{
			"10.0.0.250-10.0.1.5, 10.9.9.9", "10.0.0.250-10.0.1.5,10.9.9.9", 13, "10.0.0.250",
			"10.9.9.9",
		},
		{"10.0.0.0/8", "10.0.0.1-10.255.255.254", 1<<24 - 2, "10.0.0.1", "10.255.255.254"},
		{"fd00::/64", "", 0, "", ""},
		{"fd00::/112", "fd00::-fd00::ffff", 65536, "fd00::", "fd00::ffff"},
		{
			"fd00::ffff:ffff:ffff:fffe-fd00:0:0:1::1", "fd00::ffff:ffff:ffff:fffe-fd00:0:0:1::1", 4,
			"fd00::ffff:ffff:ffff:fffe", "fd00:0:0:1::1",
		},
		{"::ffff:10.0.0.7", "10.0.0.7", 1, "10.0.0.7", "10.0.0.7"},
		{"10.0.0.1,fd00::1", "", 0, "", ""},
		{"10.0.0.1,10.0.0.0/24", "", 0, "", ""},
		{"10.0.0.9-10.0.0.1", "", 0, "", ""},
		{"localhost", "", 0, "", ""},
		{"", "", 0, "", ""},
	} {
		t.Run(test.text, func(t *testing.T) {
			got, err := ParseAddresses(test.text)
			if test.count == 0 {
				if err == nil {
					t.Fatalf("accepted as %s", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != test.want || got.Len() != test.count {
				t.Errorf("got %s, %d addresses; want %s, %d", got, got.Len(), test.want, test.count)
			}
			first, last := got.At(0).String(), got.At(got.Len()-1).String()
			if first != test.first || last != test.last {
				t.Errorf("from %s to %s, want from %s to %s", first, last, test.first, test.last)
			}
		})
	}
}

func TestParsePorts(t *testing.T) {
	got, err := ParsePorts("80, 8000-8003,65535")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint16{80, 8000, 8001, 8002, 8003, 65535}, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "0", "1-", "9-8", "80,79-81", "65536", "http", "1-65536"} {
		if ports, err := ParsePorts(bad); err == nil {
			t.Errorf("%q accepted as %v", bad, ports)
		}
	}
}

// randomSpace returns a space of up to a few thousand tuples. Any of its dimensions may be empty.
func randomSpace(t testing.TB, random *rand.Rand) Space {
	t.Helper()
	var space Space
	if random.IntN(4) > 0 {
		space.Sources = parse(t,
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, 0}), 26+random.IntN(6)).String())
	}
	if random.IntN(4) > 0 {
		space.Targets = parse(t,
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, 0, 0}), 29+random.IntN(4)).String())
	}
	for p := range random.IntN(9) {
		space.SourcePorts = append(space.SourcePorts, uint16(1024+p))
	}
	for p := range random.IntN(9) {
		space.TargetPorts = append(space.TargetPorts, uint16(80+p))
	}
	return space
}

func parse(t testing.TB, text string) Addresses {
	t.Helper()
	a, err := ParseAddresses(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAllocatorProperties checks that the allocator yields every tuple once before any repeats and
// the same walk for the same seed, and Index inverts Split.
func TestAllocatorProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		space, seed := randomSpace(t, random), random.Uint64N(5)
		a, err := NewAllocator(space, seed)
		if err != nil {
			t.Fatal(err)
		}
		again, err := NewAllocator(space, seed)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[Tuple]uint64, a.Len())
		for i := range a.Len() {
			tuple := a.At(i)
			if before, ok := seen[tuple]; ok {
				t.Fatalf("seed %d, %s: tuple %d repeats tuple %d: %v",
					seed, a.Describe(), i, before, tuple)
			}
			seen[tuple] = i
			if got := again.At(i); got != tuple {
				t.Fatalf("seed %d: tuple %d is %v and %v", seed, i, tuple, got)
			}
			if got, ok := a.Find(tuple); !ok || got != i {
				t.Fatalf("seed %d, %s: tuple %d is found at %d, %t", seed, a.Describe(), i, got, ok)
			}
			if got := a.Index(a.Split(i)); got != i {
				t.Fatalf("seed %d, %s: index of tuple %d is %d", seed, a.Describe(), i, got)
			}
		}
		if got, want := a.At(a.Len()+3), a.At(3%a.Len()); got != want {
			t.Fatalf("the walk does not begin again: %v, want %v", got, want)
		}
		stranger := Tuple{
			netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("192.0.2.1:9"),
		}
		named := space.Sources.Len()+space.Targets.Len() > 0 ||
			len(space.SourcePorts)+len(space.TargetPorts) > 0
		if _, ok := a.Find(stranger); ok && named {
			t.Fatalf("%s: a stranger was found", a.Describe())
		}
		if err := a.Check(a.Len()); err != nil {
			t.Fatal(err)
		}
		if err := a.Check(a.Len() + 1); !errors.Is(err, ErrExhausted) {
			t.Fatalf("one more than %d: %v", a.Len(), err)
		}
	}
}

// TestAllocatorLargeSpace checks that Index inverts Split where the products pass 64 bits. The
// space is too large to walk.
func TestAllocatorLargeSpace(t *testing.T) {
	ports, err := ParsePorts("1-65535")
	if err != nil {
		t.Fatal(err)
	}
	space := Space{
		Sources: parse(t, "10.0.0.0/11"), SourcePorts: ports, Targets: parse(t, "10.128.0.1"),
		TargetPorts: ports,
	}
	a, err := NewAllocator(space, 7)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		i := random.Uint64N(a.Len())
		if got := a.Index(a.Split(i)); got != i {
			t.Fatalf("index of tuple %d is %d", i, got)
		}
	}
	space.Targets = parse(t, "10.128.0.0/9")
	if _, err := NewAllocator(space, 7); err == nil {
		t.Error("a space of more than 2^62 tuples was accepted")
	}
}

func TestAllocatorOrder(t *testing.T) {
	space := Space{
		Sources: parse(t, "10.0.0.1,10.0.0.2"), SourcePorts: []uint16{5000},
		Targets: parse(t, "10.0.1.1"), TargetPorts: []uint16{80, 81},
	}
	a, err := NewAllocator(space, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range a.Len() {
		tuple := a.At(i)
		got = append(got, tuple.Source.String()+">"+tuple.Target.String())
	}
	want := []string{
		"10.0.0.1:5000>10.0.1.1:80", "10.0.0.1:5000>10.0.1.1:81",
		"10.0.0.2:5000>10.0.1.1:80", "10.0.0.2:5000>10.0.1.1:81",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	const text = "4 tuples (2 sources x 1 source port x 1 target x 2 target ports)"
	if a.Describe() != text {
		t.Errorf("described as %q, want %q", a.Describe(), text)
	}
}

func FuzzParseAddresses(f *testing.F) {
	for _, seed := range []string{
		"10.0.0.1", "10.0.0.0/8", "10.0.0.1-10.0.0.9,10.1.0.0/31", "fd00::/112", "fd00::1-fd00::5",
		"::ffff:1.2.3.4", "fe80::1%eth0", "-", "/", ",",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddresses(text)
		if err != nil {
			return
		}
		if a.Len() == 0 {
			t.Fatalf("%q: no address and no error", text)
		}
		first, last := a.At(0), a.At(a.Len()-1)
		if first.Is4() != a.Is4() || last.Is4() != a.Is4() {
			t.Fatalf("%q: %s to %s of mixed families", text, first, last)
		}
		again, err := ParseAddresses(a.String())
		if err != nil || again.Len() != a.Len() {
			t.Fatalf("%q prints as %q, which reads as %d addresses, %v; want %d",
				text, a, again.Len(), err, a.Len())
		}
	})
}

func FuzzParsePorts(f *testing.F) {
	for _, seed := range []string{"80", "1-65535", "80,81,8000-8010", "0", "-1", "65536", "9-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := ParsePorts(text)
		if err != nil {
			return
		}
		if len(ports) == 0 || slices.Contains(ports, 0) {
			t.Fatalf("%q: %v", text, ports)
		}
		again, err := ParsePorts(FormatPorts(ports))
		if err != nil || !slices.Equal(ports, again) {
			t.Fatalf("%q prints as %q, which reads as %v, %v", text, FormatPorts(ports), again, err)
		}
	})
}

func BenchmarkAllocator(b *testing.B) {
	ports, err := ParsePorts("1024-65535")
	if err != nil {
		b.Fatal(err)
	}
	a, err := NewAllocator(Space{
		Sources: parse(b, "10.0.0.0/16"), SourcePorts: ports, Targets: parse(b, "10.128.0.1"),
		TargetPorts: []uint16{80},
	}, 1)
	if err != nil {
		b.Fatal(err)
	}
	var i, sum uint64
	for b.Loop() {
		s, sp, _, _ := a.Split(i)
		sum += s + sp
		i++
	}
	_ = sum
}

func BenchmarkAt(b *testing.B) {
	ports, err := ParsePorts("1024-65535")
	if err != nil {
		b.Fatal(err)
	}
	a, err := NewAllocator(Space{
		Sources: parse(b, "10.0.0.0/16"), SourcePorts: ports, Targets: parse(b, "10.128.0.1"),
		TargetPorts: []uint16{80},
	}, 1)
	if err != nil {
		b.Fatal(err)
	}
	var i uint64
	for b.Loop() {
		a.At(i)
		i++
	}
}
