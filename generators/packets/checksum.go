// Package packets makes Ethernet frames from templates and parses the answers. It is pure:
// addresses in, bytes out.
package packets

import "encoding/binary"

// sum adds data to an unfolded one's complement sum (RFC 1071). Data of odd length counts as if a
// zero byte followed, so only the last piece may have one.
func sum(sum uint64, data []byte) uint64 {
	for len(data) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(data))
		data = data[4:]
	}
	if len(data) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(data))
		data = data[2:]
	}
	if len(data) == 1 {
		sum += uint64(data[0]) << 8
	}
	return sum
}

// fold reduces an unfolded sum to 16 bits.
func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// Checksum returns the Internet checksum of data (RFC 1071).
func Checksum(data []byte) uint16 { return ^fold(sum(0, data)) }

// update returns the checksum after a part of the data changed. It computes it from the old
// checksum and the unfolded sums of the old and the new part: HC' = ~(~HC + ~m + m') (RFC 1624,
// equation 3, which unlike RFC 1141's gives the right one of the two zeros).
func update(checksum uint16, before, after uint64) uint16 {
	return ^fold(uint64(^checksum) + uint64(^fold(before)) + after)
}
