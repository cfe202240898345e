package samplers

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// attributeTypeMask removes the flags that share a field with an attribute's number.
const attributeTypeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

var errNetlinkFormat = errors.New("not the format of ctnetlink")

// Attributes calls each for every netlink attribute in data, without copying. The numbers come
// without the flags that share their field.
func Attributes(data []byte, each func(kind int, value []byte) error) error {
	return attributes(data, each)
}

// attributes calls each for every netlink attribute in data, without copying.
func attributes(data []byte, each func(kind int, value []byte) error) error {
	for len(data) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(data))
		kind := int(binary.NativeEndian.Uint16(data[2:]) & attributeTypeMask)
		if length < unix.SizeofNlAttr || length > len(data) {
			return fmt.Errorf("%w: attribute %d of %d bytes in %d", errNetlinkFormat, kind, length, len(data))
		}
		if err := each(kind, data[unix.SizeofNlAttr:length]); err != nil {
			return err
		}
		data = data[min(align(length), len(data)):]
	}
	return nil
}

// align rounds up to the four bytes that messages and attributes are aligned to.
func align(length int) int { return (length + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
