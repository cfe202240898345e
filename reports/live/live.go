// Package live serves the page of a run or a search while it goes on, and its figures to
// Prometheus. It reads the events and the run folder, and nothing that it does makes a trial wait.
package live

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/results/metrics"
)

// every is the time between two states that a reader receives.
const every = 500 * time.Millisecond

// Limits of what readers may cost.
const (
	mostReaders = 16              // of the stream of states
	writeLimit  = 5 * time.Second // for one state, one page, and the end
)

// tokenLength, in bytes, is the length of the random part of the address.
const tokenLength = 16

// Address parses the address to listen on. It refuses addresses that other machines reach.
func Address(text string) (string, error) {
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		text = "127.0.0.1:" + text
	}
	name, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", fmt.Errorf("%q is no address, such as 127.0.0.1:8080", text)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q has no port from 0 (a free one) to 65535", text)
	}
	if name == "localhost" {
		name = "127.0.0.1"
	}
	if ip := net.ParseIP(name); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("%q is no loopback address, and the page is for this host alone: "+
			"use 127.0.0.1:%s, and ssh -L from elsewhere", text, port)
	}
	return net.JoinHostPort(name, port), nil
}

// Server serves a run or a search. It is an [events.Sink].
type Server struct {
	listener net.Listener
	http     http.Server
	token    string
	patience time.Duration // with a reader: writeLimit

	mu       sync.Mutex
	render   Renderer // nil until [Server.Show]
	run      string
	search   bool     // it ends when its answer is known: total is a bound
	trials   []*trial // under way, in the order of their beginnings
	ended    int      // trials
	total    int
	page     int    // number of the current page: it changes when a trial ends, and at the end
	rendered []byte // the page of that number; nil: not asked for yet
	final    []byte // the page of the run that has ended; nil before
	readers  int
	turned   time.Time // when readers were last told to fetch a new page
	told     int       // readers at that time, which leave and come back with that page
	left     int       // readers that have not fetched the final page
	state    []byte
	made     time.Time // when the state was made
	over     chan struct{}
	fetched  chan struct{} // closed when all readers have the final page
}

// trial is a trial under way.
type trial struct {
	reports.UnderWay
	stage string
	zero  time.Time                // second 0, as far as events have told
	seen  map[string]*events.Probe // the last report of each bystander
}

// mostSamples bounds what the server keeps of a trial; beyond it, every other sample goes.
const mostSamples = 8192

// Listen begins to serve at an address as [Address] returns it.
func Listen(address string) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving the live page: %w", err)
	}
	secret := make([]byte, tokenLength)
	_, _ = rand.Read(secret) // never fails
	s := &Server{
		listener: listener, token: fmt.Sprintf("%x", secret),
		patience: writeLimit, over: make(chan struct{}), fetched: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+s.token+"/{$}", s.servePage)
	mux.HandleFunc("GET /"+s.token+"/events", s.serveStates)
	mux.HandleFunc("GET /"+s.token+"/metrics", s.serveMetrics)
	s.http = http.Server{
		Handler: mux, ReadHeaderTimeout: writeLimit, IdleTimeout: time.Minute,
		MaxHeaderBytes: 1 << 14,
	}
	go func() { _ = s.http.Serve(listener) }() // until Close
	return s, nil
}

// URL returns the address of the page; that of the figures is "metrics" below it.
func (s *Server) URL() string {
	return fmt.Sprintf("http://%s/%s/", s.listener.Addr(), s.token)
}

// Renderer renders the page of a run or a search as far as it is known; live is the number of that
// page, or empty where all is known. The error is an [fs.ErrNotExist] where nothing is known yet.
type Renderer func(live string) ([]byte, error)

// Show gives the server what it serves.
func (s *Server) Show(render Renderer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.render = render
}

