package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
)

// answering starts `ctload respond` with a free port of loopback. It returns its address and a
// function that ends it and returns the responder's counters.
func answering(t *testing.T, args ...string) (address string, end func() responders.Counters) {
	t.Helper()
	cmd := command(t, append([]string{"respond", "--ports", "0"}, args...)...)
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	stderr.WaitFor(t, "answering on ports", time.Minute)
	port := regexp.MustCompile(`ports ([0-9]+)`).FindStringSubmatch(stderr.String())[1]
	return "127.0.0.1:" + port, func() responders.Counters {
		t.Helper()
		ended = true
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		o := wait(t, cmd, time.Minute, &stdout, &stderr)
		var counters responders.Counters
		if err := json.Unmarshal([]byte(o.stdout), &counters); err != nil || o.status != 0 {
			t.Fatalf("exit status %d, %v: %s%s", o.status, err, o.stdout, o.stderr)
		}
		return counters
	}
}

// TestGenerate makes load of each kind that needs no namespace, as a user does, and counts at both
// ends. The generator makes up for slots that a busy host delays: only the counts matter here.
func TestGenerate(t *testing.T) {
	for _, tc := range []struct {
		kind, responder, args string
		completed, accepted   int64
	}{
		{"http", "http --body 1KiB", "-c 50 -n 1000", 1000, 1000},
		{"http", "http", "-c 1 -n 1000 -k 100", 1000, 10},
		{"tcp", "silent", "-c 20 -n 500 --close rst", 500, 500},
		{"tcp", "echo", "-c 20 -n 500 --payload 1KiB --expect 1KiB", 500, 500},
		{"tcp", "close", "-c 20 -n 500 --close-by server", 500, 500},
		{"tcp", "silent", "--rate 500/s -n 200 --catch-up", 200, 200},
		{"tcp", "silent", "--stages 0/s-400/s:500ms,400/s:250ms --catch-up", 200, 200},
		{"tcp", "silent", "--ramp 0/s-800/s -t 500ms --catch-up", 200, 200},
		{"tcp", "silent", "--burst 50:200ms -n 200 --catch-up", 200, 200},
		{"tcp", "silent", "--sine 400/s:400/s:500ms -t 500ms --catch-up", 200, 200},
		{"hold", "silent", "-n 100 --rate 1k/s -t 500ms --payload 1B --interval 100ms --catch-up",
			100, 100},
		{"tcp", "silent", "--rate 500/s -n 200 --arrivals poisson --lifetime 10ms,50ms,300ms " +
			"--seed 3 --catch-up", 200, 200},
		{"tcp", "greet --body 100B", "-c 20 -n 500 --expect 100B", 500, 500},
		{"http", "slow --delay 5ms", "-c 20 -n 200 --close rst", 200, 200},
		{"udp", "echo --network udp", "-n 100 --rate 1k/s --reply --interval 20ms " +
			"--lifetime exponential(60ms) --catch-up", 100, 0},
		{"udp", "silent --network udp", "-t 500ms --rate 200/s --source-ports 20000-20009 " +
			"--reuse --sources 127.0.0.1-127.0.0.9 --zipf 1.2 --catch-up", 100, 0},
		{"udp", "echo --network udp", "-n 200 --rate 1k/s --reply --sources 127.0.0.1 " +
			"--source-ports 20000-29999 --catch-up", 200, 0},
		{"probe", "silent", "--rate 50/s -n 20 --timeout 10s --catch-up", 20, 20},
	} {
		t.Run(tc.kind+" "+tc.args, func(t *testing.T) {
			address, end := answering(t, strings.Fields(tc.responder)...)
			line := fmt.Sprintf("generate %s --format json %s %s", tc.kind, address, tc.args)
			o := ctload(t, time.Minute, strings.Fields(line)...)
			var r generators.Result
			if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || o.status != 0 {
				t.Fatalf("exit status %d, %v: %s", o.status, err, o.stderr)
			}
			if r.Offered != tc.completed || r.Completed != tc.completed {
				t.Errorf("offered %d, completed %d, failed by %v", r.Offered, r.Completed, r.Causes)
			}
			if n := end().Accepted; n != tc.accepted {
				t.Errorf("%d connections were accepted", n)
			}
		})
	}
}

