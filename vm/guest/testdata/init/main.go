// The program init runs as PID 1 of the guests of package guest's tests. It loads the boot modules,
// runs the commands of /script.json and writes each result as a line of JSON to a virtio-serial
// port, which needs those modules. Like the real agent, it is also the kernel's modprobe.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/modload"
)

// Step is a command of the script, or load MODULE [PARAM...], load-all, cat FILE, traffic PORT.
type Step struct {
	Args  []string
	Stdin string
}

// Result is the result of a step.
type Result struct {
	Step   string
	Output string
	Err    string
	Millis int64
}

const port = "/dev/vport0p1"

func main() {
	fmt.Println("INIT reached")
	if err := run(); err != nil {
		fmt.Println("INIT failed:", err)
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("INIT cannot power off:", err)
	}
	select {}
}

func run() error {
	for dir, kind := range map[string]string{
		"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/run": "tmpfs",
	} {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	text, err := os.ReadFile("/script.json")
	var steps []Step
	err = errors.Join(err, json.Unmarshal(text, &steps),
		// Newer versions of nft open /dev/stdin, which devtmpfs lacks.
		os.Symlink("/proc/self/fd/0", "/dev/stdin"), os.Setenv("PATH", "/usr/sbin:/usr/bin"),
		modload.Boot(), loopbackUp())
	if err != nil {
		return err
	}
	out, err := openPort()
	if err != nil {
		return err
	}
	fmt.Println("INIT ready")
	lines := json.NewEncoder(out)
	for _, step := range steps {
		start := time.Now()
		output, err := do(step)
		result := Result{Step: strings.Join(step.Args, " "), Output: string(output)}
		result.Millis = time.Since(start).Milliseconds()
		if err != nil {
			result.Err = err.Error()
		}
		if err := lines.Encode(result); err != nil {
			return err
		}
	}
	return out.Close()
}

// openPort waits for the port: the kernel makes it a moment after its driver is loaded.
func openPort() (f *os.File, err error) {
	for range 100 {
		if f, err = os.OpenFile(port, os.O_WRONLY, 0); err == nil {
			return f, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

func do(step Step) ([]byte, error) {
	switch step.Args[0] {
	case "load":
		return nil, modload.Load(step.Args[1], step.Args[2:]...)
	case "load-all":
		return loadAll()
	case "cat":
		return os.ReadFile(step.Args[1])
	case "traffic":
		return nil, traffic(step.Args[1])
	}
	cmd := exec.Command(step.Args[0], step.Args[1:]...)
	cmd.Stdin = bytes.NewReader([]byte(step.Stdin))
	return cmd.CombinedOutput()
}

// loadAll loads all modules that the initramfs carries and returns the names of those that failed.
func loadAll() ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(modload.Dir, "*.ko"))
	if err != nil {
		return nil, err
	}
	var failed []byte
	for _, file := range files {
		if err := modload.Load(strings.TrimSuffix(filepath.Base(file), ".ko")); err != nil {
			failed = fmt.Appendf(failed, "%v\n", err)
		}
	}
	return failed, nil
}

// traffic opens a TCP connection to a port of the loopback device and closes it.
func traffic(port string) error {
	l, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request)
}
