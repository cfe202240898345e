package results

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// winning returns a run whose second scenario is the recommended one.
func winning(first, second Configuration) *Run {
	trial := func(v Verdict) []Trial {
		return []Trial{{Number: 1, Verdict: v}}
	}
	return &Run{Experiment: "x", Scenarios: []Scenario{
		{Name: "first", Configuration: first, Trials: trial(TableFull)},
		{Name: "second", Configuration: second, Trials: trial(Clean)},
	}}
}

func texts(steps []Step) (list []string) {
	for _, s := range steps {
		list = append(list, s.Text)
	}
	return list
}

const filter = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"

func TestApply(t *testing.T) {
	const raw = "*raw\n-A PREROUTING -j CT --notrack\nCOMMIT"
	settings := func(lines string) string {
		return "sudo modprobe nf_conntrack\n" +
			"echo nf_conntrack | sudo tee /etc/modules-load.d/nf_conntrack.conf\n" +
			"sudo tee /etc/sysctl.d/90-conntrack.conf <<'EOF'\n" +
			lines + "\nEOF\nsudo sysctl -p /etc/sysctl.d/90-conntrack.conf"
	}
	type conf = Configuration
	for _, test := range []struct {
		name          string
		first, second conf
		want          []string
	}{
		{
			"only what changes, and no rules that are the same",
			conf{Rules: filter, Sysctl: map[string]string{"a": "1", "b": "2"}},
			conf{Rules: filter, Sysctl: map[string]string{"a": "1", "b": "3"}, Buckets: 65536},
			[]string{settings("net.netfilter.nf_conntrack_buckets = 65536\nb = 3")},
		},
		{
			"a further table", conf{Rules: filter}, conf{Rules: filter + "\n" + raw},
			[]string{"sudo iptables-restore <<'EOF'\n" + raw + "\nEOF"},
		},
		{
			"a table less", conf{Rules: filter + raw}, conf{Rules: filter},
			[]string{"sudo iptables-restore <<'EOF'\n*raw\nCOMMIT\nEOF"},
		},
		{
			"IPv6 alone", conf{Rules6: filter}, conf{Rules6: filter + raw},
			[]string{"sudo ip6tables-restore <<'EOF'\n" + raw + "\nEOF"},
		},
		{
			"nftables", conf{}, conf{NFT: "table inet x {}\nEOF\n"},
			[]string{"sudo nft -f - <<'EOF_'\ntable inet x {}\nEOF\nEOF_"},
		},
		{"another kernel", conf{Rules: filter}, conf{Rules: filter, Kernel: "debian/trixie"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := Conclude(winning(test.first, test.second))
			if diff := cmp.Diff(test.want, texts(a.Steps)); diff != "" || a.Scenario != "second" {
				t.Errorf("%s: %s", a.Scenario, diff)
			}
			for _, rules := range []string{test.second.Rules, test.second.Rules6, test.second.NFT} {
				if !strings.Contains(a.Full, strings.TrimSpace(rules)) {
					t.Errorf("not in full: %s", a.Full)
				}
			}
		})
	}
}

// TestApplyIsPasted: a shell takes the commands unchanged, whatever text they hold.
func TestApplyIsPasted(t *testing.T) {
	rules := "*raw\n" +
		"-A PREROUTING -m comment --comment \"it's $HOME `id` \\\\\" -j CT --notrack\nCOMMIT"
	a := Conclude(winning(Configuration{},
		Configuration{Rules: rules, Sysctl: map[string]string{"a": "1 2"}}))
	dir := t.TempDir()
	// In place of sudo, a script that records its arguments and its input.
	script := "#!/bin/sh\necho \"$@\" >>" + dir + "/said\n" +
		"case $1 in modprobe|sysctl) ;; *) cat >>" + dir + "/said ;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-e")
	c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	c.Stdin = strings.NewReader(strings.Join(texts(a.Steps), "\n"))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said, err := os.ReadFile(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	want := "modprobe nf_conntrack\ntee /etc/modules-load.d/nf_conntrack.conf\nnf_conntrack\n" +
		"tee /etc/sysctl.d/90-conntrack.conf\na = 1 2\n" +
		"sysctl -p /etc/sysctl.d/90-conntrack.conf\niptables-restore\n" + rules + "\n"
	if diff := cmp.Diff(want, string(said)); diff != "" {
		t.Error(diff)
	}
}

// TestStepsOf writes fixes as commands: each kind that a shell can repeat, and no other.
func TestStepsOf(t *testing.T) {
	for actions, want := range map[string][]string{
		`[{"action":"flush","fix":true},{"action":"pause"}]`: {"sudo conntrack -F"},
		`[{"action":"flush"}]`:                               nil, // a fault
		`[{"action":"delete","fix":true,"state":"TIME_WAIT","port":80}]`: {
			"sudo conntrack -D -p tcp --state TIME_WAIT --dport 80",
		},
		`[{"action":"delete","fix":true,"source":"10.0.0.1; id"}]`: {
			"sudo conntrack -D -s '10.0.0.1; id'",
		},
		`[{"action":"delete","fix":true,"unassured":true}]`: nil,
		`[{"action":"module-remove","fix":true}]`:           nil,
		`[{"action":"rules-load","fix":true,"add":true,"rules":"*raw\nCOMMIT"}]`: {
			"sudo iptables-restore --noflush <<'EOF'\n*raw\nCOMMIT\nEOF",
		},
		"[]": nil,
	} {
		var asked Asked
		if err := json.Unmarshal([]byte(actions), &asked); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, texts(stepsOf(asked))); diff != "" {
			t.Errorf("%s: %s", actions, diff)
		}
	}
}
