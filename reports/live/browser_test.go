package live

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/websocket"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/search"
)

// browser is a tab of Chromium, driven by its debugging protocol.
type browser struct {
	t    *testing.T
	conn *websocket.Conn

	mu       sync.Mutex
	last     int
	answers  map[int]chan json.RawMessage
	requests []string
	console  []string
}

// open starts Chromium with an empty tab.
func open(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts a browser")
	}
	chromium := hosttest.OneOf(t, "chromium", "chromium-browser", "google-chrome")
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	// Processes of Chromium may still write as they end.
	t.Cleanup(func() {
		hosttest.Eventually(t, "the profile is removed", func() bool {
			return os.RemoveAll(dir) == nil
		})
	})
	profile := filepath.Join(dir, "profile")
	c := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-extensions", "--disable-quic", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--window-size=1200,900",
		"--user-data-dir="+profile, "--remote-debugging-port=0", "--remote-allow-origins=*",
		"about:blank")
	c.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL); _ = c.Wait() })
	var place []string
	hosttest.Eventually(t, "Chromium listens", func() bool {
		text, err := os.ReadFile(filepath.Join(profile, "DevToolsActivePort"))
		place = strings.Fields(string(text))
		return err == nil && len(place) == 2
	})
	var tabs []struct {
		Type                 string
		WebSocketDebuggerURL string
	}
	_, text := get(t, "http://127.0.0.1:"+place[0]+"/json/list")
	if err := json.Unmarshal([]byte(text), &tabs); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, answers: map[int]chan json.RawMessage{}}
	for _, tab := range tabs {
		if tab.Type == "page" {
			var err error
			b.conn, err = websocket.Dial(tab.WebSocketDebuggerURL, "", "http://127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() { _ = b.conn.Close() })
	go b.receive()
	for _, domain := range []string{"Network", "Runtime", "Page", "Log"} {
		b.call(domain+".enable", nil)
	}
	return b
}

// receive takes the answers and the events of the tab.
func (b *browser) receive() {
	for {
		var m struct {
			ID     int
			Method string
			Result json.RawMessage
			Params struct {
				Request struct{ URL string }
				Entry   struct{ Text, URL string }
				Type    string
			}
		}
		var raw string
		if websocket.Message.Receive(b.conn, &raw) != nil {
			return
		}
		if json.Unmarshal([]byte(raw), &m) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID > 0:
			b.answers[m.ID] <- m.Result
		case m.Method == "Network.requestWillBeSent":
			b.requests = append(b.requests, m.Params.Request.URL)
		case m.Method == "Runtime.exceptionThrown", m.Method == "Runtime.consoleAPICalled":
			b.console = append(b.console, raw)
		case m.Method == "Log.entryAdded":
			b.console = append(b.console, m.Params.Entry.Text+" "+m.Params.Entry.URL)
		}
		b.mu.Unlock()
	}
}

func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	answer := make(chan json.RawMessage, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	b.answers[id] = answer
	b.mu.Unlock()
	err := websocket.JSON.Send(b.conn, map[string]any{
		"id": id, "method": method, "params": params,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	select {
	case result := <-answer:
		return result
	case <-time.After(time.Minute):
		b.t.Fatalf("%s has no answer", method)
		return nil
	}
}

// value returns what an expression has in the page, as JSON; empty where the page is not there yet.
func (b *browser) value(expression string) string {
	b.t.Helper()
	var got struct {
		Result struct{ Value string }
	}
	answer := b.call("Runtime.evaluate", map[string]any{
		"expression": "JSON.stringify((" + expression + ") ?? null)", "returnByValue": true,
	})
	_ = json.Unmarshal(answer, &got)
	return got.Result.Value
}

func (b *browser) goTo(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url})
}

// until waits until an expression has a value.
func (b *browser) until(expression, want string) {
	b.t.Helper()
	got := ""
	if !hosttest.Poll(time.Minute, func() bool {
		got = b.value(expression)
		return got == want
	}) {
		b.t.Fatalf("%s is %s, not %s\nrequests %q\nconsole %q", expression, got, want,
			b.requests, b.console)
	}
}

// TestLivePage follows a run in a browser: the trial under way is drawn as it is measured, what the
// reader chose stays, the end state is that of the final page, and no request leaves.
func TestLivePage(t *testing.T) {
	b := open(t)
	s := newStory(t)
	b.goTo(s.server.URL())
	b.until(`document.querySelector("#live").textContent`,
		`"The run goes on: 0 of 2 trials have ended."`)

	s.begin(0)
	s.measure(0, -5, 8)
	const counts = `window.ctload && ctload.plots().length > 1 &&
		ctload.plots()[1].data[1].filter(v => v != null)`
	b.until(counts, `[0,0,0,0,0,0,10,20,30,40,50,60,64]`)
	// The reader looks at a part; that part stays while the trial goes on.
	b.value(`document.getElementById("zoom-in").click()`)
	b.until(`ctload.range()[1] < 0.7`, `true`)
	before := b.value(`ctload.range()`)
	s.measure(0, 8, 20)
	b.until(`ctload.plots()[1].data[1].filter(v => v != null).length`, `25`)
	if after := b.value(`ctload.range()`); after != before {
		t.Errorf("the stretch of time was %s and is %s", before, after)
	}
	b.until(`ctload.scenarios[0].trials[0].marks.map(m => m.text).includes("first drop")`, `true`)
	b.value(`document.getElementById("zoom-all").click()`)

	// Of one scenario, in the other colours: both outlast the new page at the end of the trial.
	b.value(`document.getElementById("tabs").children[0].click()`)
	b.value(`document.getElementById("theme").click()`)
	theme := b.value(`document.documentElement.dataset.theme`)
	s.end(0, 20)
	b.until(`document.querySelector("#live").textContent`,
		`"The run goes on: 1 of 2 trials have ended."`)
	b.until(`[document.documentElement.dataset.theme, ctload.state.overlay,
		document.querySelector(".figures tbody tr td").textContent]`,
		fmt.Sprintf(`[%s,false,"table-full"]`, theme))

	s.begin(1)
	s.measure(1, -5, 10)
	b.until(`ctload.scenarios[1].trials.length`, `1`)
	s.end(1, 10)
	b.until(`document.querySelector("#live").textContent`,
		`"The run goes on: 2 of 2 trials have ended."`)
	b.usable()
	b.endsAs(s, s.final(), 6)
}

// TestLiveSearch follows a search in a browser: what is known of the limit, and the trial under way
// of a value that the page has not seen, up to the final page.
func TestLiveSearch(t *testing.T) {
	b := open(t)
	s := newSearch(t)
	b.goTo(s.server.URL())
	b.until(`document.querySelector("#live").textContent`,
		`"The search goes on: no trial has begun."`)
	b.until(`document.querySelector("#charts").textContent`, `"No trial has begun."`)
	const (
		row    = `[...document.querySelectorAll(".figures tbody td")].map(e => e.textContent)`
		limits = `document.querySelector(".answer dd").textContent`
	)
	b.until(row, `["–","–","–","–","150","0"]`)
	b.until(limits, `"baseline: not known."`)

	s.begin(s.try("baseline@rate=112"))
	s.measure(0, -5, 10)
	b.until(`ctload.scenarios.length && ctload.scenarios[0].name`, `"baseline@rate=112"`)
	b.until(`ctload.plots().length > 1 && ctload.plots()[1].data[1].filter(v => v != null).length`,
		`15`)
	s.end(0, 10)
	s.know(search.Scenario{
		Name: "baseline", Unit: "/s", Predicted: 150, Value: new(112.0), Low: new(112.0), Trials: 1,
		Made: []search.Trial{{Value: 112, Held: true}},
	})
	b.until(row, `["112","112","–","–","150","1"]`)
	b.until(limits, `"baseline: at least 112/s. Held: 112."`)

	s.begin(s.try("baseline@rate=200"))
	s.measure(1, -5, 10)
	// Both values are laid over each other.
	b.until(`[ctload.scenarios.length, ctload.state.overlay, ctload.state.over.size]`, `[2,true,2]`)
	b.until(`document.querySelector("#live").textContent`,
		`"The search goes on: 1 of at most 2 trials have ended; baseline@rate=200-1: load."`)
	b.usable()
	s.end(1, 10)
	s.know(search.Scenario{
		Name: "baseline", Unit: "/s", Predicted: 150, Value: new(150.0), Low: new(112.0),
		High: new(200.0), Limit: search.Table, Trials: 2,
		Made: []search.Trial{
			{Value: 112, Held: true},
			{Value: 200, Shares: search.Shares{Lost: .2}, Limit: search.Table},
		},
	})
	b.until(row, `["150","112","200","table","150","2"]`)
	b.endsAs(s, s.final(), 4)
}

// usable checks that all controls of the page have a name for a screen reader, and that keys move
// the cursor of the charts.
func (b *browser) usable() {
	b.t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value string }
		}
	}
	if err := json.Unmarshal(b.call("Accessibility.getFullAXTree", nil), &tree); err != nil {
		b.t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, n := range tree.Nodes {
		switch role := n.Role.Value; role {
		case "application", "button", "checkbox", "combobox", "region", "tab", "tablist", "table":
			seen[role] = true
			if !n.Ignored && n.Name.Value == "" && role != "table" {
				b.t.Errorf("a %s has no name", role)
			}
		}
	}
	for _, role := range []string{"application", "button", "checkbox", "tab", "table"} {
		if !seen[role] {
			b.t.Errorf("the page has no %s", role)
		}
	}
	b.value(`document.getElementById("charts").focus()`)
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{
			"type": kind, "key": "ArrowRight", "code": "ArrowRight",
		})
	}
	b.until(`document.getElementById("readout").textContent.startsWith("At ")`, `true`)
}

