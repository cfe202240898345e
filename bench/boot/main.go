// Command boot measures how long a machine of the lab takes from the start of its domain to its
// agent's first answer, and how long the same kernel takes to reach a bare init under the same
// QEMU, in turns, and prints the ratio of the medians.
//
//	go run ./bench/boot -ctload bin/ctload [-rounds 5] [-kernel debian/bookworm]
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/embedded"
	"github.com/ctload/ctload/vm/sandbox"
)

// wanted is the ratio that the project promises to stay below.
const wanted = 1.3

func main() {
	switch filepath.Base(os.Args[0]) {
	case sandbox.SupervisorRole:
		os.Exit(sandbox.Supervise())
	case agent.ChildRole:
		os.Exit(agent.RunChild())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/boot:", err)
		status = 1
	}
	os.Exit(status)
}

func run(ctx context.Context) (int, error) {
	program := flag.String("ctload", "bin/ctload", "the program that becomes the guest's init")
	rounds := flag.Int("rounds", 5, "rounds, each of which boots both once")
	kernelName := flag.String("kernel", "debian/bookworm", "the kernel")
	bare := flag.String("bare", "", "the bare init; built when empty")
	flag.Parse()
	store := &guest.Store{}
	if !sandbox.Inside() {
		// Only outside the sandbox are the network and the compiler.
		if _, err := store.Kernel(ctx, *kernelName); err != nil {
			return 0, err
		}
		dir, err := os.MkdirTemp("", "bench-boot-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "bare")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w",
			"-o", path, "./bench/boot/bare")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build the bare init: %w: %s", err, out)
		}
		args := append(slices.Clone(os.Args[1:]), "-bare", path)
		return sandbox.Run(context.WithoutCancel(ctx), args, sandbox.Handover{})
	}
	kernel, err := store.Kernel(ctx, *kernelName)
	if err != nil {
		return 0, err
	}
	full := guest.Spec{Init: *program, Kernel: kernel}
	none := []string{}
	least := guest.Spec{Init: *bare, Kernel: kernel, Boot: none, Carry: none, Tools: none}
	return 0, compare(ctx, full, least, *rounds)
}

// compare boots two guests of one kernel in turns.
func compare(ctx context.Context, fullSpec, leastSpec guest.Spec, rounds int) (err error) {
	kernel := fullSpec.Kernel
	dir := filepath.Join(sandbox.RuntimeDir, "bench")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unpacked, err := guest.UnpackKernel(kernel.Image, filepath.Join(dir, "kernel"))
	if err != nil {
		return err
	}
	full, least := filepath.Join(dir, "full"), filepath.Join(dir, "least")
	_, fullErr := guest.BuildFile(full, fullSpec)
	_, leastErr := guest.BuildFile(least, leastSpec)
	if err := errors.Join(fullErr, leastErr); err != nil {
		return err
	}
	// Both are emulated: KVM changes both alike, and not every host has it.
	lab, err := embedded.Open(ctx, embedded.Options{
		Runtime: sandbox.RuntimeDir, Cache: dir, Accelerator: libvirt.TCG,
		Tell: func(note string) { fmt.Fprintln(os.Stderr, note) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()

	var agents, bares, tuned []float64 // seconds
	for range rounds {
		bare, bareErr := bootBare(ctx, kernel.Image, least, shipped)
		quick, quickErr := bootBare(ctx, unpacked, least, guest.EmulatedCommandLine(1))
		answered, err := bootAgent(ctx, lab, unpacked, full, filepath.Join(dir, "console"))
		if err := errors.Join(bareErr, quickErr, err); err != nil {
			return err
		}
		bares, tuned = append(bares, bare.Seconds()), append(tuned, quick.Seconds())
		agents = append(agents, answered.Seconds())
	}
	a, b, c := median(agents), median(bares), median(tuned)
	verdict := "reached"
	if a/b > wanted {
		verdict = "NOT REACHED"
	}
	fmt.Printf("boot to agent, %s, %d rounds: %.2f s; to a bare init under the same QEMU: %.2f s; "+
		"ratio %.2f (wanted: at most %.1f, %s)\n",
		kernel.Release, rounds, a, b, a/b, wanted, verdict)
	fmt.Printf("a bare init with the guest's own kernel arguments, the kernel unpacked: %.2f s; "+
		"ratio %.2f\n", c, a/c)
	return nil
}

const memory = 512 << 20

// shipped are the arguments of an untuned kernel.
const shipped = "console=ttyS0 panic=-1"

// bootAgent returns the time from the start of a domain to its agent's first answer.
func bootAgent(ctx context.Context, lab *embedded.Lab, image, initramfs, console string) (
	time.Duration, error,
) {
	start := time.Now()
	node, err := lab.Boot(ctx, vm.Machine{
		Name: "dut", Kernel: image, Initramfs: initramfs, VCPUs: 1, MemoryBytes: memory,
		ConsoleFile: console, Ports: []vm.Port{{Link: "client"}},
	})
	if err != nil {
		return 0, err
	}
	answered := node.(interface{ Answered() time.Time }).Answered()
	return answered.Sub(start), node.Close()
}

// bootBare returns the time from the start of QEMU to the first output of the bare init.
func bootBare(ctx context.Context, image, initramfs, arguments string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-machine", "pc,accel=tcg", "-cpu", "qemu64,cx16=off,rdrand=on",
		"-m", fmt.Sprint(memory>>20), "-smp", "1,maxcpus=2",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", image, "-initrd", initramfs, "-append", arguments)
	out, err := qemu.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := qemu.Start(); err != nil {
		return 0, err
	}
	var took time.Duration
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "bare init") {
			took = time.Since(start)
			break
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := qemu.Wait(); err != nil {
		return 0, fmt.Errorf("QEMU: %w", err)
	}
	if took == 0 {
		return 0, errors.New("the bare init was not reached")
	}
	return took, nil
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