// TestGenerateLines reads the lines that readers of ab's output read.
func TestGenerateLines(t *testing.T) {
	address, _ := answering(t, "http")
	o := ctload(t, time.Minute, "generate", "http", "-c", "5", "-n", "100",
		"http://"+address+"/some/where")
	for _, line := range []string{
		`Document Path: +/some/where`, `Concurrency Level: +5`, `Complete requests: +100`,
		`Failed requests: +0`, `Requests per second: +[0-9.]+ \[#/sec\] \(mean\)`,
		` 100% +[0-9.]+ \(longest request\)`, `Connect: +[0-9.]+`, `Processing: +[0-9.]+`,
		`Waiting: +[0-9.]+`, `Server Software: +ctload`, `Document Length: +0 bytes`,
		`HTML transferred: +0 bytes`,
	} {
		if !regexp.MustCompile(`(?m)^` + line).MatchString(o.stdout) {
			t.Errorf("no line %q in\n%s", line, o.stdout)
		}
	}
	if o.status != 0 || o.stderr != "" {
		t.Errorf("exit status %d: %s", o.status, o.stderr)
	}
}

// established returns how many connections to a port of 127.0.0.1 this host's kernel has.
func established(t *testing.T, port string) int {
	t.Helper()
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	// The columns hold the peer, and the state ESTABLISHED.
	return strings.Count(string(table), fmt.Sprintf(" 0100007F:%04X 01 ", number))
}

// TestGenerateInterrupted ends a load early: the output tells what was done.
func TestGenerateInterrupted(t *testing.T) {
	t.Parallel() // it mostly waits
	address, _ := answering(t, "silent")
	cmd := command(t, "generate", "hold", "-n", "10", "--rate", "100/s", "--catch-up", "-t", "1h",
		address)
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(address, ":")
	if !hosttest.Poll(time.Minute, func() bool { return established(t, port) == 10 }) {
		t.Fatalf("%d connections are established", established(t, port))
	}
	// The kernel counts the last connection before the generator does.
	stderr.WaitFor(t, " 10 open", time.Minute)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	o := wait(t, cmd, time.Minute, &stdout, &stderr)
	complete := strings.Contains(o.stdout, "Complete connections:   10\n")
	if o.status != statusInterrupted || !complete {
		t.Errorf("exit status %d\n%s%s", o.status, o.stdout, o.stderr)
	}
}

// TestGenerateStoodStill stops a generator for longer than its timeout while more answers arrive
// than it reads at once: they came in time, and are no timeouts.
func TestGenerateStoodStill(t *testing.T) {
	if testing.Short() { // else machines run beside it
		t.Parallel()
	}
	const limit = 3 * time.Second
	for _, tc := range []struct {
		kind, responder, args string
	}{
		{"udp", "slow --delay 1s --network udp", "--reply"},
		{"http", "slow --delay 1s", ""},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			t.Parallel() // it mostly waits
			address, _ := answering(t, strings.Fields(tc.responder)...)
			line := fmt.Sprintf("generate %s --rate 200/s -t 8s --timeout %s --format json %s %s",
				tc.kind, limit, address, tc.args)
			cmd := command(t, strings.Fields(line)...)
			var stdout, stderr hosttest.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			time.Sleep(limit + time.Second)
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			o := wait(t, cmd, time.Minute, &stdout, &stderr)
			var r generators.Result
			err := json.Unmarshal([]byte(o.stdout), &r)
			if err != nil || o.status != 0 && o.status != statusInvalid {
				t.Fatalf("exit status %d, %v: %s", o.status, err, o.stderr)
			}
			// Other delays by the host may cost a few.
			if n := r.Causes[string(generators.Timeout)]; r.Offered < 200 || n > 10 {
				t.Errorf("of %d offered %d timed out", r.Offered, n)
			}
		})
	}
}

