package scenarios

import (
	"slices"
	"strings"
	"testing"
)

// TestSearch_FindsWhatOperatorsType searches for messages, settings, commands and lines of
// write-ups.
func TestSearch_FindsWhatOperatorsType(t *testing.T) {
	const full = "table full, dropping packet"
	tests := []struct {
		text, experiment string // one of the results
		where            string // of its first line
		holds            string // what that line holds
	}{
		{"syn-flood", "syn-flood", "name", "syn-flood"},
		{"TIME_WAIT", "time-wait-churn", "summary", "TIME_WAIT"},
		{"nf_conntrack: " + full, "table-full", "story", full},
		{"[1737157.057528] nf_conntrack: " + full + ".", "log-flood", "story", full},
		{"net_ratelimit: 1227 callbacks suppressed", "log-flood", "story", "1227 callbacks"},
		{"neighbour: arp_cache: neighbor table overflow!", "generator-limit", "story", "overflow"},
		{"NOTRACK", "raw-table", "scenario raw-table", "NOTRACK"},
		{"ip_conntrack_max", "raw-table", "scenario tracked", "ip_conntrack_max = 393216"},
		{
			"net.ipv4.netfilter.ip_conntrack_generic_timeout",
			"log-flood", "scenario timeouts", "ip_conntrack_generic_timeout",
		},
		{
			"net.ipv4.netfilter.ip_conntrack_tcp_timeout_",
			"five-days", "scenario one-day", "ip_conntrack_tcp_timeout_established",
		},
		{"rmmod", "log-flood", "scenario modules-removed", "rmmod"},
		{"modprobe -r", "max-and-hash", "scenario module-removed", "modprobe -r"},
		{"hashsize", "log-flood", "scenario max-131072", "/nf_conntrack/parameters/hashsize"},
		{"net.netfilter.nf_conntrack_buckets", "small-hash", "scenario hash-to-match", "buckets:"},
		{"nf_conntrack_tcp_be_liberal", "invalid-reset", "scenario", "be_liberal"},
	}
	for _, test := range tests {
		found := Search(test.text)
		i := slices.IndexFunc(found, func(f Found) bool { return f.Experiment == test.experiment })
		if i < 0 {
			t.Errorf("%q does not find %s, but %v", test.text, test.experiment, found)
			continue
		}
		line := found[i].Lines[0]
		holds := strings.Contains(strings.ToLower(line.Text), strings.ToLower(test.holds))
		if !strings.HasPrefix(line.Where, test.where) || !holds {
			t.Errorf("%q: %+v; want %q in %s", test.text, line, test.holds, test.where)
		}
		data, err := Shipped(test.experiment)
		if err != nil {
			t.Fatal(err)
		}
		inFile := strings.Split(string(data), "\n")[line.Line-1]
		if strings.TrimSpace(inFile) != line.Text || found[i].Group == "" {
			t.Errorf("%q: line %d of the file is %q", test.text, line.Line, inFile)
		}
	}
}

// TestSearch_Order puts names before summaries, and those before the rest.
func TestSearch_Order(t *testing.T) {
	for text, first := range map[string]string{
		"flowtable": "flowtable", "zones": "zones", "dns race": "dns-race", "SYNPROXY": "syn-flood",
	} {
		if found := Search(text); len(found) == 0 || found[0].Experiment != first {
			t.Errorf("%q finds first %v", text, found)
		}
	}
}

// TestSearch_AllWords requires every word in each result, in whatever line.
func TestSearch_AllWords(t *testing.T) {
	both := Search("masquerade dual-stack")
	if len(both) != 1 || both[0].Experiment != "nat-kinds" || len(both[0].Lines) != 2 {
		t.Errorf("found: %+v", both)
	}
	for _, text := range []string{"", "  ", "!?", "masquerade nosuchword"} {
		if found := Search(text); len(found) > 0 {
			t.Errorf("%q finds %v", text, found)
		}
	}
}

// TestSuggestions_NearestWord offers the nearest word and the experiments that have most words.
func TestSuggestions_NearestWord(t *testing.T) {
	if words, _ := Suggestions("flowtabel offload"); words["flowtabel"] != "flowtable" {
		t.Errorf("words: %v", words)
	}
	words, experiments := Suggestions("masquerade five days of flowtables")
	if words["masquerade"] != "" || len(experiments) == 0 || len(experiments) > 3 {
		t.Errorf("words %v, experiments %v", words, experiments)
	}
}

// FuzzSearch: whatever the words, each line found is in the file and holds one of them.
func FuzzSearch(f *testing.F) {
	for _, text := range []string{
		"NOTRACK", "ip_conntrack_max = 393216", "[ 1.2] nf_conntrack: table full", "\x00", "İ",
		"–t raw", "/proc/sys/net.a/b", "é",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words := searchWords(text)
		for _, found := range Search(text) {
			if len(words) == 0 || len(found.Lines) == 0 || len(found.Lines) > len(words) {
				t.Fatalf("%q finds %+v", text, found)
			}
			for _, line := range found.Lines {
				lower := strings.ToLower(line.Text)
				if !slices.ContainsFunc(words, func(w searchWord) bool {
					return strings.Contains(lower, w.text) ||
						w.current != "" && strings.Contains(lower, w.current)
				}) {
					t.Fatalf("%q finds %+v", text, line)
				}
			}
		}
		Suggestions(text)
	})
}
