package capture

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Pseudonyms replaces the addresses of a capture, so that none leaves the host: the same address
// has the same pseudonym in entries and rules. The pseudonyms are IPv4 addresses of 240.0.0.0/4 and
// IPv6 addresses of 100::/64 (RFC 6666), which no host has.
//
// The first bit behind these ranges tells private addresses (0) from public ones.
type Pseudonyms struct {
	// Comments keeps the comments and the prefixes of log lines that rules have.
	Comments bool

	keep     bool // of prefixes
	cipher   cipher.Block
	padding  [aes.BlockSize]byte
	known    map[netip.Addr]netip.Addr
	ports    [1 << 16]uint16 // the number of each; 0: none yet
	nextPort uint16          // the next number, unless it is a service
	// services are the ports that stay, since they tell what a connection asked for.
	services [1 << 16]bool
	four     map[bool]uint32 // numbers given to private and to other addresses
	six      map[bool]uint64
}

// NewPseudonyms makes pseudonyms that are unlike those of any other capture: addresses are numbered
// in the order in which they are met. With keepPrefixes two addresses share as long a prefix as
// their pseudonyms do (Crypto-PAn; Xu, Fan, Ammar, Moon: Prefix-Preserving IP Address
// Anonymization, 2002), under a random key that is thrown away.
func NewPseudonyms(keepPrefixes bool) (*Pseudonyms, error) {
	p := &Pseudonyms{keep: keepPrefixes, known: map[netip.Addr]netip.Addr{},
		nextPort: lastSystemPort + 1, four: map[bool]uint32{}, six: map[bool]uint64{}}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("make a key for pseudonyms: %w", err)
	}
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, fmt.Errorf("make a key for pseudonyms: %w", err)
	}
	p.cipher = block
	block.Encrypt(p.padding[:], key[16:])
	return p, nil
}

// Hide replaces the addresses, and the ports that are no services, in the whole capture.
func (p *Pseudonyms) Hide(c *Capture) {
	p.findServices(c.Table.Entries)
	for i := range c.Table.Entries {
		e := &c.Table.Entries[i]
		p.tuple(&e.Original)
		p.tuple(&e.Reply)
	}
	for i, a := range c.Own {
		c.Own[i] = p.Address(a)
	}
	for i := range c.Table.Holders {
		c.Table.Holders[i].Address = p.Address(c.Table.Holders[i].Address)
	}
	for _, text := range []*string{&c.Rules.IPv4, &c.Rules.IPv6, &c.Rules.NFT} {
		*text = p.Text(*text)
	}
	for _, text := range []*string{&c.Rules.IPv4, &c.Rules.IPv6, &c.Rules.NFT} {
		*text = numbers.ReplaceAllStringFunc(*text, p.number) // now all addresses are known
	}
	sets := map[string]int64{}
	for name, n := range c.Rules.Sets {
		sets[p.Text(name)] = n
	}
	c.Rules.Sets = sets
	maps.DeleteFunc(c.Settings, func(key, value string) bool { return !told(key, value) })
}

// told reports whether a setting is one of connection tracking or of neighbours: others tell about
// the host, as kernel.hostname does, and nothing about its table.
func told(key, value string) bool {
	return strings.HasPrefix(key, "net.netfilter.") ||
		strings.Contains(key, ".neigh.default.gc_thresh") && !addresses.MatchString(value)
}

// lastSystemPort is the last of the ports that name services alone (RFC 6335).
const lastSystemPort = 1023

// serviceShare is the least share of the entries that a high destination port must have to count
// as a service.
const serviceShare = 0.005

// findServices finds the destination ports that tell what connections ask for: those below 1024,
// and those that many entries share.
func (p *Pseudonyms) findServices(entries []Entry) {
	var counts [1 << 16]int
	for _, e := range entries {
		counts[e.Original.DestinationPort]++
		if e.Reply.SourcePort != e.Original.DestinationPort { // the port after translation
			counts[e.Reply.SourcePort]++
		}
	}
	for port, n := range counts {
		p.services[port] = port <= lastSystemPort ||
			n > 1 && float64(n) >= serviceShare*float64(len(entries))
	}
}

