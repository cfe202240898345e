package reports

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// browse opens the page in Chromium, runs a script in it when it has drawn itself, and decodes the
// script's result. A console message of the page is an error.
func browse(t testing.TB, document []byte, size, script string, into any, flags ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts a browser")
	}
	chromium := hosttest.OneOf(t, "chromium", "chromium-browser", "google-chrome")
	dir := t.TempDir()
	path := filepath.Join(dir, "page.html")
	document = bytes.Replace(document, []byte("</body>"), []byte(`<script>{
const out = document.createElement("pre");
out.id = "returned";
(async () => {`+script+`})().catch(e => ({error: String(e.stack)})).then(v => {
  out.textContent = JSON.stringify(v);
  document.body.append(out);
});
}</script></body>`), 1)
	if err := os.WriteFile(path, document, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, chromium,
		append(flags, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
			"--disable-extensions", "--disable-quic", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--enable-logging=stderr",
			"--user-data-dir="+filepath.Join(dir, "profile"), "--window-size="+size,
			"--timeout=60000", "--dump-dom", "file://"+path)...)
	// In a folder of its own, so that its cleaning up disturbs no other process.
	c.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("running chromium: %v\n%s", err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("console: %s", line)
		}
	}
	answer := regexp.MustCompile(`(?s)<pre id="returned">(.*?)</pre>`)
	m := answer.FindStringSubmatch(stdout.String())
	if m == nil {
		t.Fatalf("the page returned nothing\n%s", &stderr)
	}
	returned := []byte(html.UnescapeString(m[1]))
	var failed struct{ Error string }
	if err := json.Unmarshal(returned, &failed); err == nil && failed.Error != "" {
		t.Fatal(errors.New(failed.Error))
	}
	if err := json.Unmarshal(returned, into); err != nil {
		t.Fatalf("%v: %s", err, returned)
	}
}

// TestHTMLShowsTheRun: the charts show the run's own figures, and the page fetches nothing.
func TestHTMLShowsTheRun(t *testing.T) {
	run := fixture()
	source := sampled{600}
	var got struct {
		Count, T  []float64
		ProbeLost int
		Titles    []string
		Resources []string
		Latency   [][]float64
		Quantiles [][]float64
		Curves    []int
	}
	browse(t, render(t, "html", run, Options{Series: source}), "1200,900", `
document.getElementById("tabs").children[0].click();
const heads = document.querySelectorAll(".chart h3");
const find = title => window.ctload.plots().find(
  (p, i) => heads[i].textContent.startsWith(title));
const table = find("Entries"), probe = find("Bystander");
const curve = (p, label) => p.data[p.series.findIndex(s => s.label === label)];
return {
  count: curve(table, "count"), t: table.data[0],
  probeLost: curve(probe, "lost").filter(v => v != null).length,
  titles: [...document.querySelectorAll(".chart h3")].map(e => e.textContent),
  resources: performance.getEntriesByType("resource").map(e => e.name),
  latency: window.ctload.scenarios.map(s => s.entries[0].total).map(l => [l.p50, l.p99, l.max]),
  quantiles: window.ctload.scenarios.map(
    s => [0.5, 0.99, 1].map(q => window.ctload.quantile(s.entries[0].total, q))),
  curves: window.ctload.distribution().data.slice(1).map(
    c => c.filter(v => v != null).length > 50 ? 1 : 0),
};`, &got)
	samples, probes, _ := source.Series(&run.Scenarios[0].Trials[0])
	var want struct {
		Count, T  []float64
		ProbeLost int
		Titles    []string
		Resources []string
		Latency   [][]float64
		Quantiles [][]float64
		Curves    []int
	}
	for _, s := range samples {
		want.Count = append(want.Count, float64(s.Count))
		want.T = append(want.T, s.Seconds)
	}
	for _, p := range probes {
		if !p.OK {
			want.ProbeLost++
		}
	}
	want.Titles = []string{
		"Load, per second", "Entries in the table", "Refused or evicted, per second",
		"Bystander: latency in ms, ✕ lost",
	}
	want.Resources = []string{}
	for _, s := range run.Scenarios {
		l := s.Trials[0].Load.Latency
		want.Latency = append(want.Latency, []float64{l.P50, l.P99, l.Max})
		// The histogram has 200 bars of the same height, rounded to microseconds in the page.
		d, _ := source.Distributions(&s.Trials[0])
		at := func(i int) float64 { return math.Round(d["http"].Total[i].Millis*1000) / 1000 }
		want.Quantiles = append(want.Quantiles, []float64{at(99), at(197), at(199)})
		want.Curves = append(want.Curves, 1)
	}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-6 })
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Error(diff)
	}
}

