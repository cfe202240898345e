// Package ctnetlink lists and removes entries of the connection-tracking table of the calling
// thread's network namespace, and asks for other listings of netfilter (CAP_NET_ADMIN). The first
// message makes the kernel load nf_conntrack_netlink, where that is an absent module.
package ctnetlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// The messages, from include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const (
	getEntries   = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	deleteEntry  = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
	HeaderLength = 4                                 // of struct nfgenmsg
)

const (
	// walkLimit bounds one read of a walk. The kernel answers at once; covers a stopped node.
	walkLimit = 5 * time.Second
	// removeLimit bounds one answer to a removal: a flush of 200,000 entries takes a second under
	// emulation.
	removeLimit = 20 * time.Second
)

// dial opens a netfilter socket whose reads end after limit.
func dial(limit time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open a netfilter socket: %w", err)
	}
	wait := unix.NsecToTimeval(limit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		err = fmt.Errorf("set a time limit for the netfilter socket: %w", err)
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// Dump asks netfilter for a listing, by subsystem<<8 | message, and passes each message to each: a
// struct nfgenmsg and attributes. It handles the pieces as the kernel sends them: a library would
// gather the whole answer first, for which a guest of 512 MiB has no room.
func Dump(
	ctx context.Context, kind uint16, family uint8, each func([]byte) error, about ...Attribute,
) (err error) {
	fd, err := dial(walkLimit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := send(fd, appendMessage(nil, kind, unix.NLM_F_DUMP, family, about...)); err != nil {
		return fmt.Errorf("ask netfilter: %w", err)
	}
	buffer := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece, err := receive(fd, buffer)
		if err != nil {
			return fmt.Errorf("read netfilter's answer: %w", err)
		}
		if done, err := parsePiece(piece, each); done || err != nil {
			return err
		}
	}
}

// parsePiece reads the messages of one piece of a listing and reports whether it was the last.
func parsePiece(piece []byte, each func([]byte) error) (done bool, err error) {
	err = messages(piece, func(kind uint16, payload []byte) error {
		switch {
		case done || kind == unix.NLMSG_NOOP:
		case kind == unix.NLMSG_DONE && len(payload) == 0:
			done = true
		case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR:
			done = true
			errno, err := errnoOf(payload)
			if err == nil && errno != 0 {
				err = fmt.Errorf("netfilter refused: %w", errno)
			}
			return err
		case len(payload) < HeaderLength:
			return fmt.Errorf("%w: message of %d bytes", ErrFormat, len(payload))
		default:
			return each(payload)
		}
		return nil
	})
	return done, err
}

// Walk lists the table and passes each entry to each.
func Walk(ctx context.Context, each func(Entry) error) error {
	return Dump(ctx, getEntries, unix.AF_UNSPEC, entries(each))
}

// entries parses each message as an entry.
func entries(each func(Entry) error) func([]byte) error {
	return func(message []byte) error {
		e, err := parseEntry(message[HeaderLength:])
		if err != nil {
			return err
		}
		return each(e)
	}
}

// Flush removes every entry.
func Flush() error {
	return removing(func(fd int) error {
		_, err := exchange(fd, appendMessage(nil, deleteEntry, unix.NLM_F_ACK, unix.AF_UNSPEC), 1)
		return err
	})
}

// deletionsAtOnce is the number of entries removed with one system call: their answers fit into the
// socket's buffer several times.
const deletionsAtOnce = 64

// Remove removes the matching entries and returns how many matched and how many of those had
// already gone. It walks the table once, and may miss entries that come meanwhile.
func Remove(ctx context.Context, matches func(Entry) bool) (matched, gone int, err error) {
	err = removing(func(fd int) error {
		var batch []byte
		queued := 0
		flush := func() error {
			n, err := exchange(fd, batch, queued)
			gone += n
			batch, queued = batch[:0], 0
			return err
		}
		err := Walk(ctx, func(e Entry) error {
			if !matches(e) {
				return nil
			}
			matched++
			batch = e.appendDeletion(batch)
			if queued++; queued < deletionsAtOnce {
				return nil
			}
			return flush()
		})
		if err == nil && queued > 0 {
			err = flush()
		}
		if err != nil {
			return fmt.Errorf("remove entries from the table: %w", err)
		}
		return nil
	})
	return matched, gone, err
}

func removing(remove func(fd int) error) error {
	fd, err := dial(removeLimit)
	if err != nil {
		return err
	}
	return errors.Join(remove(fd), unix.Close(fd))
}

// exchange sends messages and waits for the answer to each. It counts missing entries; any other
// refusal is the error.
func exchange(fd int, batch []byte, number int) (gone int, err error) {
	if err := send(fd, batch); err != nil {
		return 0, fmt.Errorf("ask ctnetlink: %w", err)
	}
	buffer := make([]byte, 16<<10)
	for answered := 0; answered < number; {
		answers, err := receive(fd, buffer)
		if err != nil {
			return gone, fmt.Errorf("wait for ctnetlink: %w", err)
		}
		err = messages(answers, func(kind uint16, payload []byte) error {
			answered++
			errno, err := errnoOf(payload)
			switch {
			case err != nil || kind != unix.NLMSG_ERROR:
				return fmt.Errorf("%w: answer of kind %d, %d bytes", ErrFormat, kind, len(payload))
			case errno == unix.ENOENT:
				gone++
			case errno != 0:
				return fmt.Errorf("ctnetlink refused: %w", errno)
			}
			return nil
		})
		if err != nil {
			return gone, err
		}
	}
	return gone, nil
}

func send(fd int, data []byte) error {
	return unix.Sendto(fd, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func receive(fd int, buffer []byte) ([]byte, error) {
	for {
		n, _, flags, _, err := unix.Recvmsg(fd, buffer, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("a piece of more than %d bytes", len(buffer))
		default:
			return buffer[:n], nil
		}
	}
}

// messages calls each for every message in data.
func messages(data []byte, each func(kind uint16, payload []byte) error) error {
	for len(data) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(data))
		if length < unix.SizeofNlMsghdr || length > len(data) {
			return fmt.Errorf("%w: message of %d bytes in %d", ErrFormat, length, len(data))
		}
		kind := binary.NativeEndian.Uint16(data[4:])
		if err := each(kind, data[unix.SizeofNlMsghdr:length]); err != nil {
			return err
		}
		data = data[min(align(length), len(data)):]
	}
	return nil
}

// errnoOf reads the payload of an NLMSG_ERROR; 0 is an acknowledgement.
func errnoOf(payload []byte) (unix.Errno, error) {
	if len(payload) < 4 {
		return 0, fmt.Errorf("%w: error of %d bytes", ErrFormat, len(payload))
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(payload))), nil
}

