package packets

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var link = Link{
	Source: HardwareAddress{2, 0, 0, 0, 0, 1}, Target: HardwareAddress{2, 0, 0, 0, 0, 2},
}

// verify computes the checksums of a frame from scratch, as RFC 1071 and 9293 define them.
func verify(t *testing.T, frame []byte) {
	t.Helper()
	plain := func(pieces ...[]byte) uint16 {
		data := bytes.Join(pieces, nil)
		if len(data)%2 == 1 {
			data = append(data, 0)
		}
		var sum uint32
		for i := 0; i < len(data); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(data[i:]))
			sum = sum>>16 + sum&0xffff
		}
		return uint16(sum)
	}
	ip := frame[14:]
	upper, protocol, addresses := ip[20:], ip[9], ip[12:20]
	if ip[0]>>4 == 6 {
		upper, protocol, addresses = ip[40:], ip[6], ip[8:40]
	} else if got := plain(ip[:20]); got != 0xffff {
		t.Errorf("the IPv4 header adds up to %#04x, not to 0xffff", got)
	}
	pseudo := binary.BigEndian.AppendUint32(bytes.Clone(addresses), uint32(len(upper)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(protocol))
	if protocol == protocolICMP {
		pseudo = nil
	}
	if protocol == protocolUDP && binary.BigEndian.Uint16(upper[6:]) == 0 {
		t.Error("a datagram says that it has no checksum")
	}
	if got := plain(pseudo, upper); got != 0xffff {
		t.Errorf("protocol %d adds up to %#04x, not to 0xffff", protocol, got)
	}
}

