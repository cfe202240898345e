package generators

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestResponse(t *testing.T) {
	for _, test := range []struct {
		name   string
		text   string
		done   bool // without a close by the peer
		closed bool // complete when the peer has closed
		status int
		close  bool
		rest   int // bytes after the response
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true, true, 200, false, 0},
		{"no body", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, true, 200, false, 0},
		{
			"more than it says", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhello", true, true,
			200, false, 4,
		},
		{
			"less than it says", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false, false,
			200, false, 0,
		},
		{"until close", "HTTP/1.1 200 OK\r\n\r\nhello", false, true, 200, true, 0},
		{
			"told to close",
			"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true, true,
			404, true, 0,
		},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true, true, 200, true, 0},
		{
			"1.0 kept", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
			true, true, 200, false, 0,
		},
		{
			"chunks",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
				"5;x=y\r\nhello\r\n1\r\n.\r\n0\r\nTrailer: x\r\n\r\n",
			true, true, 200, false, 0,
		},
		{
			"chunks, cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
			false, false, 200, false, 0,
		},
		{
			"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", true, true,
			204, false, 0,
		},
		{"bare newlines", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", true, true, 200, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			for size := 1; size <= len(test.text); size++ {
				var r response
				rest := 0
				for i := 0; i < len(test.text); i += size {
					piece := []byte(test.text[i:min(i+size, len(test.text))])
					rest += len(piece) - r.feed(piece)
				}
				if done := r.state == responseDone; done != test.done {
					t.Fatalf("in pieces of %d: done %t, state %d", size, done, r.state)
				}
				if r.ended() != test.closed || r.status != test.status || r.close != test.close ||
					rest != test.rest {
					t.Fatalf("in pieces of %d: complete %t, status %d, close %t, %d left",
						size, r.ended(), r.status, r.close, rest)
				}
			}
		})
	}
	for _, bad := range []string{
		"SSH-2.0-x\r\n", "HTTP/2 200\r\n", "HTTP/1.1 abc\r\n", "HTTP/1.1 99 x\r\n", "\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
		strings.Repeat("x", maxHeaderLine+1),
	} {
		var r response
		r.feed([]byte(bad))
		if r.state != responseBad || r.ended() {
			t.Errorf("%.40q: state %d", bad, r.state)
		}
	}
}

// FuzzResponse checks that the outcome is the same for all ways to cut an input into pieces. Where
// the standard library reads a whole response, this parser does too.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot in 1.0",
		"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nx",
		"HTTP/1.1 304 N\r\nContent-Length: 3\r\n\r\n", "",
	} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		var whole, pieces response
		whole.feed(data)
		size = max(1, size%100)
		for i := 0; i < len(data); i += size {
			pieces.feed(data[i:min(i+size, len(data))])
		}
		if whole.state != pieces.state || whole.status != pieces.status ||
			whole.length != pieces.length {
			t.Fatalf("whole: %d %d %d, in pieces of %d: %d %d %d",
				whole.state, whole.status, whole.length, size, pieces.state, pieces.status,
				pieces.length)
		}
		complete := whole.ended()
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), nil)
		if err != nil {
			return
		}
		defer func() { _ = std.Body.Close() }()
		if std.ProtoMajor != 1 || std.StatusCode < 200 || len(std.TransferEncoding) > 0 {
			return
		}
		if _, err := io.ReadAll(std.Body); err == nil && !complete && whole.state != responseBad {
			t.Fatalf("the standard library reads it, this does not: state %d", whole.state)
		}
	})
}

func FuzzParseNetCounter(f *testing.F) {
	f.Add("Tcp: RtoAlgorithm RetransSegs\nTcp: 1 77\nUdp: A\nUdp: 5\n")
	f.Add("Tcp: A B\nTcp: 1\n")
	f.Add("Tcp: A\nUdp: 1\nTcp:")
	f.Fuzz(func(t *testing.T, text string) {
		parseNetCounter(text, "Tcp", "RetransSegs")
	})
}

func TestParseNetCounter(t *testing.T) {
	const text = "Tcp: RtoAlgorithm RetransSegs\nTcp: 1 77\nTcpExt: X TCPSynRetrans\nTcpExt: 3 -4\n"
	for _, test := range []struct {
		group, name string
		want        int64
	}{
		{"Tcp", "RetransSegs", 77}, {"TcpExt", "TCPSynRetrans", -4}, {"TcpExt", "X", 3},
		{"TcpExt", "RetransSegs", 0}, {"Udp", "RetransSegs", 0},
	} {
		if got := parseNetCounter(text, test.group, test.name); got != test.want {
			t.Errorf("%s %s is %d, want %d", test.group, test.name, got, test.want)
		}
	}
}
