package orchestrator

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/scenarios"
)

// here runs commands on this host. Those of the test touch nothing: the tools refuse their
// arguments.
type here struct{}

func (here) Exec(ctx context.Context, stdin string, argv ...string) (agent.Output, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr, cmd.Env = strings.NewReader(stdin), &stderr,
		[]string{"LC_ALL=C", "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		err = nil
	}
	return agent.Output{Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}, err
}

// TestRefusals gives the shipped mistakes with invalid arguments to the real tools of this host.
func TestRefusals(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	hosttest.Need(t, "sysctl", "iptables-nft", "iptables-legacy")
	experiment, _, err := scenarios.Load("typos")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, s := range experiment.Resolve() {
		if s.Name == "full-stop" {
			continue // the kernel refuses its value
		}
		for _, backend := range []scenarios.RulesBackend{scenarios.BackendNFT,
			scenarios.BackendLegacy} {
			s.DUT.RulesBackend = backend
			list, err := refusals(t.Context(), here{}, s.DUT)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range list {
				seen++
				says := map[bool]string{true: "invalid syntax",
					false: "ad argument"}[strings.HasPrefix(r.Command, "sysctl")]
				if r.Command != s.DUT.Refused[i] || r.Status == 0 ||
					!strings.Contains(r.Said, says) && !strings.Contains(r.Said,
						"must be of the form") {
					t.Errorf("%s: %+v", s.Name, r)
				}
			}
		}
	}
	if seen != 10 {
		t.Errorf("%d lines were run, want 10", seen)
	}
	if _, err := refusals(t.Context(), here{},
		scenarios.Configuration{Refused: []string{"no-such-program -x"}}); err == nil {
		t.Error("a program that is not there has refused something")
	}
}