// appendDeletion appends the message that removes an entry: exactly that one, not a later one of
// the same tuple (CTA_ID).
func (e Entry) appendDeletion(batch []byte) []byte {
	family := uint8(unix.AF_INET)
	if e.Source.Is6() {
		family = unix.AF_INET6
	}
	return appendMessage(batch, deleteEntry, unix.NLM_F_ACK, family,
		Attribute{ctaTupleOrig | unix.NLA_F_NESTED, e.tuple},
		Attribute{ctaZone, e.zone}, Attribute{ctaID, e.id})
}

// Attribute is one netlink attribute of a question.
type Attribute struct {
	Kind  uint16
	Value []byte // nil: the attribute is omitted
}

// appendMessage appends struct nlmsghdr, struct nfgenmsg and the attributes.
func appendMessage(batch []byte, kind, flags uint16, family uint8, about ...Attribute) []byte {
	begin := len(batch)
	batch = append(batch, 0, 0, 0, 0) // the length, known at the end
	batch = binary.NativeEndian.AppendUint16(batch, kind)
	batch = binary.NativeEndian.AppendUint16(batch, unix.NLM_F_REQUEST|flags)
	batch = append(batch, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port
	batch = append(batch, family, unix.NFNETLINK_V0, 0, 0)
	for _, a := range about {
		if a.Value != nil {
			batch = a.append(batch)
		}
	}
	binary.NativeEndian.PutUint32(batch[begin:], uint32(len(batch)-begin))
	return batch
}

func (a Attribute) append(message []byte) []byte {
	message = binary.NativeEndian.AppendUint16(message, uint16(unix.SizeofNlAttr+len(a.Value)))
	message = binary.NativeEndian.AppendUint16(message, a.Kind)
	message = append(message, a.Value...)
	return append(message, make([]byte, align(len(message))-len(message))...)
}

// ErrFormat means that a message does not have the format of ctnetlink.
var ErrFormat = errors.New("not the format of ctnetlink")

// Attributes calls each for every netlink attribute in data, without copying. The numbers come
// without the flags that share their field.
func Attributes(data []byte, each func(kind int, value []byte) error) error {
	const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
	for len(data) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(data))
		kind := int(binary.NativeEndian.Uint16(data[2:])) &^ flags
		if length < unix.SizeofNlAttr || length > len(data) {
			err := fmt.Errorf("attribute %d of %d bytes in %d", kind, length, len(data))
			return fmt.Errorf("%w: %w", ErrFormat, err)
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
