package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/ctload/ctload/results/metrics"
)

// promtool evaluates the rules: it has Prometheus' own engine.
const promtool = "promtool"

// MissingError tells that this host lacks promtool.
type MissingError struct{ error }

// rulesError tells what promtool finds wrong in a file of rules.
type rulesError struct{ said string }

func (e *rulesError) Error() string { return e.said }

// Firing is an alert in a trial.
type Firing struct {
	Alert  string            `json:"alert"`
	Labels map[string]string `json:"labels,omitempty"` // beside those of the trial
	// Fired is when the rule fired first, in seconds from the start of the load, to a scrape; nil:
	// it did not.
	Fired *float64 `json:"fired_s,omitempty"`
	// Lead is the time from there to the first drop, in seconds; negative: after it; nil: no drop,
	// or no alert.
	Lead *float64 `json:"lead_s,omitempty"`
}

// Check returns the names of the alerts in a file of rules, in their order. The error of rules that
// Prometheus would not load is a *rulesError.
func Check(ctx context.Context, rules []byte) ([]string, error) {
	dir, err := os.MkdirTemp("", "ctload-alerts-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, rulesFile), rules, 0o600); err != nil {
		return nil, err
	}
	said, err := run(ctx, dir, "check", "rules", "--lint=none", rulesFile)
	if _, refused := errors.AsType[*exec.ExitError](err); refused {
		return nil, &rulesError{said}
	}
	if err != nil {
		return nil, err
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert string `yaml:"alert"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(rules, &file); err != nil {
		return nil, err
	}
	var names []string
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" && !slices.Contains(names, rule.Alert) {
				names = append(names, rule.Alert)
			}
		}
	}
	return names, nil
}

const rulesFile = "rules.yml"

// own are the labels that the series of a trial have here. Rules often ask for the job.
var own = []string{"alertname", "alertstate", "run", "scenario", "trial", "job", "instance"}

// Play returns what each alert of checked rules does over a trial that Prometheus scrapes and
// evaluates every so often. names are those of [Check]; firstDrop is the second of the first drop,
// nil without one.
func Play(
	ctx context.Context, rules []byte, names []string, trial metrics.Series,
	every time.Duration, firstDrop *float64,
) ([]Firing, error) {
	if len(trial.Samples) == 0 {
		return nil, errors.New("the trial has no samples")
	}
	dir, err := os.MkdirTemp("", "ctload-alerts-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	test, err := yaml.Marshal(testOf(trial, every))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, rulesFile), rules, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "test.yml"), test, 0o600)
	}
	if err != nil {
		return nil, err
	}
	said, err := run(ctx, dir, "test", "rules", "test.yml")
	if _, fired := errors.AsType[*exec.ExitError](err); err != nil && !fired {
		return nil, err
	}
	var list []Firing
	if err != nil {
		if list, err = parse(said); err != nil {
			return nil, err
		}
	}
	for i := range list {
		at := *list[i].Fired + trial.Samples[0].Seconds
		list[i].Fired = &at
		if firstDrop != nil {
			lead := *firstDrop - at
			list[i].Lead = &lead
		}
	}
	slices.SortStableFunc(list, func(a, b Firing) int {
		return slices.Index(names, a.Alert) - slices.Index(names, b.Alert)
	})
	for _, name := range names {
		if !slices.ContainsFunc(list, func(f Firing) bool { return f.Alert == name }) {
			list = append(list, Firing{Alert: name})
		}
	}
	return list, nil
}

// unitTest is a test as promtool takes it. It expects that no alert ever fires, so that promtool
// prints those that do, with the second of their first firing.
type unitTest struct {
	RuleFiles []string `yaml:"rule_files"`
	Every     string   `yaml:"evaluation_interval"`
	Tests     []unit   `yaml:"tests"`
}

type unit struct {
	Interval string     `yaml:"interval"`
	Input    []input    `yaml:"input_series"`
	Asked    []question `yaml:"promql_expr_test"`
}

type input struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type question struct {
	Expr     string `yaml:"expr"`
	At       string `yaml:"eval_time"`
	Expected []int  `yaml:"exp_samples"`
}

func testOf(trial metrics.Series, every time.Duration) unitTest {
	interval := strconv.FormatInt(every.Milliseconds(), 10) + "ms"
	scrapes := trial.Every(every)
	u := unit{Interval: interval, Asked: []question{{
		Expr: fmt.Sprintf(`min_over_time(timestamp(ALERTS{alertstate="firing"})[%dms:%s])`,
			(int64(len(scrapes))+1)*every.Milliseconds(), interval),
		At: strconv.FormatInt(int64(len(scrapes)-1)*every.Milliseconds(), 10) + "ms",
	}}}
	for _, m := range metrics.List() {
		var values []string
		for _, s := range scrapes {
			if s == nil {
				values = append(values, "_")
			} else {
				values = append(values, strconv.FormatInt(m.Value(s), 10))
			}
		}
		u.Input = append(u.Input, input{
			Series: fmt.Sprintf(`%s{job="node",instance="%s-%d",%s}`,
				m.Name, trial.Scenario, trial.Trial, trial.Labels()),
			Values: strings.Join(values, " "),
		})
	}
	return unitTest{RuleFiles: []string{rulesFile}, Every: interval, Tests: []unit{u}}
}

// parse reads the alerts that fired from what promtool says of the unmet expectation: a vector
// after "got:", as {label="value", ...} VALUE, ...
func parse(said string) ([]Firing, error) {
	_, text, found := strings.Cut(said, "got:")
	unreadable := fmt.Errorf("promtool said what ctload cannot read:\n%s", said)
	if !found {
		return nil, unreadable
	}
	var list []Firing
	for text = strings.TrimSpace(text); strings.HasPrefix(text, "{"); {
		f := Firing{Labels: map[string]string{}}
		text = text[1:]
		for !strings.HasPrefix(text, "}") {
			name, rest, ok := strings.Cut(strings.TrimLeft(text, ", "), "=")
			quoted, err := strconv.QuotedPrefix(rest)
			if !ok || err != nil {
				return nil, unreadable
			}
			value, _ := strconv.Unquote(quoted)
			text = rest[len(quoted):]
			if name == "alertname" {
				f.Alert = value
			}
			if !slices.Contains(own, name) {
				f.Labels[name] = value
			}
		}
		word := strings.TrimLeft(text[1:], " ")
		text = ""
		if end := strings.IndexAny(word, ",\n "); end >= 0 {
			word, text = word[:end], strings.TrimLeft(word[end:], ", ")
		}
		at, err := strconv.ParseFloat(word, 64)
		if err != nil || f.Alert == "" {
			return nil, unreadable
		}
		f.Fired = &at
		list = append(list, f)
	}
	if len(list) == 0 {
		return nil, unreadable
	}
	return list, nil
}

// run runs promtool in a folder, and returns all that it says.
func run(ctx context.Context, dir string, args ...string) (string, error) {
	path, err := exec.LookPath(promtool)
	if err != nil {
		return "", &MissingError{fmt.Errorf("alert rules need %s: apt-get install prometheus (%w)",
			promtool, err)}
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
	err = cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return strings.TrimSpace(said.String()), err
}