func randomAddress(random *rand.Rand, six bool) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	if six {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// TestTemplates checks that the checksums of a frame stay right over many patches, also where one's
// complement has two zeros.
func TestTemplates(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, six := range []bool{false, true} {
		tcp := NewTCP(link, six, SYN, nil)
		data := NewTCP(link, six, PSH|ACK, []byte("odd"))
		echo := NewEcho(link, six, []byte("payload"))
		verify(t, tcp.Frame)
		verify(t, data.Frame)
		verify(t, echo.Frame)
		for _, template := range []*Template{&tcp, &data} {
			frame := bytes.Clone(template.Frame)
			for i := range 2000 {
				source := netip.AddrPortFrom(randomAddress(random, six), uint16(random.Uint32()))
				target := netip.AddrPortFrom(randomAddress(random, six), uint16(random.Uint32()))
				sequence, acknowledged := random.Uint32(), random.Uint32()
				if i%10 == 0 {
					source = netip.AddrPortFrom(source.Addr(), 0)
					target, sequence = netip.AddrPortFrom(target.Addr(), 0xffff), 0
					acknowledged = 0xffffffff
				}
				template.SetTCP(frame, source, target, sequence, acknowledged)
				verify(t, frame)
				got := Parse(frame)
				want := Answer{
					Kind: Segment, Source: target, Target: source, Sequence: sequence,
					Acknowledged: acknowledged, Flags: Flags(frame[template.upper+13]),
				}
				if template == &data {
					want.Payload = len("odd")
				} else {
					want.Kind, want.Source, want.Target = Opening, source, target
				}
				same := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
				if diff := cmp.Diff(want, got, same); diff != "" {
					t.Fatal(diff)
				}
			}
		}
		for _, payload := range []string{"", "odd", "even"} {
			udp := NewUDP(link, six, []byte(payload))
			verify(t, udp.Frame)
			frame := bytes.Clone(udp.Frame)
			for i := range 2000 {
				source := netip.AddrPortFrom(randomAddress(random, six), uint16(random.Uint32()))
				target := netip.AddrPortFrom(randomAddress(random, six), uint16(random.Uint32()))
				if i%10 == 0 {
					source = netip.AddrPortFrom(source.Addr(), 0)
					target = netip.AddrPortFrom(target.Addr(), 0xffff)
				}
				udp.SetUDP(frame, source, target)
				verify(t, frame)
				checkUDP(t, frame, source, target, payload)
			}
		}
		frame := bytes.Clone(echo.Frame)
		for range 2000 {
			echo.SetEcho(frame, randomAddress(random, six), randomAddress(random, six),
				uint16(random.Uint32()), uint16(random.Uint32()))
			verify(t, frame)
		}
	}
}

// checkUDP parses a datagram and compares it with its parameters.
func checkUDP(t *testing.T, frame []byte, source, target netip.AddrPort, payload string) {
	t.Helper()
	ip := parseIP(frame[ethernetSize:])
	size := udpSize + len(payload)
	if ip.protocol != protocolUDP || ip.length != size || len(ip.upper) != size {
		t.Fatalf("no datagram of %d bytes: %x", len(payload), frame)
	}
	from := netip.AddrPortFrom(ip.source, binary.BigEndian.Uint16(ip.upper))
	to := netip.AddrPortFrom(ip.target, binary.BigEndian.Uint16(ip.upper[2:]))
	length := int(binary.BigEndian.Uint16(ip.upper[4:]))
	if from != source || to != target || length != ip.length ||
		string(ip.upper[udpSize:]) != payload {
		t.Fatalf("%d bytes %q from %s to %s, want %q from %s to %s",
			length, ip.upper[udpSize:], from, to, payload, source, target)
	}
}

// TestNoChecksumOfZero checks that one source port makes the checksum 0, which is sent as 0xffff,
// since 0 says that a datagram has no checksum. The checksums of the following ports are right
// again.
func TestNoChecksumOfZero(t *testing.T) {
	for _, six := range []bool{false, true} {
		source, target := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort("10.0.0.2:53")
		if six {
			source, target = netip.MustParseAddr("fd00::1"), netip.MustParseAddrPort("[fd00::2]:53")
		}
		template := NewUDP(link, six, []byte("payload"))
		found := 0
		for port := range 1 << 16 {
			template.SetUDP(template.Frame, netip.AddrPortFrom(source, uint16(port)), target)
			verify(t, template.Frame)
			if binary.BigEndian.Uint16(template.Frame[template.checksum:]) == 0xffff {
				found++
			}
		}
		if found == 0 {
			t.Error("no port has a checksum of 0xffff")
		}
	}
}

// TestUpdateRFC1624 checks the example of RFC 1624, section 4: where RFC 1141's equation gives
// 0xffff, the right answer is 0.
func TestUpdateRFC1624(t *testing.T) {
	if got := update(0xdd2f, 0x5555, 0x3285); got != 0 {
		t.Errorf("got %#04x, want 0", got)
	}
}

func TestUpdateEqualsChecksum(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range 100_000 {
		data := make([]byte, 2+2*random.IntN(20))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		before := Checksum(data)
		at := 2 * random.IntN(len(data)/2)
		old := sum(0, data[at:at+2])
		binary.BigEndian.PutUint16(data[at:], uint16(random.Uint32()))
		got := update(before, old, sum(0, data[at:at+2]))
		if want := Checksum(data); got != want && !(fold(sum(0, data)) == 0 && got == 0) {
			t.Fatalf("%x: updated to %#04x, computed %#04x", data, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	source := netip.MustParseAddrPort("10.0.0.1:1234")
	target := netip.MustParseAddrPort("10.0.0.2:80")
	inner := NewTCP(link, false, SYN, nil)
	inner.SetTCP(inner.Frame, source, target, 77, 0)
	quotation := inner.Frame[14 : 14+28] // the length that RFC 792 guarantees
	for _, test := range []struct {
		name string
		code byte
		want AnswerKind
	}{{"host", 1, Unreachable}, {"port", 3, Refusing}, {"prohibited", 13, Unreachable}} {
		t.Run(test.name, func(t *testing.T) {
			outer := NewEcho(link, false, quotation)
			outer.SetEcho(outer.Frame, target.Addr(), source.Addr(), 0, 0)
			outer.Frame[34], outer.Frame[35] = 3, test.code
			got := Parse(outer.Frame)
			if got.Kind != test.want || got.Source != source || got.Target != target ||
				got.Sequence != 77 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestParseHardwareAddress(t *testing.T) {
	got, err := ParseHardwareAddress("02:00:0a:FF:00:10")
	if want := (HardwareAddress{2, 0, 10, 255, 0, 16}); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{
		"", "02:00:00:00:00", "02:00:00:00:00:zz", "02:00:00:00:00:01:02",
	} {
		if got, err := ParseHardwareAddress(bad); err == nil {
			t.Errorf("%q read as %v", bad, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, six := range []bool{false, true} {
		tcp, echo := NewTCP(link, six, SYN|ACK, nil), NewEcho(link, six, nil)
		f.Add(tcp.Frame)
		f.Add(echo.Frame)
		f.Add(NewEcho(link, six, tcp.Frame[14:]).Frame)
		f.Add(NewUDP(link, six, nil).Frame)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		a := Parse(frame)
		if a.Kind != Unrelated && (!a.Source.IsValid() || !a.Target.IsValid()) {
			t.Errorf("%+v without addresses", a)
		}
	})
}

func BenchmarkSetUDP(b *testing.B) {
	template := NewUDP(link, false, nil)
	source := netip.MustParseAddrPort("10.0.0.1:1234")
	target := netip.MustParseAddrPort("10.0.0.2:80")
	for b.Loop() {
		template.SetUDP(template.Frame, source, target)
	}
}

func BenchmarkSetTCP(b *testing.B) {
	template := NewTCP(link, false, SYN, nil)
	source := netip.MustParseAddrPort("10.0.0.1:1234")
	target := netip.MustParseAddrPort("10.0.0.2:80")
	for b.Loop() {
		template.SetTCP(template.Frame, source, target, 1, 2)
	}
}
