package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// TestImport_DoesWhatItWouldThere imports whole files of projects as they are, makes a short load,
// and finds it in the counters of the rules that it passes there.
func TestImport_DoesWhatItWouldThere(t *testing.T) {
	labtest.Need(t)
	for files, passes := range map[string]string{
		"fw4.nft":      `(?m)oifname "wan" counter packets [1-9]\d+ bytes \d+ accept`,
		"kube-nft.nft": "", // its rules do not count
		"kube.v4":      `\[60:\d+\] -A KUBE-SERVICES -d \S+ .* -j KUBE-SVC-`,
		"docker.v4":    `\[60:\d+\] -A DOCKER ! -i docker0 .* -j DNAT`,
		"istio.v4":     `\[60:\d+\] -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006`,

		"before.rules user.rules": `\[60:\d+\] -A ufw-user-input -p tcp .*--dport 80 -j ACCEPT`,
		"csf.v4 csf.ipset":        `\[60:\d+\] -A INPUT ! -i lo .* --dport 80 -j ACCEPT`,
	} {
		t.Run(files, func(t *testing.T) {
			t.Parallel()
			text := imported(t, strings.Fields(files)...)
			o, folder := measuredRun(t, 5*time.Minute, experiment(t, text), "--driver", "netns")
			if o.status != statusOK {
				t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
			}
			trials := decode(t, o.stdout).Scenarios[0].Trials
			trial := trials[len(trials)-1]
			if trial.Verdict != results.Clean || trial.Accounting.Failed != 0 {
				t.Errorf("%s: %s", trial.Verdict, trial.Sentence)
			}
			counted(t, filepath.Join(folder, trial.Folder), passes)
		})
	}
}

// imported returns the experiment of files of the package scenarios, with a short load.
func imported(t *testing.T, names ...string) string {
	t.Helper()
	args := []string{"import"}
	for _, name := range names {
		if strings.HasSuffix(name, ".ipset") {
			hosttest.Need(t, "ipset")
		}
		path, err := filepath.Abs(filepath.Join("../../scenarios/testdata/imports", name))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	o := ctload(t, time.Minute, args...)
	if o.status != statusOK {
		t.Fatal(o.stderr)
	}
	return strings.NewReplacer("requests: 5000", "requests: 60",
		"concurrency: 200", "concurrency: 6").Replace(o.stdout)
}

// counted expects a line of the rules that a trial read back after its load, with its counters.
func counted(t *testing.T, trial, line string) {
	t.Helper()
	read, err := os.ReadFile(filepath.Join(trial, results.FileReadback))
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(`\n`, "\n", `\"`, `"`).Replace(string(read))
	if !regexp.MustCompile(line).MatchString(plain) {
		t.Errorf("no rule has counted as %s:\n%s", line, plain)
	}
}

// TestImport_DeniesTheClient puts the lab's client into the set that CSF denies: its rule drops the
// whole load.
func TestImport_DeniesTheClient(t *testing.T) {
	labtest.Need(t)
	text := strings.NewReplacer("203.0.113.77", "${client.address}", "requests: 60", "requests: 6",
		"timeout: 10s", "timeout: 1s").
		Replace(imported(t, "csf.v4", "csf.ipset"))
	o, folder := measuredRun(t, 5*time.Minute, experiment(t, text), "--driver", "netns")
	trial := labtest.Counted(decode(t, o.stdout)).Scenarios[0].Trials[0]
	if trial.Load.Done() != 0 || trial.Conntrack.Peak != 0 {
		t.Errorf("exit status %d, %s: %s\n%s", o.status, trial.Verdict, trial.Sentence, o.stderr)
	}
	counted(t, filepath.Join(folder, trial.Folder),
		`\[[1-9]\d*:\d+\] -A DENYIN -m set --match-set chain_DENY src -j DROP`)
}

// TestSetup_ApartFromTheHost runs programs of the setup that print lines of a file of this host,
// and that set a parameter of the DUT and one of this host: only that of the DUT is done.
func TestSetup_ApartFromTheHost(t *testing.T) {
	labtest.Need(t)
	hosttest.Need(t, "sysctl")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2 is the word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const text = "experiment: x\nrecovery: 0s\nworkload: [{generator: tcp, connections: 5, " +
		"concurrency: 1}]\ndut: {setup: [%q]}\n"
	run := func(command string) outcome {
		return ctload(t, time.Minute, "run", experiment(t, fmt.Sprintf(text, command)), "--driver",
			"netns", "--out", filepath.Join(t.TempDir(), "run"))
	}
	o := run("nft -f " + secret)
	said := o.stdout + o.stderr
	if o.status != statusInvalid || strings.Contains(said, "hunter2") ||
		!strings.Contains(said, "No such file") {
		t.Errorf("exit status %d\n%s", o.status, said)
	}
	o = run("sysctl -w net.ipv4.tcp_fin_timeout=7")
	if o.status != statusOK {
		t.Errorf("exit status %d\n%s", o.status, o.stderr)
	}
	// The kernel is this host's: what is not of the network namespace stays as it is.
	const shared = "/proc/sys/vm/stat_interval"
	before, err := os.ReadFile(shared)
	if err != nil {
		t.Fatal(err)
	}
	o = run("sysctl -w vm.stat_interval=7")
	after, err := os.ReadFile(shared)
	if !bytes.Equal(before, after) {
		t.Errorf("a setup changed %s of this host: %q, %v", shared, after, err)
		_ = os.WriteFile(shared, before, 0)
	}
	if said = o.stdout + o.stderr; o.status != statusInvalid ||
		!strings.Contains(said, "vm.stat_interval") {
		t.Errorf("exit status %d\n%s", o.status, said)
	}
}