// TestHTMLControls: zoom, cursor, overlay, tabs and the theme work with buttons and keys.
func TestHTMLControls(t *testing.T) {
	var got struct {
		Zoomed, Load, All, Same bool
		Dragged                 []float64
		Readout                 string
		Single, Overlaid, Fewer int
		Light, Dark             string
		Together                string
		Tab                     string
		Labelled, Focusable     bool
		OverlaidFirst           bool
		Markers                 []string
	}
	browse(t, render(t, "html", fixture(), Options{Series: sampled{600}}), "1200,900", `
const c = window.ctload, $ = id => document.getElementById(id);
const key = k => $("charts").dispatchEvent(
  new KeyboardEvent("keydown", {key: k, bubbles: true, cancelable: true}));
const span = () => c.range()[1] - c.range()[0];
const out = {overlaidFirst: $("overlay").checked};
$("tabs").children[0].click();
const whole = span();
// uPlot draws in a microtask
const settle = async () => { for (let i = 0; i < 20; i++) await null; };
$("zoom-in").click();
await settle();
out.zoomed = span() < 0.6 * whole;
const near = (a, b) => Math.abs(a - b) < 1e-9;
out.same = c.plots().every(
  p => near(p.scales.x.min, c.range()[0]) && near(p.scales.x.max, c.range()[1]));
key("l");
await settle();
out.load = c.range()[0] === 0 && Math.abs(c.range()[1] - c.scenarios[0].trials[0].seconds) < 1e-9;
key("0");
await settle();
out.all = Math.abs(span() - whole) < 1e-9;
const over = c.plots()[1].over, box = over.getBoundingClientRect();
const mouse = (type, share, more) => over.dispatchEvent(new MouseEvent(type, {
  bubbles: true, cancelable: true, view: window, button: 0, buttons: 1, movementX: 10,
  clientX: box.left + share * box.width, clientY: box.top + 50, ...more,
}));
mouse("mouseenter", 0.25); mouse("mousemove", 0.25); mouse("mousedown", 0.25);
mouse("mousemove", 0.5); mouse("mousemove", 0.75); mouse("mouseup", 0.75, {buttons: 0});
await settle();
out.dragged = [(c.range()[0] - c.plots()[0].data[0][0]) / whole, span() / whole,
  c.plots()[3].scales.x.max - c.range()[1]];
key("0");
await settle();
key("ArrowRight");
out.readout = $("readout").textContent;
const head = i => document.querySelectorAll(".chart h3")[i].textContent;
const curves = () => c.plots().find((p, i) => head(i).startsWith("Load")).series.length - 1;
out.single = curves();
$("overlay").click();
out.overlaid = curves();
const refused = c.plots().findIndex((p, i) => head(i).startsWith("Refused"));
out.markers = [...document.querySelectorAll(".chart")[refused].querySelectorAll(".u-marker")]
  .map(e => getComputedStyle(e).borderTopStyle + " " + getComputedStyle(e).borderTopColor);
key("ArrowRight");
out.together = $("readout").textContent;
document.querySelectorAll("#overlays input")[1].click();
out.fewer = curves();
$("tabs").children[1].click();
out.tab = $("tabs").querySelector("[aria-selected=true]").textContent + " " + $("overlay").checked;
out.light = getComputedStyle(document.documentElement).backgroundColor;
$("theme").click();
out.dark = getComputedStyle(document.documentElement).backgroundColor;
const controls = document.querySelectorAll("button, select, input, [role=application]");
out.labelled = [...controls].every(
  e => e.textContent.trim() || e.getAttribute("aria-label") || e.closest("label"));
out.focusable = $("charts").tabIndex === 0;
return out;`, &got)
	// No two curves of a chart have the same colour and style.
	slices.Sort(got.Markers)
	if unlike := slices.Compact(slices.Clone(got.Markers)); len(got.Markers) < 3 ||
		len(unlike) != len(got.Markers) || !got.OverlaidFirst {
		t.Errorf("overlaid first %v, markers %q", got.OverlaidFirst, got.Markers)
	}
	if !got.Zoomed || !got.Load || !got.All || !got.Same || !got.Labelled || !got.Focusable {
		t.Errorf("%+v", got)
	}
	// From a quarter to three quarters of the second chart: all show that half.
	if d := got.Dragged; len(d) != 3 || math.Abs(d[0]-0.25) > 0.02 || math.Abs(d[1]-0.5) > 0.02 ||
		math.Abs(d[2]) > 1e-9 {
		t.Errorf("dragged: %v", d)
	}
	if !strings.HasPrefix(got.Readout, "At ") || !strings.Contains(got.Readout, "count ") {
		t.Errorf("cursor: %q", got.Readout)
	}
	// The cursor reads every curve, whenever each was sampled.
	for _, name := range []string{
		"baseline failed ", "raised-max ", "shortened-timeouts drop ", "raw-notrack ",
	} {
		if !strings.Contains(got.Together, name) {
			t.Errorf("%q is not under the cursor: %q", name, got.Together)
		}
	}
	// Offered, completed and failed of one; completed of four and failed of two; without the
	// second.
	if got.Single != 3 || got.Overlaid != 6 || got.Fewer != 5 {
		t.Errorf("curves: %d, overlaid %d, %d", got.Single, got.Overlaid, got.Fewer)
	}
	if got.Tab != "raised-max false" {
		t.Errorf("tab: %s", got.Tab)
	}
	if got.Light == got.Dark {
		t.Errorf("theme: %s and %s", got.Light, got.Dark)
	}
}

