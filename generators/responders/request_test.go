package responders

import (
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	for _, test := range []struct {
		text   string
		length int
		keep   bool
		bad    bool
	}{
		{"GET / HTTP/1.1\r\n\r\n", 18, true, false},
		{"GET / HTTP/1.1\r\nConnection: Close\r\n\r\nGET", 37, false, false},
		{"GET / HTTP/1.0\r\n\r\n", 18, false, false},
		{"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", 42, true, false},
		{"GET / HTTP/1.1\r\nHost: x\r\n", 0, false, false},
		{"", 0, false, false},
		{"HELO\r\n\r\n", 0, false, true},
		{strings.Repeat("x", maxRequest+1), 0, false, true},
	} {
		length, keep, err := parseRequest([]byte(test.text))
		if length != test.length || keep != test.keep || (err != nil) != test.bad {
			t.Errorf("%.60q: %d, %t, %v", test.text, length, keep, err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		length, _, err := parseRequest(data)
		if length < 0 || length > len(data) || err != nil && length != 0 {
			t.Errorf("%d of %d bytes, %v", length, len(data), err)
		}
	})
}
