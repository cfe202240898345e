package spelling

import "testing"

func TestNearest(t *testing.T) {
	words := []string{
		"run", "report", "conntrack.drop", "debian/bookworm", "debian/trixie", "KiB", "s",
	}
	for word, want := range map[string]string{
		"rum": "run", "reprot": "report", "REPORT": "report", "conntrack.drp": "conntrack.drop",
		"debian/bookwurm": "debian/bookworm", "kb": "KiB", "": "", "x": "",
		"completely-different": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestHint(t *testing.T) {
	for _, test := range []struct {
		word string
		of   []string
		want string
	}{
		{"abb", []string{"ab", "json"}, `; did you mean "ab"?`},
		{"zzzz", []string{"ab", "json"}, `; valid here: ab, json`},
		{"zzzz", make([]string, fewWords+1), ``},
	} {
		if got := Hint(test.word, test.of); got != test.want {
			t.Errorf("%q of %q: %q, want %q", test.word, test.of, got, test.want)
		}
	}
}