// TestHTMLExports: each chart can be saved as SVG and as PNG with its curves, legend and the
// moments, each table copied as Markdown and as CSV, by buttons that a screen reader tells apart.
func TestHTMLExports(t *testing.T) {
	var got struct {
		Buttons   []string
		Nameless  []string
		Charts    []struct{ Title, Root, Text, Shape, Kind string }
		Lines     []int
		Size      int
		Markdown  string
		CSV       string
		Resources []string
	}
	run := acted()
	run.Scenarios[0].Trials[0].Prediction = &results.Prediction{
		Counts: []results.PredictedCount{{Seconds: 0}, {Seconds: 10, Count: 4096}},
	}
	browse(t, render(t, "html", run, Options{Series: sampled{600}}), "1200,900", `
document.getElementById("tabs").children[0].click();
for (let i = 0; i < 20; i++) await null; // uPlot draws in a microtask
const tools = [...document.querySelectorAll("#charts .tools")];
const out = {charts: [], lines: []};
out.buttons = tools.flatMap(e => [...e.children]).map(b => b.getAttribute("aria-label"));
out.nameless = [...document.querySelectorAll("button")]
  .filter(b => !(b.getAttribute("aria-label") || b.title || b.textContent).trim())
  .map(b => b.outerHTML);
for (const e of tools) {
  const text = e.svg(), xml = new DOMParser().parseFromString(text, "image/svg+xml");
  out.charts.push({
    title: xml.querySelector("title").textContent, root: xml.documentElement.localName,
    text: [...xml.querySelectorAll("text")].map(n => n.textContent).join("|"),
    shape: [...xml.querySelectorAll("rect")].length + " " + xml.querySelectorAll("circle").length,
  });
  out.lines.push(xml.querySelectorAll("polyline").length);
}
const blob = await exporting.png(tools[1].svg());
out.charts[1].kind = blob.type;
out.size = blob.size;
const cells = exporting.cells(document.querySelector(".figures table"));
out.markdown = exporting.markdown(cells);
out.csv = exporting.csv(cells.concat([["=1+1", "a,b", "say \"x\"", "-5"]]));
out.resources = performance.getEntriesByType("resource").map(e => e.name)
  .filter(name => !name.startsWith("data:"));
return out;`, &got, "--virtual-time-budget=20000") // else Chromium waits for no picture
	var charts, lines []string
	for _, title := range []string{
		"Load, per second", "Entries in the table", "Refused or evicted, per second",
		"Bystander: latency in ms, ✕ lost",
	} {
		for _, kind := range []string{"SVG", "PNG"} {
			charts = append(charts, "Save the chart "+title+" as "+kind)
		}
	}
	if diff := cmp.Diff(charts, got.Buttons); diff != "" || len(got.Nameless) > 0 {
		t.Errorf("%s; without a name: %q", diff, got.Nameless)
	}
	for _, n := range got.Lines {
		lines = append(lines, strconv.Itoa(n))
	}
	// Offered, completed, failed; count, max, predicted; drop and early_drop; points alone.
	if text := strings.Join(lines, " "); text != "3 3 2 0" {
		t.Errorf("curves: %s", text)
	}
	for i, want := range []string{"|pause|", "|predicted", "|early_drop", "|lost"} {
		if c := got.Charts[i]; c.Root != "svg" || !strings.Contains(c.Text+"|", want) {
			t.Errorf("%q is missing in %+v", want, c)
		}
	}
	if got.Charts[1].Kind != "image/png" || got.Size < 5000 {
		t.Errorf("the picture is %s, %d bytes", got.Charts[1].Kind, got.Size)
	}
	if len(got.Resources) > 0 {
		t.Errorf("fetched %q", got.Resources)
	}
	if !strings.HasPrefix(got.Markdown, "| scenario | verdict |") ||
		!strings.Contains(got.Markdown, "\n| raised-max | clean |") {
		t.Error(got.Markdown)
	}
	if !strings.HasPrefix(got.CSV, "scenario,verdict,") ||
		!strings.HasSuffix(got.CSV, "\n'=1+1,\"a,b\",\"say \"\"x\"\"\",-5\n") {
		t.Error(got.CSV)
	}
}

