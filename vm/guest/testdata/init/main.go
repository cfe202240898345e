// The program init is PID 1 of the guests that the tests of package guest boot. It runs the
// commands of /script.json and prints what each gave as a line of JSON on the console. It is also
// the guest's modprobe, as the agent is in a real one.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/vm/guest/modload"
)

// Step is a command of the script; cat FILE and load MODULE are done by init itself.
type Step struct {
	Args  []string
	Stdin string
}

// Result is what a step gave.
type Result struct {
	Step   string
	Output string
	Err    string
	Millis int64
}

func main() {
	if filepath.Base(os.Args[0]) == filepath.Base(modload.Command) {
		os.Exit(modload.Main(os.Args[1:]))
	}
	fmt.Println("\nINIT reached")
	if err := run(); err != nil {
		fmt.Println("FAILED", err)
	}
	fmt.Println("INIT done")
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("FAILED to power off:", err)
	}
	select {}
}

func run() error {
	for _, fs := range []string{"proc", "sysfs /sys", "devtmpfs /dev", "tmpfs /run"} {
		kind, dir, _ := strings.Cut(fs, " ")
		if dir == "" {
			dir = "/proc"
		}
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin"); err != nil {
		return err
	}
	var steps []Step
	text, err := os.ReadFile("/script.json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &steps); err != nil {
		return err
	}
	for _, step := range steps {
		start := time.Now()
		result := Result{Step: strings.Join(step.Args, " ")}
		out, err := do(step)
		result.Output, result.Millis = string(out), time.Since(start).Milliseconds()
		if err != nil {
			result.Err = err.Error()
		}
		line, err := json.Marshal(result)
		if err != nil {
			return err
		}
		fmt.Printf("\nRESULT %s\n", line)
	}
	return nil
}

func do(step Step) ([]byte, error) {
	switch step.Args[0] {
	case "boot":
		return nil, modload.Boot()
	case "load":
		return nil, modload.Load(step.Args[1], step.Args[2:]...)
	case "cat":
		return os.ReadFile(step.Args[1])
	}
	cmd := exec.Command(step.Args[0], step.Args[1:]...)
	cmd.Stdin = bytes.NewReader([]byte(step.Stdin))
	return cmd.CombinedOutput()
}
