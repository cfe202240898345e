package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/ctload/ctload/agent"
)

// RefusedError is the reason for which a lab refuses a request.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Look returns what is up at path. The error is [errNone] without a lab.
func Look(path string) (About, error) {
	conn, err := dial(path)
	if err != nil {
		return About{}, err
	}
	about, err := aboutOf(conn)
	return about, errors.Join(err, conn.Close())
}

func aboutOf(conn net.Conn) (About, error) {
	answers, err := ask(conn, request{Do: doAbout})
	if err != nil {
		return About{}, err
	}
	var a answer
	if err := answers.Decode(&a); err != nil || a.About == nil {
		return About{}, fmt.Errorf("ask the lab what it is: %w", lost(err))
	}
	return *a.About, nil
}

// Down ends the lab at path and returns when it is gone, or ctx has ended. The error is [errNone]
// without a lab.
func Down(ctx context.Context, path string) error {
	conn, err := dial(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	answers, err := ask(conn, request{Do: doDown})
	if err != nil {
		return err
	}
	var a answer
	err = answers.Decode(&a)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && a.Error != "":
		return &RefusedError{a.Error}
	}
	return nil // the connection has ended with the lab
}

// Run runs a command on a node of the lab at path, with stdin until its end and the sizes from
// sizes, and returns its exit status. When ctx ends, the lab kills the command.
func Run(ctx context.Context, path, node string, command agent.Interaction, stdin io.Reader, sizes <-chan agent.TerminalSize, stdout, stderr io.Writer) (exit int, err error) {
	conn, err := dial(path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	answers, err := ask(conn, request{Do: doRun, Node: node, Command: command})
	if err != nil {
		return 0, err
	}
	s := &sender{encoder: json.NewEncoder(conn)}
	go s.copy(stdin)
	go s.follow(ctx, sizes)
	for {
		var a answer
		if err := answers.Decode(&a); err != nil {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			return 0, fmt.Errorf("the lab is gone: %w", lost(err))
		}
		switch {
		case a.Error != "":
			return 0, &RefusedError{a.Error}
		case a.Exit != nil:
			return *a.Exit, nil
		}
		if _, err := stdout.Write(a.Stdout); err != nil {
			return 0, err
		}
		if _, err := stderr.Write(a.Stderr); err != nil {
			return 0, err
		}
	}
}

// lost turns the end of a connection into io.ErrUnexpectedEOF.
func lost(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// sender sends input. Safe for concurrent use.
type sender struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func (s *sender) send(in agent.InteractInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.encoder.Encode(in)
}

// copy sends stdin, and its end.
func (s *sender) copy(stdin io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := stdin.Read(buffer)
		if n > 0 && s.send(agent.InteractInput{Data: buffer[:n]}) != nil {
			return
		}
		if err != nil {
			_ = s.send(agent.InteractInput{End: true})
			return
		}
	}
}

// follow sends the sizes of the terminal.
func (s *sender) follow(ctx context.Context, sizes <-chan agent.TerminalSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok || s.send(agent.InteractInput{Size: &size}) != nil {
				return
			}
		}
	}
}
