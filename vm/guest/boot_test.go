package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
)

// hostKernelFor returns a kernel from the user's own store, so that tests fetch it only once.
func hostKernelFor(tb testing.TB, name string) Kernel {
	tb.Helper()
	if testing.Short() {
		tb.Skip("it fetches a kernel, and most tests boot it")
	}
	k, err := new(Store).Kernel(tb.Context(), name)
	if _, ok := errors.AsType[*MissingError](err); ok {
		hosttest.Skip(tb, "no kernel: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// qemu returns the command that boots a guest as the lab does, without acceleration.
func qemu(
	ctx context.Context, tb testing.TB, k Kernel, initramfs string, more ...string,
) *exec.Cmd {
	tb.Helper()
	program := hosttest.Program(tb, "qemu-system-x86_64")
	// QEMU 7.2 spoils the flags when it emulates cmpxchg16b, which crashes guests at random.
	args := []string{
		"-machine", "pc,accel=tcg", "-cpu", "qemu64,cx16=off,rdrand=on", "-m", "512", "-nodefaults",
		"-no-reboot", "-display", "none",
		"-kernel", k.Image, "-initrd", initramfs, "-append", CommandLine,
	}
	return exec.CommandContext(ctx, program, append(args, more...)...)
}

// Step and Result mirror those of testdata/init.
type Step struct {
	Args  []string
	Stdin string
}

type Result struct {
	Step   string
	Output string
	Err    string
	Millis int64
}

// bootLimit bounds a boot with all its steps; on a loaded host emulation is slow.
const bootLimit = 3 * time.Minute

// boot boots a guest, which runs the steps, and returns their results in order.
func boot(t *testing.T, k Kernel, steps []Step) []Result {
	t.Helper()
	dir := t.TempDir()
	script, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	initramfs, console := filepath.Join(dir, "initramfs"), filepath.Join(dir, "console")
	output := filepath.Join(dir, "output")
	spec := Spec{Init: buildInit(t), Kernel: k,
		Files: map[string]File{"/script.json": {Data: script}}}
	start := time.Now()
	size, err := BuildFile(initramfs, spec)
	if missing, ok := errors.AsType[*MissingError](err); ok {
		hosttest.Skip(t, "no tools: %v", missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kernel %s: initramfs of %.1f MB built in %v", k.Release, float64(size)/1e6,
		time.Since(start).Round(time.Millisecond))

	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	cmd := qemu(ctx, t, k, initramfs, "-serial", "file:"+console,
		"-device", "virtio-serial-pci", "-chardev", "file,id=results,path="+output,
		"-device", "virtserialport,chardev=results")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", cmd, err, said)
	}
	text, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	var results []Result
	for line := range bytes.Lines(text) {
		var r Result
		if err := json.Unmarshal(line, &r); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		results = append(results, r)
	}
	if len(results) != len(steps) {
		text, _ := os.ReadFile(console)
		t.Fatalf("%d of %d steps done; console:\n%s", len(results), len(steps), text)
	}
	return results
}

// buildInit builds testdata/init once.
func buildInit(tb testing.TB) string {
	tb.Helper()
	program, err := builtInit()
	if err != nil {
		tb.Fatal(err)
	}
	return program
}

var scratch string // of this run of the tests

var builtInit = sync.OnceValues(func() (string, error) { return goBuild("./testdata/init") })

func goBuild(dir string) (string, error) {
	program := filepath.Join(scratch, filepath.Base(dir))
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return program, nil
}

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "ctload-guest-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(scratch); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// bootKernels lists kernels that differ in what is built in, in the compression of modules, and in
// the packages that they come in.
var bootKernels = append([]string{"debian/bookworm", "debian/trixie"},
	strings.Fields(os.Getenv("CTLOAD_BOOT_KERNELS"))...)

// thoroughKernels returns the kernels of tests that load all modules or many: make test-long boots
// each, make test the first.
func thoroughKernels() []string {
	if !hosttest.Long() {
		return bootKernels[:1]
	}
	return bootKernels
}

const countFile = "/proc/sys/net/netfilter/nf_conntrack_count"

func TestBootTracksNothingByItself(t *testing.T) {
	t.Parallel()
	for _, name := range thoroughKernels() {
		t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
			t.Parallel()
			steps := []Step{
				{Args: []string{"cat", countFile}}, // 0: not there
				{Args: []string{"load", "nf_conntrack"}},
				{Args: []string{"traffic", "80"}},
				{Args: []string{"cat", countFile}}, // 3
				{Args: []string{"load-all"}},       // 4
				{Args: []string{"traffic", "80"}},
				{Args: []string{"cat", countFile}}, // 6
				{Args: []string{"cat", "/proc/modules"}},
				{Args: []string{"nft", "-f", "-"}, Stdin: "table ip t { chain c { " +
					"type filter hook input priority 0; ct state new accept; }; }"},
				{Args: []string{"traffic", "80"}},
				{Args: []string{"cat", countFile}}, // 10
				{Args: []string{"cat", "/proc/sys/kernel/tainted"}},
			}
			results := boot(t, hostKernelFor(t, name), steps)
			if r := results[0]; !strings.Contains(r.Err, "no such file") {
				t.Errorf("connection tracking is there right after boot: %+v", r)
			}
			wantOK(t, results[1:]...)
			for i, what := range map[int]string{
				3: "nf_conntrack", 6: "all modules that are carried",
			} {
				if results[i].Output != "0\n" {
					t.Errorf("after loading %s, a connection was tracked without a rule: count %q",
						what, results[i].Output)
				}
			}
			if failed := results[4].Output; failed != "" {
				t.Errorf("modules that did not load:\n%s", failed)
			}
			for _, module := range []string{"iptable_nat", "nft_ct", "nf_conntrack_netlink",
				"nf_flow_table", "xt_CT", "nf_synproxy_core", "sch_netem"} {
				if !strings.Contains(results[7].Output, module+" ") {
					t.Errorf("module %s is not loaded:\n%s", module, results[7].Output)
				}
			}
			// A loopback connection is one entry.
			if got := results[10].Output; got != "1\n" {
				t.Errorf("with a stateful rule, a connection left a count of %q, want 1", got)
			}
			if got := results[11].Output; got != "0\n" {
				t.Errorf("the kernel is tainted: %q", got)
			}
		})
	}
}

// wantOK reports each failed step.
func wantOK(t *testing.T, results ...Result) {
	t.Helper()
	for _, r := range results {
		if r.Err != "" {
			t.Errorf("step %s: %s: %s", r.Step, r.Err, r.Output)
		}
		t.Logf("%5d ms %s", r.Millis, r.Step)
	}
}

// TestBootParameter loads a module with a parameter, as modprobe does.
func TestBootParameter(t *testing.T) {
	t.Parallel()
	results := boot(t, hostKernelFor(t, bootKernels[0]), []Step{
		{Args: []string{"/sbin/modprobe", "ip_conntrack", "hashsize=2048"}},
		{Args: []string{"cat", "/sys/module/nf_conntrack/parameters/hashsize"}},
		{Args: []string{"cat", "/proc/sys/net/netfilter/nf_conntrack_max"}},
		{Args: []string{"/sbin/modprobe", "-q", "--", "ip_contrack"}},
		{Args: []string{"/sbin/modprobe", "ip_contrack"}},
	})
	wantOK(t, results[:3]...)
	size, err := strconv.Atoi(strings.TrimSpace(results[1].Output))
	if err != nil || size != 2048 {
		t.Errorf("hashsize is %q, want 2048", results[1].Output)
	}
	if got := results[2].Output; got != "16384\n" { // eight times the parameter
		t.Errorf("nf_conntrack_max is %q, want 16384", got)
	}
	if r := results[3]; r.Err == "" || r.Output != "" {
		t.Errorf("modprobe -q of an unknown module: %+v, want a silent failure", r)
	}
	if r := results[4]; r.Err == "" || !strings.Contains(r.Output, "no such module") {
		t.Errorf("modprobe of an unknown module: %+v, want it to say so", r)
	}
}