// TestHTMLOnAPhone: on a narrow screen only the tables and the commands scroll sideways.
func TestHTMLOnAPhone(t *testing.T) {
	inside := html.EscapeString(string(render(t, "html", judged(), Options{Series: sampled{300}})))
	// Chromium's own window is never narrower than 500 pixels: a frame is.
	frame := `<!DOCTYPE html><body style="margin:0">` +
		`<iframe style="border:0;width:400px;height:800px" srcdoc="` + inside + `"></iframe></body>`
	var got struct {
		Inner, Scroll float64
		Charts        []float64
		Out           []string
		Labels        []string
		Cards         int
	}
	browse(t, []byte(frame), "1200,900", `
const frame = document.querySelector("iframe"), w = frame.contentWindow;
// Chromium returns the page when it has loaded, which waits for the frame, and not for a timer.
if (!w.ctload) await new Promise(done => frame.addEventListener("load", done));
const scrolls = e => e.closest(".scroll, pre, .skip");
return {
  inner: w.innerWidth, scroll: w.document.documentElement.scrollWidth,
  charts: [...w.document.querySelectorAll(".uplot")].map(e => e.offsetWidth),
  labels: [...w.document.querySelectorAll(".figures tr:first-child td")].slice(0, 3)
    .map(e => w.getComputedStyle(e, "::before").content),
  cards: [...w.document.querySelector(".figures").querySelectorAll("tbody tr")]
    .filter(e => w.getComputedStyle(e).display === "block").length,
  out: [...w.document.querySelectorAll("main *, header *")]
    .filter(e => !scrolls(e) && e.getBoundingClientRect().right > 400.5)
    .map(e => e.outerHTML.slice(0, 80)),
};`, &got)
	if got.Inner != 400 || got.Scroll > 400 || len(got.Out) > 0 || len(got.Charts) < 4 {
		t.Errorf("%+v", got)
	}
	// A scenario is a card, and each of its cells has a label.
	if got.Cards != 4 || len(got.Labels) != 3 || got.Labels[0] != `"verdict"` {
		t.Errorf("%d cards, labels %q", got.Cards, got.Labels)
	}
	for _, width := range got.Charts {
		if width < 300 || width > 400 {
			t.Errorf("a chart is %v wide", width)
		}
	}
}

// TestHTMLColors: the page is dark where the system is, and legible in both: text has a contrast of
// at least 4.5.
func TestHTMLColors(t *testing.T) {
	for name, flags := range map[string][]string{
		"light": nil, "dark": {"--blink-settings=preferredColorScheme=0"},
	} {
		var got struct {
			Theme    string
			Contrast map[string]float64
		}
		browse(t, render(t, "html", judged(), Options{Series: sampled{20}}), "1200,900", `
const probe = document.createElement("span");
document.body.append(probe);
const light = name => {
  probe.style.color = "var(--" + name + ")";
  const c = getComputedStyle(probe).color.match(/[\d.]+/g).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
};
const contrast = {};
const texts = ["ink", "quiet", "accent", "good", "bad", "warn", "void"];
for (const text of texts) for (const under of ["paper", "card"]) {
  const [a, b] = [light(text), light(under)].sort((x, y) => y - x);
  contrast[text + " on " + under] = (a + 0.05) / (b + 0.05);
}
return {theme: document.documentElement.dataset.theme, contrast};`, &got, flags...)
		if got.Theme != name || len(got.Contrast) != 14 {
			t.Errorf("%s: %+v", name, got)
		}
		for what, ratio := range got.Contrast {
			if ratio < 4.5 {
				t.Errorf("%s: %s has %.2f", name, what, ratio)
			}
		}
	}
}

