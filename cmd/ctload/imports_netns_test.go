package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

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
	} {
		t.Run(files, func(t *testing.T) {
			t.Parallel()
			args := []string{"import"}
			for name := range strings.FieldsSeq(files) {
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
			text := strings.NewReplacer("requests: 5000", "requests: 60",
				"concurrency: 200", "concurrency: 6").Replace(o.stdout)
			o, folder := measuredRun(t, 5*time.Minute, experiment(t, text), "--driver", "netns")
			if o.status != statusOK {
				t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
			}
			trials := decode(t, o.stdout).Scenarios[0].Trials
			trial := trials[len(trials)-1]
			if trial.Verdict != results.Clean || trial.Accounting.Failed != 0 {
				t.Errorf("%s: %s", trial.Verdict, trial.Sentence)
			}
			read, err := os.ReadFile(filepath.Join(folder, trial.Folder, results.FileReadback))
			if err != nil {
				t.Fatal(err)
			}
			plain := strings.ReplaceAll(strings.ReplaceAll(string(read), `\n`, "\n"), `\"`, `"`)
			if !regexp.MustCompile(passes).MatchString(plain) {
				t.Errorf("no rule has counted as %s:\n%s", passes, plain)
			}
		})
	}
}