// tuple replaces addresses and ports.
func (p *Pseudonyms) tuple(t *Tuple) {
	t.Source, t.Destination = p.Address(t.Source), p.Address(t.Destination)
	t.SourcePort, t.DestinationPort = p.port(t.SourcePort), p.port(t.DestinationPort)
}

// port numbers the ports that are no services, behind those of the system; 0 is none.
func (p *Pseudonyms) port(port uint16) uint16 {
	if port <= lastSystemPort || p.services[port] {
		return port
	}
	if p.ports[port] == 0 {
		for p.services[p.nextPort] {
			p.nextPort++
		}
		p.ports[port] = p.nextPort
		p.nextPort++
	}
	return p.ports[port]
}

// Address returns the pseudonym of an address. Addresses that tell nothing of a host stay:
// loopback, unspecified, multicast, broadcast.
func (p *Pseudonyms) Address(a netip.Addr) netip.Addr {
	switch a = a.Unmap(); {
	case !a.IsValid(), a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(),
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a
	}
	if known, ok := p.known[a]; ok {
		return known
	}
	var pseudonym netip.Addr
	switch {
	case p.keep:
		pseudonym = p.prefixed(a)
	case a.Is4():
		p.four[Private(a)]++
		pseudonym = four(p.four[Private(a)], Private(a))
	default:
		p.six[Private(a)]++
		pseudonym = six(p.six[Private(a)], Private(a))
	}
	p.known[a] = pseudonym
	return pseudonym
}

// ranges of the pseudonyms of private and of public addresses.
var (
	private4, public4 = netip.MustParsePrefix("240.0.0.0/5"), netip.MustParsePrefix("248.0.0.0/5")
	private6, public6 = netip.MustParsePrefix("100::/65"),
		netip.MustParsePrefix("100:0:0:0:8000::/65")
	shared = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
)

// Private reports whether an address, or the one that a pseudonym stands for, is one of a private
// network (RFC 1918, RFC 4193) or of a provider's own (RFC 6598).
func Private(a netip.Addr) bool {
	return a.IsPrivate() || shared.Contains(a) || private4.Contains(a) || private6.Contains(a)
}

// four returns an address of 240.0.0.0/4, six one of 100::/64.
func four(n uint32, private bool) netip.Addr {
	b := public4.Addr().As4()
	if private {
		b = private4.Addr().As4()
	}
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|n&0x07ffffff)
	return netip.AddrFrom4(b)
}

func six(n uint64, private bool) netip.Addr {
	b := public6.Addr().As16()
	if private {
		b = private6.Addr().As16()
	}
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])|n&^(1<<63))
	return netip.AddrFrom16(b)
}

// prefixed returns the pseudonym that keeps prefixes: each bit is flipped or not by a function of
// the bits before it. The first bits of the range of pseudonyms cost as many of the address: of
// IPv4 the last five, of IPv6 all but the 63 that follow the first 16.
func (p *Pseudonyms) prefixed(a netip.Addr) netip.Addr {
	b := a.AsSlice()
	bits := min(len(b)*8, 64+16)
	var out []byte
	for i := range bits {
		if i%8 == 0 {
			out = append(out, 0)
		}
		block := p.padding
		copy(block[:], b[:i/8])
		if i%8 > 0 {
			mask := byte(0xff) << (8 - i%8)
			block[i/8] = b[i/8]&mask | p.padding[i/8]&^mask
		}
		p.cipher.Encrypt(block[:], block[:])
		bit := b[i/8]>>(7-i%8)&1 ^ block[0]>>7
		out[i/8] |= bit << (7 - i%8)
	}
	if a.Is4() {
		return four(binary.BigEndian.Uint32(out)>>5, Private(a))
	}
	return six(binary.BigEndian.Uint64(out[2:10])>>1, Private(a))
}