// TestGenerateRefusals gives the generators what they cannot make.
func TestGenerateRefusals(t *testing.T) {
	for _, tc := range []struct{ args, says string }{ // words are separated by |
		{"htpp http://127.0.0.1/", `"htpp"|did you mean "http"`},
		{"http -c 1 http://127.0.0.1/", "a load needs a count or a duration"},
		{"tcp -n 1 127.0.0.1:9", "a load needs a rate or a concurrency"},
		{"tcp -n 1 -c 1 127.0.0.1", "name a destination port"},
		{"tcp -n 1 -c 1 -p 80 127.0.0.1:9", "--ports 80"},
		{"tcp -n 1 -c 1 -p 99999 127.0.0.1", "--ports|99999"},
		{"tcp -n 1 -c 1 9.9.9.9:9", "public address"},
		{"http -n 1 https://127.0.0.1/", "http://"},
		{"tcp -n 1 --rate 100/sec 127.0.0.1:9", `--rate|did you mean "s"`},
		{"tcp -n 1 --ramp 0/s-9/s 127.0.0.1:9", "--duration"},
		{"tcp --stages 10/s 127.0.0.1:9", "--stages|1000/s:10s"},
		{"tcp --stages 10/s-:1s 127.0.0.1:9", "--stages|0/s-1000/s"},
		{"tcp -n 1 --burst 5 127.0.0.1:9", "--burst|500:1s"},
		{"tcp -n 1 --sine 5/s:9/s:1s 127.0.0.1:9", "sine|amplitude"},
		{"tcp -n 1 --rate 1/s --burst 1:1s 127.0.0.1:9", "rate|burst"},
		{"tcp -n 1 -c 1 --close slam 127.0.0.1:9", "slam|half-close"},
		{"icmp -n 1 --close rst 127.0.0.1", "--close does not go with icmp"},
		{"udp -n 1 -k 5 127.0.0.1:9", "--keep-alive does not go with udp"},
		{"tcp -n 1 --concurency 5 127.0.0.1:9", "did you mean --concurrency"},
		{"syn -n 9 --sources 10.9.0.1 --source-ports 1-8 10.0.0.1:9", "9 wanted, 8 tuples"},
		{"udp -n 1 --crafted 10.0.0.1:9", "no sources|name addresses"},
		{"udp -n 1 --crafted --sources 10.9.0.1 --reply --exchanges 2 --interval 1s 10.0.0.1:9",
			"leave out reply, exchanges, interval, or crafted"},
		{"udp -n 1 --crafted --sources 10.9.0.1 --free-bind -c 5 10.0.0.1:9",
			"leave out concurrency, free bind, or crafted"},
		{"udp -n 1 --crafted --sources 10.9.0.1 --payload 1473B 10.0.0.1:9",
			"1473 bytes is 1 more than fit"},
		{"udp -n 1 --crafted --sources 10.9.0.1 9.9.9.9:9", "public address"},
		{"udp -n 9 --crafted --sources 10.9.0.1 --source-ports 1-8 10.0.0.1:9",
			"9 wanted, 8 tuples"},
		{"udp -t 20s --rate 20/s --source-ports 5000-5009 127.0.0.1:9", "400 wanted, 10 tuples"},
		{"tcp -n 1 --rate 1/s --lifetime gamma(3s) 127.0.0.1:9", `--lifetime: "gamma" is not`},
		{"tcp -n 1 --rate 1/s --zipf x 127.0.0.1:9", "--zipf|zipf(1.2)"},
		{"tcp -n 1 --rate 1/s --arrivals odd 127.0.0.1:9", "--arrivals|poisson"},
		{"http -n 1 --lifetime 3s http://127.0.0.1/", "--lifetime does not go with http"},
		{"tcp -n 5 -c 70k 127.0.0.1:9", "70000 at once are more than the tuples"},
		{"tcp -n 5 -c 9 --source-ports 1024-1031 127.0.0.1:9", "9 at once|8 tuples"},
		{"udp -n 1 --gateway 02:00:00:00:00:01 127.0.0.1:9", "need crafted packets"},
		{"udp -n 1 --timeout 5s 127.0.0.1:9", "--timeout does nothing without answers"},
		{"icmp -n 1 --timeout 5s 127.0.0.1", "--timeout does nothing without answers"},
		{"icmp -n 1 127.0.0.1:9", "packets of icmp go to no port: write 127.0.0.1"},
		{"probe -n 1 -r 1 --protocol icmp -p 80 127.0.0.1", "leave out ports"},
		{"probe -n 1 -r 1 --protocol udp --close rst 127.0.0.1:9", "without --protocol tcp"},
		{"tcp -c 1 -n 1 --slack 1s 127.0.0.1:9", "--slack does nothing without a rate"},
		{"tcp -c 1 -n 1 --arrivals poisson 127.0.0.1:9", "--arrivals does nothing"},
		{"tcp -c 1 -n 1 --free-bind 127.0.0.1:9", "--free-bind does nothing without --sources"},
		{"http -n 1 --close-on-error 127.0.0.1:9", "does nothing without --keep-alive"},
		{"syn -n 1 --crafted --sources 10.9.0.1 10.0.0.1:9", "--crafted does not go with syn"},
		{"tcp -n 1 -c 1 --namespace /no/such 127.0.0.1:9", "/no/such"},
		{"tcp -n 1 -c 1 --format xml 127.0.0.1:9", "valid here: ab, json"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			o := ctload(t, 2*time.Minute, strings.Fields("generate "+tc.args)...)
			if o.status != statusUsage || o.stdout != "" {
				t.Errorf("exit status %d, want %d\n%s", o.status, statusUsage, o.stdout)
			}
			for word := range strings.SplitSeq(tc.says, "|") {
				if !strings.Contains(o.stderr, word) {
					t.Errorf("it does not say %q:\n%s", word, o.stderr)
				}
			}
		})
	}
	o := ctload(t, 2*time.Minute, "respond", "sylent")
	if o.status != statusUsage || !strings.Contains(o.stderr, "silent") {
		t.Errorf("exit status %d: %s", o.status, o.stderr)
	}
	o = ctload(t, 2*time.Minute, "respond", "slow")
	if o.status != statusUsage || !strings.Contains(o.stderr, "delay") {
		t.Errorf("exit status %d: %s", o.status, o.stderr)
	}
}