// endsAs ends a story with its final page, and checks that the live page becomes it, and that the
// page asked for that and for nothing else, at least so many times.
func (b *browser) endsAs(s *story, final []byte, least int) {
	t := b.t
	t.Helper()
	if len(final) > 1<<20 {
		t.Errorf("the page has %d bytes", len(final))
	}
	if err := s.server.End(final); err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelector("#live")`, `null`)
	b.until(`ctload.plots().length > 1`, `true`)
	// uPlot numbers nothing and draws on canvases: the documents are equal, text for text.
	const document = `document.documentElement.outerHTML`
	reached := b.value(document)
	b.mu.Lock()
	requests, console := b.requests, b.console
	b.mu.Unlock()

	file := filepath.Join(t.TempDir(), "final.html")
	if err := os.WriteFile(file, final, 0o600); err != nil {
		t.Fatal(err)
	}
	b.goTo("file://" + file)
	b.until(`location.protocol`, `"file:"`)
	b.until(`window.ctload && ctload.plots().length > 1`, `true`)
	if diff := cmp.Diff(b.value(document), reached); diff != "" {
		t.Errorf("the end of the live page is not the final page:\n%.2000s", diff)
	}
	for _, url := range requests {
		if !strings.HasPrefix(url, s.server.URL()) && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asks for %s", url)
		}
	}
	if len(requests) < least || len(console) > 0 {
		t.Errorf("requests %q, console %q", requests, console)
	}
}
