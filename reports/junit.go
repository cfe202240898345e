package reports

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
)

// The elements of JUnit XML as Ant writes it, which is the strictest of its dialects: all
// attributes are there and the children in its order.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Package    string          `xml:"package,attr"`
		ID         int             `xml:"id,attr"`
		Name       string          `xml:"name,attr"`
		Timestamp  string          `xml:"timestamp,attr"` // without a zone
		Hostname   string          `xml:"hostname,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Time       string          `xml:"time,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
		Out        string          `xml:"system-out"`
		Err        string          `xml:"system-err"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string       `xml:"name,attr"`
		Class   string       `xml:"classname,attr"`
		Time    string       `xml:"time,attr"`
		Error   *junitResult `xml:"error"`
		Failure *junitResult `xml:"failure"`
	}
	junitResult struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// suiteOf returns a suite without cases.
func suiteOf(run *results.Run, id int, name string) junitSuite {
	suite := junitSuite{
		Package: run.Experiment, ID: id, Name: name, Hostname: "localhost", Time: "0.000",
		Timestamp: run.Started.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{
			{"run", run.ID}, {"ctload", run.Ctload}, {"environment", environment(run)},
		},
	}
	if c := results.Conclude(run); c.Answer != "" {
		suite.Properties = append(suite.Properties, junitProperty{"conclusion", c.Answer})
	}
	return suite
}

// renderJUnit writes a suite for each scenario, with a case for the validity of all its
// measurements (else an error), one for each threshold, and one for the baseline when the run was
// compared with one. system-out says what happened. An unfinished or empty run has one more suite,
// with an error.
func renderJUnit(b *bytes.Buffer, run *results.Run, _ Options) error {
	var doc junitSuites
	list := rows(run)
	stories := tell(list)
	if text := partial(run); text != "" {
		suite := suiteOf(run, len(run.Scenarios), "the whole run")
		suite.add(junitCase{Name: "finished", Error: &junitResult{"invalid", text, text}})
		doc.Suites = append(doc.Suites, suite)
	}
	for i, s := range run.Scenarios {
		suite := suiteOf(run, i, s.Name)
		suite.Out = strings.Join(stories[i].lines, "\n")
		seconds := 0.0
		for _, t := range s.Trials {
			seconds += t.Seconds
		}
		suite.Time = fmt.Sprintf("%.3f", seconds)
		suite.add(validCase(list[i]))
		for _, o := range s.Thresholds {
			suite.add(thresholdCase(o, list[i]))
		}
		if slices.Contains(run.BaselineScenarios, s.Name) {
			suite.add(regressionCase(run, s.Name))
		}
		doc.Suites = append(doc.Suites, suite)
	}
	return writeJUnit(b, doc)
}

// writeJUnit writes a document.
func writeJUnit(b *bytes.Buffer, doc junitSuites) error {
	b.WriteString(xml.Header)
	e := xml.NewEncoder(b)
	e.Indent("", "  ")
	err := e.Encode(doc)
	b.WriteByte('\n')
	return err
}

func (s *junitSuite) add(c junitCase) {
	c.Class, c.Time = s.Package+"."+s.Name, "0.000"
	s.Tests++
	if c.Error != nil {
		s.Errors++
	}
	if c.Failure != nil {
		s.Failures++
	}
	s.Cases = append(s.Cases, c)
}

func validCase(r row) junitCase {
	c := junitCase{Name: "measured validly"}
	switch {
	case r.trials == 0:
		c.Error = &junitResult{Type: "invalid", Message: "not run"}
	case len(r.invalid) > 0:
		var reasons []string
		for _, t := range r.invalid {
			reasons = append(reasons, fmt.Sprintf("trial %d: %s", t.Number, t.WhyInvalid()))
		}
		invalid := fmt.Sprintf("%d of %d trials INVALID", len(r.invalid), r.trials)
		c.Error = &junitResult{"invalid", invalid, strings.Join(reasons, "\n")}
	}
	return c
}

func thresholdCase(o results.Outcome, r row) junitCase {
	c := junitCase{Name: o.Expression}
	switch {
	case o.Passed:
	case len(r.valid) == 0:
		c.Error = &junitResult{Type: "invalid", Message: o.Actual}
	default:
		text := o.Expression + " does not hold: " + o.Actual
		c.Failure = &junitResult{"threshold", o.Actual, text}
	}
	return c
}

func regressionCase(run *results.Run, scenario string) junitCase {
	c := junitCase{Name: "no regression against " + run.Baseline}
	var worse []string
	for _, r := range run.Regressions {
		if r.Scenario == scenario {
			worse = append(worse, r.Change())
		}
	}
	if len(worse) > 0 {
		c.Failure = &junitResult{"regression", worse[0], strings.Join(worse, "\n")}
	}
	return c
}