var (
	// addresses are words of rules that may be an address, with a length or the end of a range.
	addresses = regexp.MustCompile(
		`([0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*[0-9A-Fa-f:])(?:/(\d+)|-([0-9A-Fa-f.:]+))?`)
	// hardware are addresses of network cards.
	hardware = regexp.MustCompile(`\b[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}\b`)
	// separated are addresses in names of chains and sets, which may have no dots.
	separated = regexp.MustCompile(`\d{1,3}(?:_\d{1,3}){3}|\d{1,3}(?:-\d{1,3}){3}`)
	// numbers are words that may be an address as a number, as u32 and raw payloads have it.
	numbers = regexp.MustCompile(`\b(?:0x[0-9A-Fa-f]{31,32}|0x[0-9A-Fa-f]{7,8}|\d{8,10})\b`)
	// comments and logPrefixes match texts that the author of the rules wrote.
	comments = regexp.MustCompile(`(?m)^#.*\n| *-m comment\b|` +
		` *--comment (?:"(?:\\.|[^"\\])*"|\S+)| *comment "(?:\\.|[^"\\])*"`)
	logPrefixes = regexp.MustCompile(`(--log-prefix|log prefix) (?:"(?:\\.|[^"\\])*"|\S+)`)
)

// Text replaces the addresses in rules, and leaves out the words of their author, comments and
// prefixes of log lines, unless Comments keeps them. A range becomes its first address, a network
// one address, since numbers keep no neighbours; where prefixes are kept, a network stays one.
func (p *Pseudonyms) Text(rules string) string {
	if !p.Comments {
		rules = comments.ReplaceAllString(rules, "")
		rules = logPrefixes.ReplaceAllString(rules, `$1 "x"`)
	}
	rules = hardware.ReplaceAllString(rules, "02:00:00:00:00:00")
	rules = separated.ReplaceAllStringFunc(rules, func(s string) string {
		separator := s[strings.IndexAny(s, "_-")]
		a, err := netip.ParseAddr(strings.ReplaceAll(s, string(separator), "."))
		if err != nil {
			return s
		}
		return strings.ReplaceAll(p.Address(a).String(), ".", string(separator))
	})
	return addresses.ReplaceAllStringFunc(rules, func(s string) string {
		m := addresses.FindStringSubmatch(s)
		word, length := m[1], m[2]
		if a, err := netip.ParseAddr(word); err == nil {
			return p.network(a, length)
		}
		// An IPv4 address with a port, as in --to-destination 192.0.2.1:80.
		if host, port, ok := strings.Cut(word, ":"); ok && !strings.Contains(port, ":") {
			if a, err := netip.ParseAddr(host); err == nil {
				return p.Address(a).String() + ":" + strings.TrimPrefix(s, host+":")
			}
		}
		return s
	})
}

// number replaces a number that is a known address, in either order of its bytes.
func (p *Pseudonyms) number(s string) string {
	n, ok := new(big.Int).SetString(s, 0)
	const bytes4 = 4
	length := bytes4
	if len(s) > len("0x")+2*bytes4 {
		length = 16
	}
	if !ok || n.BitLen() > 8*length {
		return s
	}
	b := n.FillBytes(make([]byte, length))
	for range 2 {
		a, _ := netip.AddrFromSlice(b)
		if pseudonym, known := p.known[a]; known {
			n.SetBytes(pseudonym.AsSlice())
			if strings.HasPrefix(s, "0x") {
				return fmt.Sprintf("%#x", n)
			}
			return n.String()
		}
		slices.Reverse(b)
	}
	return s
}

// network returns the pseudonym of a network, or of an address without a length.
func (p *Pseudonyms) network(a netip.Addr, length string) string {
	bits, err := strconv.Atoi(length)
	pseudonym := p.Address(a)
	switch {
	case err != nil, bits > a.BitLen(), bits == 0, pseudonym == a && length != "":
		if length != "" {
			return pseudonym.String() + "/" + length
		}
		return pseudonym.String()
	case !p.keep:
		return pseudonym.String()
	case a.Is4():
		bits = min(bits+5, 32)
	default:
		bits = max(65, min(bits-16+65, 128))
	}
	return netip.PrefixFrom(pseudonym, bits).Masked().String()
}
