package generators

import (
	"bytes"
	"strconv"
)

// response parses one HTTP/1 response as it arrives in pieces, without keeping the body. Its zero
// value is ready for the first byte.
type response struct {
	state  responseState
	status int
	// line is the current line, kept only when a piece ended inside it.
	line []byte
	// length counts the bytes of the body or of the chunk still to come; -1: until the peer closes.
	length int64
	body   int64  // bytes of the body so far
	server string // the Server header of the first response that had one
	close  bool   // the connection ends with this response
	chunk  bool
	old    bool // HTTP/1.0, which has no chunks
}

type responseState uint8

const (
	inStatus responseState = iota
	inHeader
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
	responseDone
	responseBad
)

// maxHeaderLine is the length, in bytes, of the longest line that the parser takes for HTTP.
const maxHeaderLine = 16 << 10

// feed parses a piece and returns how many of its bytes belong to this response. These are all of
// them unless the response ended.
func (r *response) feed(piece []byte) int {
	taken := 0
	for taken < len(piece) && r.state < responseDone {
		rest := piece[taken:]
		switch r.state {
		case inBody, inChunk:
			n := int64(len(rest))
			if r.length >= 0 {
				n = min(n, r.length)
				r.length -= n
			}
			taken += int(n)
			r.body += n
			if r.length == 0 && r.chunk {
				r.state = inChunkEnd
			} else if r.length == 0 {
				r.state = responseDone
			}
		default:
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				r.line = append(r.line, rest...)
				if len(r.line) > maxHeaderLine {
					r.state = responseBad
				}
				return len(piece)
			}
			taken += end + 1
			line := rest[:end]
			if len(r.line) > 0 {
				r.line = append(r.line, line...)
				line = r.line
			}
			r.take(bytes.TrimSuffix(line, []byte("\r")))
			r.line = r.line[:0]
		}
	}
	return taken
}

// take parses a whole line.
func (r *response) take(line []byte) {
	switch r.state {
	case inStatus:
		r.takeStatus(line)
	case inHeader:
		if len(line) == 0 {
			r.headerEnded()
		} else {
			r.takeHeader(line)
		}
	case inChunkSize:
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseInt(string(bytes.TrimSpace(size)), 16, 64)
		switch {
		case err != nil || n < 0:
			r.state = responseBad
		case n == 0:
			r.state = inTrailer
		default:
			r.state, r.length = inChunk, n
		}
	case inChunkEnd:
		r.state = inChunkSize
		if len(line) > 0 {
			r.state = responseBad
		}
	case inTrailer:
		if len(line) == 0 {
			r.state = responseDone
		}
	}
}

// takeStatus parses "HTTP/1.x 200 reason". A peer that speaks 1.0 closes unless it says otherwise.
func (r *response) takeStatus(line []byte) {
	version, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	status, err := strconv.Atoi(string(code))
	if !bytes.HasPrefix(version, []byte("HTTP/1.")) || err != nil || status < 100 || status > 999 {
		r.state = responseBad
		return
	}
	old := string(version) == "HTTP/1.0"
	r.status, r.length, r.old, r.close, r.state = status, -1, old, old, inHeader
}

func (r *response) takeHeader(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 {
			r.state = responseBad
			return
		}
		r.length = n
	case r.server == "" && bytes.EqualFold(name, []byte("Server")):
		r.server = string(value)
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		r.chunk = !r.old && bytes.EqualFold(value, []byte("chunked"))
	case bytes.EqualFold(name, []byte("Connection")):
		end := bytes.EqualFold(value, []byte("close"))
		r.close = end || r.close && !bytes.EqualFold(value, []byte("keep-alive"))
	}
}

// headerEnded decides how the body is framed (RFC 9112, section 6.3).
func (r *response) headerEnded() {
	switch {
	case r.status < 200: // an interim response precedes the final one
		*r = response{line: r.line, server: r.server}
	case r.status == 204 || r.status == 304:
		r.state, r.chunk = responseDone, false
	case r.chunk:
		r.state = inChunkSize
	case r.length == 0:
		r.state = responseDone
	default:
		r.state = inBody
		r.close = r.close || r.length < 0
	}
}

// ended handles the end of the connection and reports whether the response is complete.
func (r *response) ended() bool {
	if r.state == inBody && r.length < 0 {
		r.state = responseDone
	}
	return r.state == responseDone
}

// reset prepares r for the next response and keeps its memory.
func (r *response) reset() { *r = response{line: r.line[:0], server: r.server} }
