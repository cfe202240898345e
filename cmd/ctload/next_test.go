package main

import "testing"

func TestWhatNext(t *testing.T) {
	for experiment, want := range map[string]string{
		"table-full": `next: bin/ctload report runs/x-1 --format html > x-1.html  # the run as a page, with charts
      bin/ctload scenarios show table-full > mine.yaml  # your own rules and load: change it, run it
      bin/ctload scenarios find TEXT OF YOUR LOG  # which experiment fits your incident
`,
		"./mine.yaml": `next: bin/ctload report runs/x-1 --format html > x-1.html  # the run as a page, with charts
      bin/ctload scenarios find TEXT OF YOUR LOG  # which experiment fits your incident
`,
	} {
		if got := whatNext("bin/ctload", experiment, "runs/x-1"); got != want {
			t.Errorf("%s:\n%s", experiment, got)
		}
	}
}
