package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
)

// ownWorld is an experiment whose rules, which stand in a file, refer to a set, an object of nfacct
// and one of nfct. %s is a further command of the setup, and a key of the dut.
const ownWorld = `
experiment: own-world
dut:
  memory: 256MiB
  setup: [nfacct add web%s]
  ipset: |
    create blocked hash:net
    add blocked ${client.address}
  rules: {file: rules.v4}
%s
workload:
  - {generator: tcp, connections: 60, concurrency: 6}
  - {generator: tcp, name: blocked, ports: 81, connections: 5, concurrency: 5, timeout: 1s}
recovery: {at-least: 3s, at-most: 3s}
scenarios: {tracked: {}}
`

// ownRules has more rules than a namespace takes in one transaction of nft: new connections pass
// all of them.
const ownRules = 9000

// TestOwnWorld loads it into a machine, with the settings of VyOS, of which Linux 6.1 takes one by
// a short write, and into a namespace: the load meets the rules, and its entries last as the
// timeout object has it.
func TestOwnWorld(t *testing.T) {
	labtest.Need(t)
	hosttest.Need(t, "ipset", "nfacct")
	timeout, assigned := "", ""
	if hosttest.Long() { // make test does not install nfct, which brings a daemon
		hosttest.Need(t, "nfct")
		timeout = ", nfct add timeout brief inet tcp time_wait 1 close 1"
		assigned = "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --timeout brief\nCOMMIT\n"
	}
	var rules strings.Builder
	rules.WriteString(assigned + "*filter\n:many - [0:0]\n" +
		"-A INPUT -p tcp --dport 80 -m nfacct --nfacct-name web\n" +
		"-A INPUT -p tcp --dport 81 -m set --match-set blocked src -j DROP\n" +
		"-A INPUT -p tcp --dport 80 -m conntrack --ctstate NEW -j many\n")
	for i := range ownRules {
		fmt.Fprintf(&rules, "-A many -s 198.18.%d.%d -j DROP\n", i/250, i%250+1)
	}
	rules.WriteString("-A many -j ACCEPT\nCOMMIT\n")
	vyos, err := os.ReadFile("../../scenarios/testdata/imports/vyos.conf")
	if err != nil {
		t.Fatal(err)
	}
	for driver, settings := range map[string]string{
		"libvirt": "  sysctl: {file: vyos.conf}", "netns": "",
	} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			file := experiment(t, fmt.Sprintf(ownWorld, timeout, settings))
			for name, text := range map[string]string{
				"rules.v4": rules.String(),
				// The guest has no program that takes cores.
				"vyos.conf": strings.Replace(string(vyos), "kernel.core_pattern", "#", 1),
			} {
				path := filepath.Join(filepath.Dir(file), name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o, folder := measuredRun(t, 10*time.Minute, file, "--driver", driver)
			if o.stdout == "" {
				t.Fatalf("exit status %d\n%s", o.status, o.stderr)
			}
			trial := labtest.Counted(decode(t, o.stdout)).Scenarios[0].Trials[0]
			t.Logf("%s: %s; stages %v", trial.Verdict, trial.Sentence, trial.Stages)
			if done := trial.Load.Done(); done != 60 || trial.Conntrack.Peak == 0 {
				t.Errorf("exit status %d, completed %d, peak %d\n%s", o.status, done,
					trial.Conntrack.Peak, o.stderr)
			}
			at := filepath.Join(folder, trial.Folder)
			counted(t, at, `\[[1-9]\d+:\d+\] -A INPUT -p tcp -m tcp --dport 80 -m nfacct`)
			counted(t, at, `\[[1-9]\d*:\d+\] -A INPUT .*--match-set blocked src -j DROP`)
			counted(t, at, `\[60:\d+\] -A many -j ACCEPT`)
			if left := trial.Contents.Entries; (left == 0) != (timeout != "") {
				t.Errorf("%d entries are left", left)
			}
		})
	}
}
