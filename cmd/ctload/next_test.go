package main

import "testing"

func TestWhatNext(t *testing.T) {
	const (
		page = "next: bin/ctload report runs/x-1 --format html > x-1.html  " +
			"# the run as a page, with charts\n"
		show = "      bin/ctload scenarios show table-full > mine.yaml  " +
			"# your own rules and load: change it, run it\n"
		find = "      bin/ctload scenarios find TEXT OF YOUR LOG  " +
			"# which experiment fits your incident\n"
	)
	for experiment, want := range map[string]string{
		"table-full": page + show + find, "./mine.yaml": page + find,
	} {
		if got := whatNext("bin/ctload", experiment, "runs/x-1"); got != want {
			t.Errorf("%s:\n%s", experiment, got)
		}
	}
}
