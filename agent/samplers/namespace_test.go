package samplers

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

const namespaceVariable = "CTLOAD_TEST_NAMESPACE"

// inNamespace runs the body of the calling test in a process of its own, in new user and network
// namespaces whose loopback is up: once as the user who runs the tests and, when that is root, once more
// as an ordinary user.
func inNamespace(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(namespaceVariable) == t.Name() {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
		// The legacy tools lock a file in /run, which an ordinary user cannot write.
		t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
		body(t)
		return
	}
	identities := map[string]int{"own user": os.Getuid()}
	if os.Getuid() == 0 {
		identities["ordinary user"] = 65534
	}
	for name, uid := range identities {
		t.Run(name, func(t *testing.T) {
			test, _, _ := strings.Cut(t.Name(), "/")
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+test+"$", "-test.v")
			cmd.Env = append(os.Environ(), namespaceVariable+"="+test, "TMPDIR=/tmp")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
				Pdeathsig:   syscall.SIGKILL,
				Credential:  &syscall.Credential{NoSetGroups: true},
			}
			if os.Getuid() != 0 {
				cmd.SysProcAttr.GidMappings[0].HostID = os.Getgid()
			}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			switch {
			case err != nil && strings.Contains(err.Error(), "operation not permitted") && out.Len() == 0:
				skip(t, "this host lets this user make no namespaces: %v", err)
			case err != nil:
				t.Fatalf("in the namespace: %v\n%s", err, &out)
			case strings.Contains(out.String(), "--- SKIP: "+test):
				skip(t, "in the namespace: %s", &out)
			case !strings.Contains(out.String(), "--- PASS: "+test):
				t.Fatalf("the test did not run in the namespace:\n%s", &out)
			}
			t.Log(strings.TrimSpace(out.String()))
		})
	}
}

// skip skips for something that the host truly lacks; CTLOAD_NO_SKIP turns that into a failure.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CTLOAD_NO_SKIP") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// need skips unless the programs are installed.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, "%v", err)
		}
	}
}
