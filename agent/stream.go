package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// errStreamLost is the cause of every call that was running when the stream broke.
var errStreamLost = errors.New("the node's agent is gone: its stream ended")

// conn makes a byte stream (a virtio-serial port, a socket, a pair of pipes) a net.Conn, and
// reports its end.
type conn struct {
	io.ReadWriteCloser
	lost chan struct{}
	once sync.Once
}

func newConn(stream io.ReadWriteCloser) *conn {
	return &conn{ReadWriteCloser: stream, lost: make(chan struct{})}
}

func (c *conn) end() { c.once.Do(func() { close(c.lost) }) }

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Write(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *conn) Close() error {
	c.end()
	return c.ReadWriteCloser.Close()
}

func (c *conn) LocalAddr() net.Addr                { return streamAddr{} }
func (c *conn) RemoteAddr() net.Addr               { return streamAddr{} }
func (c *conn) SetDeadline(t time.Time) error      { return deadline(c.ReadWriteCloser, t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return deadline(c.ReadWriteCloser, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return deadline(c.ReadWriteCloser, t) }

// deadline sets a deadline where the stream supports it; gRPC uses deadlines only to give up early.
func deadline(stream io.ReadWriteCloser, t time.Time) error {
	if s, ok := stream.(interface{ SetDeadline(time.Time) error }); ok {
		return s.SetDeadline(t)
	}
	return os.ErrNoDeadline
}

type streamAddr struct{}

func (streamAddr) Network() string { return "stream" }
func (streamAddr) String() string  { return "agent" }

// listener returns one connection, and ends when that has ended.
type listener struct {
	conn *conn
	once sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	var first net.Conn
	l.once.Do(func() { first = l.conn })
	if first != nil {
		return first, nil
	}
	<-l.conn.lost
	return nil, io.EOF
}

func (l *listener) Close() error   { return l.conn.Close() }
func (l *listener) Addr() net.Addr { return streamAddr{} }
