package responders

import (
	"bytes"
	"errors"
	"fmt"
)

// maxRequest is the length, in bytes, of the longest request that a responder accepts.
const maxRequest = 16 << 10

var errBadRequest = errors.New("not an HTTP request")

// parseRequest finds the end of the first HTTP request in data and whether the connection stays
// open afterwards: in HTTP/1.1 unless the request says close, in 1.0 if it says keep-alive. The
// length is 0 while the request is incomplete. parseRequest does not support a body; a load sends
// none.
func parseRequest(data []byte) (length int, keep bool, err error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		if len(data) > maxRequest {
			return 0, false, errBadRequest
		}
		return 0, false, nil
	}
	head := data[:end+2]
	line, headers, _ := bytes.Cut(head, []byte("\r\n"))
	switch {
	case bytes.HasSuffix(line, []byte(" HTTP/1.1")):
		keep = true
	case !bytes.HasSuffix(line, []byte(" HTTP/1.0")):
		return 0, false, errBadRequest
	}
	for len(headers) > 0 {
		line, headers, _ = bytes.Cut(headers, []byte("\r\n"))
		const name = "connection:"
		if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
			continue
		}
		switch value := bytes.TrimSpace(line[len(name):]); {
		case bytes.EqualFold(value, []byte("close")):
			keep = false
		case bytes.EqualFold(value, []byte("keep-alive")):
			keep = true
		}
	}
	return end + 4, keep, nil
}

// answerBytes returns the fixed answer of a responder.
func answerBytes(body int, keep bool) []byte {
	connection := "close"
	if keep {
		connection = "keep-alive"
	}
	head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: ctload\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n", body, connection)
	return append(head, bytes.Repeat([]byte("."), body)...)
}