// TestGenerateOwnLimit lets a generator reach its own limit of descriptors: that is its fault, not
// the target's, and has its own exit status.
func TestGenerateOwnLimit(t *testing.T) {
	if testing.Short() { // else machines run beside it
		t.Parallel()
	}
	address, _ := answering(t, "silent")
	path := labtest.Ctload(t)
	cmd := exec.Command("sh", "-c", `ulimit -n 100 && exec "$0" "$@"`, path, "generate", "tcp",
		"--rate", "1k/s", "-t", "1s", "--expect", "1B", "--timeout", "5s", address)
	// In a user namespace root has the limits of every user.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	o := finish(t, cmd, time.Minute)
	said := strings.Contains(o.stderr, "the generator was the limit: descriptors:")
	if o.status != statusInvalid || !said {
		t.Errorf("exit status %d: %s%s", o.status, o.stdout, o.stderr)
	}
}

// TestGenerateCrafted floods the loopback interface of a namespace of its own with packets that
// come from no socket, and counts the arrivals.
func TestGenerateCrafted(t *testing.T) {
	hosttest.Need(t, "ip")
	path := labtest.Ctload(t)
	const script = `ip link set lo up && "$0" generate "$@" && grep lo: /proc/net/dev >&2`
	for _, args := range []string{
		"syn", "udp --crafted", "udp --crafted --payload 1KiB --rate 10k/s --catch-up",
	} {
		t.Run(args, func(t *testing.T) {
			args += " -n 2000 --sources 10.9.0.0/16 --seed 1 --format json 127.0.0.1:53"
			words := append([]string{"-c", script, path}, strings.Fields(args)...)
			cmd := exec.Command("sh", words...)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			}
			o := finish(t, cmd, time.Minute)
			var r generators.Result
			if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || o.status != 0 {
				t.Fatalf("exit status %d, %v: %s", o.status, err, o.stderr)
			}
			if r.Offered != 2000 || r.Completed != 2000 {
				t.Errorf("offered %d, completed %d, failed by %v", r.Offered, r.Completed, r.Causes)
			}
			if came := strings.Fields(o.stderr); len(came) < 3 || came[2] != "2000" {
				t.Errorf("the interface has %q packets, want 2000", came)
			}
		})
	}
}