// Take implements [events.Sink].
func (s *Server) Take(e events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case events.RunBegin:
		s.run, s.total, s.search = e.Run.ID, len(e.Order), len(e.Order) == 0
		s.turn()
	case events.LimitMoved:
		s.turn()
	case events.TrialBegin:
		s.total = e.Total
		s.trials = append(s.trials, &trial{
			UnderWay: reports.UnderWay{
				Scenario: e.Scenario, Trial: results.Trial{Number: e.Trial},
			},
			seen: map[string]*events.Probe{},
		})
	case events.TrialEnd:
		s.ended++
		s.remove(e)
		s.turn()
	default:
		if t := s.underWay(e); t != nil {
			t.take(e)
		}
	}
}

// turn lets readers fetch a new page.
func (s *Server) turn() {
	s.page, s.rendered = s.page+1, nil
	s.told, s.turned = s.following(), time.Now()
}

// following returns the number of readers, those included that are on their way to a new page.
func (s *Server) following() int {
	if time.Since(s.turned) > 4*every {
		return s.readers
	}
	return max(s.readers, s.told)
}

func (s *Server) underWay(e events.Event) *trial {
	for _, t := range s.trials {
		if t.Scenario == e.Scenario && t.Trial.Number == e.Trial {
			return t
		}
	}
	return nil
}

func (s *Server) remove(e events.Event) {
	for i, t := range s.trials {
		if t.Scenario == e.Scenario && t.Trial.Number == e.Trial {
			s.trials = append(s.trials[:i:i], s.trials[i+1:]...)
			return
		}
	}
}

// take takes an event of the trial.
func (t *trial) take(e events.Event) {
	switch e.Kind {
	case events.StageBegin:
		t.stage = e.Stage.Name
		if n := len(t.Samples); t.stage == "recovery" && n > 0 {
			t.LoadOver, t.Trial.Seconds = true, t.Samples[n-1].Seconds
		}
	case events.SampleTaken:
		if len(t.Samples) >= mostSamples {
			kept := t.Samples[:0]
			for i := 0; i < len(t.Samples); i += 2 {
				kept = append(kept, t.Samples[i])
			}
			t.Samples = kept
		}
		t.Samples = append(t.Samples, *e.Sample)
		t.zero = e.Time.Add(-time.Duration(e.Sample.Seconds * float64(time.Second)))
		if t.Trial.Entries == nil && len(e.Sample.Entries) > 0 {
			t.Trial.Entries = map[string]results.Entry{}
		}
		for name := range e.Sample.Entries {
			t.Trial.Entries[name] = results.Entry{}
		}
	case events.ProbeMoved:
		t.probed(e.Probe)
	case events.ActionMoved:
		at := e.Action.Time.Sub(t.zero).Seconds()
		switch a := e.Action; a.Event {
		case results.ActionMade:
			t.Trial.Actions = append(t.Trial.Actions,
				results.Action{Name: a.Name, Kind: a.Kind, Where: a.Where, Begun: &at})
		case results.ActionUndone:
			for i := range t.Trial.Actions {
				if o := &t.Trial.Actions[i]; o.Name == a.Name && o.Ended == nil {
					o.Ended = &at
				}
			}
		}
	}
}

// probed adds what a report of a bystander tells: one answer, and one loss, at its time.
func (t *trial) probed(p *events.Probe) {
	last := cmp.Or(t.seen[p.Name], &events.Probe{})
	t.seen[p.Name] = p
	if len(t.Probes) >= mostSamples {
		return
	}
	sample := results.ProbeSample{Probe: p.Name, Seconds: p.Seconds, Millis: p.Millis}
	if p.Lost > last.Lost {
		t.Probes = append(t.Probes, sample)
	}
	if p.Sent-p.Lost > last.Sent-last.Lost {
		sample.OK = true
		t.Probes = append(t.Probes, sample)
	}
}

