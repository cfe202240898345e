package libvirt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket"
)

// Libvirt's remote protocol carries a domain's channel and console as streams in both directions,
// for as long as the domain lives. go-libvirt's calls for them only read, so this file opens them
// on go-libvirt's socket: the calls that come before, then packets in both directions. Each stream
// has a connection of its own, since a slow reader stops the whole connection.

// Numbers of libvirt's remote protocol (remote_protocol.x); they never change.
const (
	remoteProgram     = 0x20008086
	procConnectOpen   = 1
	procAuthList      = 66
	procAuthPolkit    = 70
	procDomainConsole = 201
	procDomainChannel = 296

	authPolkit = 2
)

// streamChunk bounds the bytes in one packet: daemons before 1.0.2 take at most 262,120.
const streamChunk = 128 << 10

// Stream is an open stream; io.EOF means the end of the domain, the daemon or the connection.
type Stream struct {
	socket   *socket.Socket
	proc     uint32
	serial   int32      // of the call that opened the stream; each of its packets carries it
	replies  chan reply // to the one pending call
	incoming *io.PipeReader
	arrive   *io.PipeWriter
}

// reply is the daemon's answer to a call.
type reply struct {
	status  uint32
	payload []byte
}

// OpenChannel opens the virtio-serial port of that name of a domain.
func (a *Endpoint) OpenChannel(ctx context.Context, domain Handle, name string) (*Stream, error) {
	s, err := a.open(ctx, &Stream{proc: procDomainChannel}, domain, name)
	if err != nil {
		return nil, fmt.Errorf("open port %s of %s: %w", name, domain.Name, err)
	}
	return s, nil
}

// OpenConsole opens the first serial console of a domain.
func (a *Endpoint) OpenConsole(ctx context.Context, domain Handle) (*Stream, error) {
	s, err := a.open(ctx, &Stream{proc: procDomainConsole}, domain, "")
	if err != nil {
		return nil, fmt.Errorf("open the console of %s: %w", domain.Name, err)
	}
	return s, nil
}

// open opens a stream on a new connection.
func (a *Endpoint) open(ctx context.Context, s *Stream, d Handle, name string) (*Stream, error) {
	s.replies = make(chan reply, 1)
	s.incoming, s.arrive = io.Pipe()
	s.socket = socket.New(a, s)
	uri := string(golibvirt.RemoteURI(a.URI))
	if err := run(ctx, nil, func() error { return s.open(uri, d, name) }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stream) open(uri string, domain Handle, name string) error {
	if err := s.socket.Connect(); err != nil {
		return err
	}
	gone := s.socket.Disconnected()
	go func() {
		<-gone
		_ = s.arrive.CloseWithError(io.EOF)
	}()
	kinds, err := s.call(gone, procAuthList, nil)
	if err != nil {
		return err
	}
	if needsPolkit(kinds) {
		if _, err := s.call(gone, procAuthPolkit, nil); err != nil {
			return err
		}
	}
	args := appendUint32(appendOptional(nil, uri), 0)
	if _, err = s.call(gone, procConnectOpen, args); err != nil {
		return err
	}
	args = appendString(nil, domain.Name)
	args = append(args, domain.UUID[:]...)
	args = appendUint32(args, uint32(domain.ID))
	args = appendOptional(args, name)
	_, err = s.call(gone, s.proc, appendUint32(args, 0))
	return err
}

// call makes one call and waits for the daemon's answer.
func (s *Stream) call(gone <-chan struct{}, proc uint32, args []byte) ([]byte, error) {
	s.serial++
	if err := s.send(proc, args, socket.Call, socket.StatusOK); err != nil {
		return nil, err
	}
	select {
	case r := <-s.replies:
		if r.status != socket.StatusOK {
			return nil, remoteError(r.payload)
		}
		return r.payload, nil
	case <-gone:
		return nil, ErrDaemonGone
	}
}

func (s *Stream) send(proc uint32, data []byte, kind, status uint32) error {
	return s.socket.SendPacket(s.serial, proc, remoteProgram, data, kind, status)
}

// Route implements [socket.Router]: it passes the daemon's data on. It returns when a reader has
// taken the data; a slow reader thereby slows the guest down.
func (s *Stream) Route(h *socket.Header, payload []byte) {
	switch {
	case h.Type == socket.Reply:
		s.replies <- reply{h.Status, payload}
	case h.Type != socket.Stream:
	case h.Status == socket.StatusError:
		_ = s.arrive.CloseWithError(remoteError(payload))
	case h.Status == socket.StatusOK, len(payload) == 0:
		_ = s.arrive.CloseWithError(io.EOF)
	default:
		_, _ = s.arrive.Write(payload) // fails when the reader has closed
	}
}

func (s *Stream) Read(p []byte) (int, error) { return s.incoming.Read(p) }

func (s *Stream) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), streamChunk)
		if err := s.send(s.proc, p[:n], socket.Stream, socket.StatusContinue); err != nil {
			return written, err
		}
		written, p = written+n, p[n:]
	}
	return written, nil
}

// Close ends the stream with its connection.
func (s *Stream) Close() error {
	_ = s.incoming.Close()
	return s.socket.Disconnect()
}

// The encoding is XDR (RFC 4506): numbers in four bytes, big end first; strings with their length
// before and zeros up to a multiple of four after.

func appendUint32(to []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(to, n) }

func appendString(to []byte, text string) []byte {
	to = append(appendUint32(to, uint32(len(text))), text...)
	return append(to, make([]byte, -len(text)&3)...)
}

// appendOptional appends an optional string; an empty one counts as missing.
func appendOptional(to []byte, text string) []byte {
	if text == "" {
		return appendUint32(to, 0)
	}
	return appendString(appendUint32(to, 1), text)
}

// needsPolkit reports whether a list of authentication kinds contains polkit.
func needsPolkit(list []byte) bool {
	for i := 4; i+4 <= len(list); i += 4 {
		if binary.BigEndian.Uint32(list[i:]) == authPolkit {
			return true
		}
	}
	return false
}

// remoteError decodes the first fields of libvirt's remote_error: code, domain, and the message.
func remoteError(payload []byte) error {
	const header = 16 // code, domain, a flag for the message, and its length
	if len(payload) < header {
		return errors.New("libvirt refused without a word")
	}
	text := payload[header:]
	length := min(int(binary.BigEndian.Uint32(payload[header-4:])), len(text))
	return golibvirt.Error{Code: binary.BigEndian.Uint32(payload), Message: string(text[:length])}
}

var _ io.ReadWriteCloser = (*Stream)(nil)
