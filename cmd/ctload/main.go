// Command ctload floods a virtual machine with connections and shows which configuration of its
// kernel's connection tracking survives.
package main

import (
	"context"
	"os"
	"os/user"
	"path/filepath"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/modload"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/vm/preflight"
	"github.com/ctload/ctload/vm/sandbox"
)

// roles are the functions of this program when it is started under another name: PID 1 of a guest,
// and the child processes that it starts from its own file.
var roles = map[string]func() int{
	agent.InitRole:         agent.Init,
	agent.ChildRole:        agent.RunChild,
	agent.StdioRole:        agent.RunStdio,
	link.HelperRole:        link.RunHelper,
	faults.EaterRole:       faults.RunEater,
	preflight.Role:         preflight.Run,
	tuning.BoxRole:         tuning.RunBox,
	"modprobe":             func() int { return modload.Main(os.Args[1:]) },
	sandbox.SupervisorRole: sandbox.Supervise,
	sandbox.CheckRole:      sandbox.RunCheck,
}

func main() {
	if role, ok := roles[filepath.Base(os.Args[0])]; ok {
		os.Exit(role())
	}
	settleEnvironment()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// settleEnvironment sets what a service or a script may have left out, for this program and those
// that it starts: the user's home, and where programs are.
func settleEnvironment() {
	if os.Getenv("HOME") == "" {
		if self, err := user.Current(); err == nil {
			os.Setenv("HOME", self.HomeDir)
		}
	}
	if os.Getenv("PATH") == "" {
		os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
}