// servePage writes the page as it is now.
func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	page, err := s.current()
	if err != nil {
		w.Header().Set("Refresh", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	head(w, "text/html; charset=utf-8")
	s.limit(w)
	if _, err := w.Write(page); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final != nil {
		if s.left--; s.left == 0 {
			close(s.fetched)
		}
	}
}

var errNotBegun = errors.New("the first trial has not begun; try again in a moment")

// current returns the page of the run as it is now.
func (s *Server) current() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.final != nil:
		return s.final, nil
	case s.rendered != nil:
		return s.rendered, nil
	case s.render == nil:
		return nil, errNotBegun
	}
	page, err := s.render(strconv.Itoa(s.page))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotBegun
	}
	s.rendered = page
	return page, err
}

// status is what readers receive: the number of the page that they should have, a sentence, and
// the trials under way.
type status struct {
	Page   string          `json:"page"`
	Status string          `json:"status"`
	Trials json.RawMessage `json:"trials"`
}

// now returns the current state, made at most twice a second however many readers ask.
func (s *Server) now() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != nil && time.Since(s.made) < every/2 && s.final == nil {
		return s.state
	}
	var list []reports.UnderWay
	for _, t := range s.trials {
		if len(t.Samples) > 0 {
			list = append(list, t.UnderWay)
		}
	}
	curves, err := reports.Curves(list)
	if err == nil {
		s.state, err = json.Marshal(status{strconv.Itoa(s.page), s.words(), curves})
	}
	if err != nil {
		return nil
	}
	s.made = time.Now()
	return s.state
}

// words tells how far the run is.
func (s *Server) words() string {
	text := fmt.Sprintf("The run goes on: %d of %d trials have ended", s.ended, s.total)
	if s.search {
		text = fmt.Sprintf("The search goes on: %d of at most %d trials have ended", s.ended,
			s.total)
		if s.total == 0 {
			text = "The search goes on: no trial has begun"
		}
	}
	for _, t := range s.trials {
		text += fmt.Sprintf("; %s-%d", t.Scenario, t.Trial.Number)
		if t.stage != "" {
			text += ": " + t.stage
		}
	}
	return text + "."
}

// serveStates streams the state twice a second until the run ends or the reader is gone. A reader
// that is too slow misses states; one that does not read is cut off.
func (s *Server) serveStates(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "too many readers", http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	head(w, "text/event-stream")
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for over := false; ; {
		s.limit(w)
		if _, err := fmt.Fprintf(w, "event: state\ndata: %s\n\n", s.now()); err != nil {
			return
		}
		if http.NewResponseController(w).Flush() != nil || over {
			return
		}
		select {
		case <-ticker.C:
		case <-s.over:
			over = true
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers == mostReaders {
		return false
	}
	s.readers++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers--
}

// serveMetrics writes the latest sample of each trial under way.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	var list []metrics.Series
	s.mu.Lock()
	for _, t := range s.trials {
		if n := len(t.Samples); n > 0 {
			list = append(list, metrics.Series{
				Run: s.run, Scenario: t.Scenario, Trial: t.Trial.Number,
				Samples: []results.Sample{t.Samples[n-1]},
			})
		}
	}
	s.mu.Unlock()
	head(w, "text/plain; version=0.0.4; charset=utf-8")
	s.limit(w)
	_ = metrics.WriteNow(w, list) // a scrape that broke off is the scraper's to report
}

// head writes the headers that every answer has.
func head(w http.ResponseWriter, kind string) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
}

// limit gives a reader a while for what follows.
func (s *Server) limit(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.patience))
}

// End shows the final page, waits a moment until every reader has it, and ends the server. Without
// a final page it ends at once.
func (s *Server) End(final []byte) error {
	s.mu.Lock()
	s.trials = nil
	readers := 0
	if final != nil {
		readers = s.following()
		s.final, s.left = final, readers
	}
	s.turn()
	s.mu.Unlock()
	close(s.over)
	if readers > 0 {
		timer := time.NewTimer(s.patience)
		defer timer.Stop()
		select {
		case <-s.fetched:
		case <-timer.C:
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		return s.http.Close()
	}
	return nil
}
