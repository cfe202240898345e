// Command owner starts an agent as the driver of a real machine does, on standard streams, makes
// the faults that its standard input describes, a JSON array of them, and ends itself with SIGKILL:
// the owner of the faults disappears without notice. With the argument "left" it lists the
// processes that such agents have left behind, and fails if there are any.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/faults"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(left())
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func left() int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	found := 0
	for _, file := range files {
		line, _ := os.ReadFile(file)
		program, _, _ := strings.Cut(string(line), "\x00")
		if program == agent.StdioRole || program == faults.EaterRole {
			fmt.Println(file, program)
			found = 1
		}
	}
	return found
}

type pipes struct {
	io.ReadCloser
	io.Writer
}

func run() error {
	var list []faults.Fault
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		return err
	}
	cmd := exec.Command("/init")
	cmd.Args[0] = agent.StdioRole
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// Not this process's own: a reader of its output must not wait for the agent.
	if cmd.Stderr, err = os.OpenFile("/dev/console", os.O_WRONLY, 0); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	client, err := agent.NewClient("box", pipes{out, in})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, fault := range list {
		if _, err := client.Apply(ctx, fault); err != nil {
			return err
		}
		fmt.Println(fault.Kind)
	}
	return nil
}
