package printable

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// hostile has a title for the terminal, a cleared screen, a C1 control, a changed direction, an
// invisible character, a foreign line end and a tag.
const hostile = "\x1b]0;own\a\x1b[2J\u009b31m\u202egnp\u2066\u200b\u2028\U000e0041\u007f\x00"

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"line\n\tß 漢 می\u200cشود": "line\n\tß 漢 می\u200cشود",
		"a\x1b[2Jb":               "a\ufffd[2Jb",
		"x\u202ey\r":              "x\ufffdy\ufffd",
		"broken \xff":             "broken \ufffd",
	} {
		if got := Text(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if strings.ContainsFunc(Text(hostile), unsafe) {
		t.Errorf("%q", Text(hostile))
	}
}

func TestOf(t *testing.T) {
	type part struct {
		Name   string
		hidden string
	}
	type document struct {
		At    time.Time
		Parts []part
		Named map[string]*part
		Any   any
		Few   [1]string
		None  *part
	}
	at := time.Date(2026, 11, 20, 1, 2, 3, 0, time.UTC)
	before := &document{At: at, Parts: []part{{"a\a", "h\a"}},
		Named: map[string]*part{"k\a": {Name: "b\a"}}, Any: []string{"c\a"}, Few: [1]string{"d\a"}}
	want := &document{At: at, Parts: []part{{"a\ufffd", "h\a"}},
		Named: map[string]*part{"k\ufffd": {Name: "b\ufffd"}}, Any: []string{"c\ufffd"},
		Few: [1]string{"d\ufffd"}}
	if diff := cmp.Diff(want, Of(before), cmp.AllowUnexported(part{})); diff != "" {
		t.Error(diff)
	}
	if before.Parts[0].Name != "a\a" || before.Named["k\a"].Name != "b\a" {
		t.Errorf("the document was changed: %+v", before)
	}
}

func TestCell(t *testing.T) {
	for text, want := range map[string]string{
		"=1+1": "'=1+1", "@x": "'@x", "+x": "'+x", "-x": "'-x", "\t=": "'\t=",
		"plain": "plain", "": "",
		"-5": "-5", "-1.5e+09": "-1.5e+09", "--5": "'--5",
	} {
		if got := Cell(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// FuzzText: what comes out is valid, safe, and the same again; JSON keeps its meaning.
func FuzzText(f *testing.F) {
	f.Add(hostile)
	f.Add("plain")
	f.Add("\xf0\x9f")
	f.Fuzz(func(t *testing.T, text string) {
		got := Text(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unsafe) || Text(got) != got {
			t.Errorf("%q became %q", text, got)
		}
		plain, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		escaped := JSON(plain)
		var before, after string
		if strings.ContainsFunc(string(escaped), unsafe) || json.Unmarshal(plain, &before) != nil ||
			json.Unmarshal(escaped, &after) != nil || before != after {
			t.Errorf("%q became %q", plain, escaped)
		}
	})
}
