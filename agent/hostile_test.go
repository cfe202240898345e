package agent

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// http2Frame returns the header of a frame of HTTP/2, which the agents' stream carries.
func http2Frame(length int, kind, flags, stream byte) []byte {
	return []byte{byte(length >> 16), byte(length >> 8), byte(length), kind, flags, 0, 0, 0, stream}
}

// repeats writes a part until the stream ends.
func repeats(w io.Writer, part []byte) {
	for {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

// TestClient_OfHostileNode talks with what a guest may put in the place of its agent: no call
// outlasts its context, Close returns, and memory stays bounded.
func TestClient_OfHostileNode(t *testing.T) {
	settings := http2Frame(0, 4, 0, 0)
	headers := append(http2Frame(1, 1, 4, 1), 0x88) // :status 200
	ping := append(http2Frame(8, 6, 0, 0), make([]byte, 8)...)
	body := append(http2Frame(9, 0, 0, 1), make([]byte, 9)...)
	for name, node := range map[string]func(io.Writer){
		"silent":          func(io.Writer) {},
		"half a header":   func(w io.Writer) { _, _ = w.Write(settings[:5]) },
		"random":          func(w io.Writer) { _, _ = io.Copy(w, rand.Reader) },
		"zeros":           func(w io.Writer) { repeats(w, make([]byte, 1<<16)) },
		"many settings":   func(w io.Writer) { repeats(w, settings) },
		"many pings":      func(w io.Writer) { repeats(w, ping) },
		"an endless body": func(w io.Writer) { repeats(w, body) },
		"a huge frame": func(w io.Writer) {
			_, _ = w.Write(append(settings, http2Frame(1<<24-1, 0, 0, 1)...))
			repeats(w, make([]byte, 1<<16))
		},
		"endless headers": func(w io.Writer) {
			_, _ = w.Write(append(settings, append(http2Frame(1, 1, 0, 1), 0x88)...))
			repeats(w, append(http2Frame(1, 9, 0, 1), 0x88))
		},
		"an answer of data": func(w io.Writer) {
			_, _ = w.Write(append(settings, headers...))
			repeats(w, append(http2Frame(1<<14, 0, 0, 1), make([]byte, 1<<14)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { _ = theirs.Close() })
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			go node(theirs)
			client, err := NewClient("dut", ours)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			called := make(chan error, 1)
			go func() {
				_, err := client.Hello(ctx)
				called <- err
			}()
			const limit = time.Minute // of a busy host
			select {
			case err := <-called:
				if err == nil {
					t.Error("the node has said hello")
				}
			case <-time.After(limit):
				t.Fatal("the call outlasts its context")
			}
			closed := make(chan struct{})
			go func() {
				_ = client.Close()
				close(closed)
			}()
			select {
			case <-closed:
			case <-time.After(limit):
				t.Fatal("Close does not return")
			}
		})
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	const most = 256 << 20
	if memory.Sys > most {
		t.Errorf("the process has taken %d MiB", memory.Sys>>20)
	}
}