// TestGenerateHelp asks each kind for its help and tries the command lines that it shows.
func TestGenerateHelp(t *testing.T) {
	for _, kind := range kinds {
		o := ctload(t, 2*time.Minute, "generate", string(kind.kind), "--help")
		for _, word := range []string{"Examples:", "--rate", "--stages"} {
			if !strings.Contains(o.stdout, word) {
				t.Errorf("%s: no %q in\n%s", kind.kind, word, o.stdout)
			}
		}
		found := 0
		for _, match := range matches(`(?m)^.*ctload (generate .*?)(?:   .*)?$`, kind.example) {
			found++
			o := ctload(t, 2*time.Minute, append(strings.Fields(match[1]), "--help")...)
			if o.status != 0 {
				t.Errorf("ctload %s: %s", match[1], o.stderr)
			}
		}
		if found < 2 {
			t.Errorf("%s has %d examples", kind.kind, found)
		}
	}
}

func TestReadProfile(t *testing.T) {
	profile := func(p generators.Profile) generators.Spec { return generators.Spec{Profile: &p} }
	for _, tc := range []struct {
		flag, text string
		want       generators.Spec
	}{
		{"rate", "3k/s", generators.Spec{Rate: 3000}},
		{"rate", "3000", generators.Spec{Rate: 3000}},
		{"ramp", "0/s-600/min", profile(generators.Profile{
			Stages: pacing.Stages{{From: 0, To: 10, Duration: time.Minute}},
		})},
		{"stages", "0-5/s:1s,5/s:1m30s", profile(generators.Profile{Stages: pacing.Stages{
			{From: 0, To: 5, Duration: time.Second}, {From: 5, To: 5, Duration: 90 * time.Second},
		}})},
		{"burst", "1k:500ms", profile(generators.Profile{
			Bursts: &pacing.Bursts{Size: 1000, Every: 500 * time.Millisecond},
		})},
		{"sine", "10/s:5:1m", profile(generators.Profile{
			Sine: &pacing.Sine{Mean: 10, Amplitude: 5, Period: time.Minute},
		})},
		{"expect", "1KiB", generators.Spec{Expect: 1024}},
	} {
		f := generateFlags{spec: generators.Spec{Kind: generators.TCP}}
		cmd := &cobra.Command{}
		cmd.Flags().AddFlagSet(f.declare())
		args := []string{"--duration", "1m", "--" + tc.flag, tc.text}
		if err := cmd.ParseFlags(args); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		if err := f.read(cmd, "10.0.0.2:80"); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		tc.want.Kind, tc.want.Duration = generators.TCP, time.Minute
		tc.want.Target, tc.want.Ports = "10.0.0.2", []uint16{80}
		if diff := cmp.Diff(tc.want, f.spec); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
}
