package samplers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ipctnlMsgCTGet = 1

	ctaTupleOrig = 1
	ctaStatus    = 3
	ctaProtoinfo = 4

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv6Src    = 3
	ctaProtoNum   = 1

	ctaProtoinfoTCP  = 1
	ctaProtoinfoSCTP = 3
	ctaProtoState    = 1 // CTA_PROTOINFO_TCP_STATE and its like

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
)

// walkNetlink lists the table through ctnetlink.
func walkNetlink(ctx context.Context, each func(entry)) error { return Walk(ctx, parsed(each)) }

// parsed adapts a function of entries to one of attributes.
func parsed(each func(entry)) func([]byte) error {
	return func(attributes []byte) error {
		e, err := parseEntry(attributes)
		if err == nil {
			each(e)
		}
		return err
	}
}

// Walk lists the connection-tracking table of the calling thread's network namespace through
// ctnetlink (CAP_NET_ADMIN) and passes the attributes of each entry to each; they are valid until
// each returns. It handles the pieces as the kernel sends them: mdlayher/netlink would gather the
// whole answer first, for which a guest of 512 MiB has no room.
func Walk(ctx context.Context, each func(attributes []byte) error) (err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	// The kernel answers at once; such a long silence is an error.
	patience := unix.NsecToTimeval(netlinkTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return fmt.Errorf("set a time limit for the netfilter socket: %w", err)
	}
	if err := unix.Sendto(fd, dumpRequest(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask ctnetlink for the table: %w", err)
	}
	buffer := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, _, flags, _, err := unix.Recvmsg(fd, buffer, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read the table from ctnetlink: %w", err)
		case flags&unix.MSG_TRUNC != 0:
			return fmt.Errorf("read the table from ctnetlink: a piece of more than %d bytes", len(buffer))
		}
		done, err := parseMessages(buffer[:n], each)
		if done || err != nil {
			return err
		}
	}
}

func dumpRequest() []byte {
	request := make([]byte, unix.SizeofNlMsghdr+nfgenmsgLength)
	binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], nfnlSubsysCTNetlink<<8|ipctnlMsgCTGet)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	// nfgenmsg: AF_UNSPEC, so both families; NFNETLINK_V0.
	return request
}

// parseDump reads the entries of one piece of the answer and reports whether it was the last.
func parseDump(data []byte, each func(entry)) (done bool, err error) {
	return parseMessages(data, parsed(each))
}

// parseMessages passes the attributes of each entry in one piece of the answer to each.
func parseMessages(data []byte, each func(attributes []byte) error) (done bool, err error) {
	for len(data) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(data))
		kind := binary.NativeEndian.Uint16(data[4:])
		if length < unix.SizeofNlMsghdr || length > len(data) {
			return false, fmt.Errorf("%w: message of %d bytes in %d", errNetlinkFormat, length, len(data))
		}
		payload := data[unix.SizeofNlMsghdr:length]
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(payload) < 4 {
				return false, fmt.Errorf("%w: error of %d bytes", errNetlinkFormat, len(payload))
			}
			if code := int32(binary.NativeEndian.Uint32(payload)); code != 0 {
				return false, fmt.Errorf("ctnetlink refused: %w", unix.Errno(-code))
			}
			return true, nil
		case unix.NLMSG_NOOP:
		default:
			if len(payload) < nfgenmsgLength {
				return false, fmt.Errorf("%w: entry of %d bytes", errNetlinkFormat, len(payload))
			}
			if err := each(payload[nfgenmsgLength:]); err != nil {
				return false, err
			}
		}
		data = data[min(align(length), len(data)):]
	}
	return false, nil
}

// parseEntry reads the attributes of one entry.
func parseEntry(data []byte) (entry, error) {
	e := entry{state: noState}
	err := attributes(data, func(kind int, value []byte) error {
		switch kind {
		case ctaTupleOrig:
			return attributes(value, func(kind int, value []byte) error {
				switch kind {
				case ctaTupleIP:
					return attributes(value, e.readAddress)
				case ctaTupleProto:
					return attributes(value, func(kind int, value []byte) error {
						if kind == ctaProtoNum && len(value) == 1 {
							e.protocol = value[0]
						}
						return nil
					})
				}
				return nil
			})
		case ctaStatus:
			if len(value) == 4 {
				status := binary.BigEndian.Uint32(value)
				e.replied, e.assured = status&ipsSeenReply != 0, status&ipsAssured != 0
			}
		case ctaProtoinfo:
			return attributes(value, func(kind int, value []byte) error {
				if kind != ctaProtoinfoTCP && kind != ctaProtoinfoSCTP {
					return nil
				}
				return attributes(value, func(kind int, value []byte) error {
					if kind == ctaProtoState && len(value) == 1 {
						e.state = value[0]
					}
					return nil
				})
			})
		}
		return nil
	})
	return e, err
}

func (e *entry) readAddress(kind int, value []byte) error {
	if kind == ctaIPv4Src && len(value) == 4 || kind == ctaIPv6Src && len(value) == 16 {
		e.source, _ = netip.AddrFromSlice(value)
	}
	return nil
}

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