// TestHTMLOnPaper: paper has the charts as they are on the screen, in light colours and no wider
// than a page.
func TestHTMLOnPaper(t *testing.T) {
	var got struct {
		Before, Paper, After int
		Theme                []string
		Widest               float64
	}
	browse(t, render(t, "html", fixture(), Options{Series: sampled{100}}), "1200,900", `
const c = window.ctload, theme = () => document.documentElement.dataset.theme;
document.getElementById("theme").click();
const out = {before: c.plots().length, theme: [theme()]};
dispatchEvent(new Event("beforeprint"));
for (let i = 0; i < 20; i++) await null; // uPlot draws in a microtask
out.paper = c.plots().length;
out.theme.push(theme());
out.widest = Math.max(
  ...[...document.querySelectorAll(".uplot")].map(e => e.querySelector(".u-wrap").offsetWidth));
dispatchEvent(new Event("afterprint"));
out.after = c.plots().length;
out.theme.push(theme());
return out;`, &got)
	if got.Before != 4 || got.Paper != 4 || got.After != 4 || got.Widest > 960 {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{"dark", "light", "dark"}, got.Theme); diff != "" {
		t.Error(diff)
	}
}

// TestHTMLOnFourPages prints the page of four scenarios of a minute on at most four pages.
func TestHTMLOnFourPages(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a browser")
	}
	chromium := hosttest.OneOf(t, "chromium", "chromium-browser", "google-chrome")
	dir := t.TempDir()
	page, pdf := filepath.Join(dir, "page.html"), filepath.Join(dir, "page.pdf")
	document := render(t, "html", fixture(), Options{Series: sampled{600}})
	if err := os.WriteFile(page, document, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu",
		"--no-first-run", "--user-data-dir="+filepath.Join(dir, "profile"), "--timeout=60000",
		"--print-to-pdf="+pdf, "file://"+page)
	c.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("printing: %v\n%s", err, out)
	}
	printed, err := os.ReadFile(pdf)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`/Type /Pages\s+/Count (\d+)`).FindSubmatch(printed)
	if m == nil {
		t.Fatal("the document does not say how many pages it has")
	}
	if n, _ := strconv.Atoi(string(m[1])); n < 1 || n > 4 {
		t.Errorf("%d pages", n)
	}
}

// manyTrials returns the page of a hundred trials of ten minutes at ten samples a second.
func manyTrials(t testing.TB) []byte {
	t.Helper()
	run := fixture()
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for n := 2; n <= 25; n++ {
			trial := s.Trials[0]
			trial.Number = n
			s.Trials = append(s.Trials, trial)
		}
	}
	return render(t, "html", run, Options{Series: sampled{6000}})
}

// TestHTMLOfManyTrials: however long a run was, its page has a size that browsers open at once, and
// draws one trial at a time.
func TestHTMLOfManyTrials(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a large page")
	}
	document := manyTrials(t)
	if most := 6 << 20; len(document) > most {
		t.Errorf("%d bytes", len(document))
	}
	var got struct {
		Trials, Plots int
		Points        []int
	}
	browse(t, document, "1200,900", `
const c = window.ctload;
return {
  trials: c.scenarios.reduce((n, s) => n + s.trials.length, 0), plots: c.plots().length,
  points: c.plots().map(p => p.data[0].length),
};`, &got)
	if got.Trials != 100 || got.Plots != 4 || slices.Max(got.Points) > 2000 {
		t.Errorf("%+v", got)
	}
}

// BenchmarkHTMLOpens measures the time from the navigation to a page of many trials until it has
// drawn itself.
func BenchmarkHTMLOpens(b *testing.B) {
	document := manyTrials(b)
	best := math.Inf(1)
	for b.Loop() {
		var got struct{ Millis float64 }
		browse(b, document, "1200,900", `return {millis: performance.now()};`, &got)
		best = min(best, got.Millis)
	}
	b.ReportMetric(best, "open-ms")
}

// TestHTMLOfAnyRun: a page of a run without series, trials or scenarios opens without an error.
func TestHTMLOfAnyRun(t *testing.T) {
	for i, run := range []*results.Run{{}, judged(), {Scenarios: []results.Scenario{{Name: "a"}}}} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			var got struct{ Heading string }
			browse(t, render(t, "html", run, Options{}), "800,600",
				`return {heading: document.querySelector("h1").textContent};`, &got)
			if got.Heading == "" {
				t.Error("no heading")
			}
		})
	}
}
