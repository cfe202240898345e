// Package control lets other processes of the same user talk to the nodes of a lab that is up: the
// lab's process listens on a socket in the user's runtime folder. Only the user can enter the
// socket's folder.
//
// A connection carries one request as a line of JSON, then the messages of [agent.Client.Interact]
// both ways.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ctload/ctload/agent"
)

// request is the first message of a connection.
type request struct {
	Do      string            `json:"do"` // one of the constants below
	Node    string            `json:"node,omitempty"`
	Command agent.Interaction `json:"command,omitzero"`
}

// Kinds of requests.
const (
	doAbout = "about"
	doRun   = "run"
	doDown  = "down" // the connection then ends with the lab
)

// answer is a message to the caller.
type answer struct {
	agent.InteractOutput
	About *About `json:"about,omitempty"`
	Error string `json:"error,omitempty"`
}

// About describes the lab that is up.
type About struct {
	Name  string   `json:"name"` // experiment and scenario
	Nodes []string `json:"nodes"`
	PID   int      `json:"pid"` // of the process that the user started
}

// errNone means that no lab is up.
var errNone = errors.New("no lab is up; start one with: ctload vm up EXPERIMENT")

// Socket returns the path of the user's socket and makes its folder.
func Socket() (string, error) {
	folder := filepath.Join(os.TempDir(), fmt.Sprintf("ctload-%d", os.Getuid()))
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(runtime) {
		if _, err := os.Stat(runtime); err == nil {
			folder = filepath.Join(runtime, "ctload")
		}
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the folder of the lab's socket: %w", err)
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return "", fmt.Errorf("look at the folder of the lab's socket: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("the folder of the lab's socket, %s, is not yours alone (mode 0700)", folder)
	}
	return filepath.Join(folder, "vm.sock"), nil
}

// dial connects to the lab that is up; without one it returns [errNone].
func dial(path string) (net.Conn, error) {
	conn, err := net.Dial("unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNone
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the lab: %w", err)
	}
	return conn, nil
}

// ask sends a request and returns the decoder of the answers.
func ask(conn net.Conn, r request) (*json.Decoder, error) {
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return nil, fmt.Errorf("ask the lab: %w", err)
	}
	return json.NewDecoder(conn), nil
}
