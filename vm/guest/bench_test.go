package guest

import (
	"bufio"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
)

// BenchmarkBoot compares boots under emulation, from the start of QEMU: of an initramfs that holds
// only an init until init runs, and of a complete one until init runs, and until it has loaded its
// modules and opened its port. The ratio of the last to the first is the price of all that this
// package puts into a guest; both get the same QEMU and command line.
func BenchmarkBoot(b *testing.B) {
	if err := CheckTools(DefaultTools()...); err != nil {
		hosttest.Skip(b, "%v", err)
	}
	for _, name := range bootKernels {
		b.Run(strings.ReplaceAll(name, "/", "-"), func(b *testing.B) {
			k := hostKernelFor(b, name)
			dir := b.TempDir()
			full, bare := filepath.Join(dir, "full"), filepath.Join(dir, "bare")
			build := func(file string, spec Spec) {
				spec.Init, spec.Kernel = buildInit(b), k
				if _, err := BuildFile(file, spec); err != nil {
					b.Fatal(err)
				}
			}
			build(full, Spec{Files: map[string]File{"/script.json": {Data: []byte("[]")}}})
			build(bare, Spec{Boot: []string{}, Carry: []string{}, Tools: []string{}})
			var bareReached, fullReached, fullReady []time.Duration
			for b.Loop() { // in turn, so that the host's load affects both
				bareReached = append(bareReached, bootTimes(b, k, bare)["INIT reached"])
				times := bootTimes(b, k, full)
				fullReached = append(fullReached, times["INIT reached"])
				fullReady = append(fullReady, times["INIT ready"])
			}
			base := median(bareReached)
			b.ReportMetric(base.Seconds(), "bare-s")
			b.ReportMetric(median(fullReached).Seconds(), "init-s")
			b.ReportMetric(median(fullReady).Seconds(), "ready-s")
			b.ReportMetric(median(fullReady).Seconds()/base.Seconds(), "ready/bare")
		})
	}
}

// bootTimes boots a guest and returns the time at which each line reached its console.
func bootTimes(b *testing.B, k Kernel, initramfs string) map[string]time.Duration {
	b.Helper()
	cmd := qemu(b.Context(), b, k, initramfs, "-serial", "stdio",
		"-device", "virtio-serial-pci", "-chardev", "null,id=results",
		"-device", "virtserialport,chardev=results")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	times := map[string]time.Duration{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		times[strings.TrimSpace(lines.Text())] = time.Since(start)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	if times["INIT reached"] == 0 {
		b.Fatalf("init was not reached: %q", times)
	}
	return times
}

func median(d []time.Duration) time.Duration { return slices.Sorted(slices.Values(d))[len(d)/2] }

// BenchmarkBuild measures the time to build a complete initramfs.
func BenchmarkBuild(b *testing.B) {
	if err := CheckTools(DefaultTools()...); err != nil {
		hosttest.Skip(b, "%v", err)
	}
	for _, name := range bootKernels {
		b.Run(strings.ReplaceAll(name, "/", "-"), func(b *testing.B) {
			spec := Spec{Init: buildInit(b), Kernel: hostKernelFor(b, name)}
			for b.Loop() {
				if err := Build(io.Discard, spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
