package generators

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
)

// TestAB_Beside compares the report of an http load with the output of ab for the same requests:
// the same lines, and the same figures where these do not depend on the speed.
func TestAB_Beside(t *testing.T) {
	ab := hosttest.Program(t, "ab")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "tested/1.0")
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, "a page")
	})
	server := httptest.NewServer(handler)
	defer server.Close()
	const n = 60
	for _, test := range []struct {
		path      string
		keepAlive int
	}{{"/page", 1}, {"/page", n}, {"/missing", 1}, {"/missing", n}} {
		t.Run(fmt.Sprintf("%s %d", test.path, test.keepAlive), func(t *testing.T) {
			args := []string{"-q", "-n", fmt.Sprint(n), "-c", "3", server.URL + test.path}
			if test.keepAlive > 1 {
				args = append([]string{"-k"}, args...)
			}
			theirs, err := exec.CommandContext(t.Context(), ab, args...).Output()
			if err != nil {
				t.Fatalf("ab: %v", err)
			}
			spec, err := ParseURL(t.Context(), server.URL+test.path)
			if err != nil {
				t.Fatal(err)
			}
			spec.Count, spec.Concurrency, spec.KeepAlive = n, 3, test.keepAlive
			result, err := Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, result)
			var ours bytes.Buffer
			if err := WriteAB(&ours, result); err != nil {
				t.Fatal(err)
			}
			mine, its := labels(ours.String()), labels(string(theirs))
			for label, value := range its {
				if label == "WARNING" || label == "ERROR" {
					continue // that its times scatter
				}
				got, ok := mine[label]
				if !ok {
					t.Errorf("ab's line %q is missing", label)
				}
				same := regexp.MustCompile("^(Server|Document|Concurrency|Complete|Non-2xx|" +
					"Keep-Alive|HTML)").MatchString(label)
				if same && got != value {
					t.Errorf("%s: %q, ab has %q", label, got, value)
				}
			}
			failed := fmt.Sprint(result.Failed)
			if mine["Failed requests"] != failed || test.path == "/page" && failed != "0" {
				t.Errorf("%s failed requests, of %s", mine["Failed requests"], counts(result))
			}
			if t.Failed() {
				t.Logf("ab:\n%s\nctload:\n%s", theirs, &ours)
			}
		})
	}
}

// labels returns the lines "label: value" of a report; those of a table with "" as their value.
func labels(report string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(report) {
		if strings.Contains(line, "http://") {
			continue // ab's copyright
		}
		label, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.Join(strings.Fields(value), " ")
		if ok && !strings.HasPrefix(label, "(") && value != "" {
			all[label] = value
		} else if label, _, ok := strings.Cut(strings.TrimSpace(line), "%"); ok && len(label) < 4 {
			all[label+"%"] = ""
		}
	}
	return all
}

// TestHTTPErrors_KeepConnections checks that answers of 400 and above do not end a kept-alive
// connection, unless the load asks for it or the server does.
func TestHTTPErrors_KeepConnections(t *testing.T) {
	for _, test := range []struct {
		name         string
		closeOnError bool
		header       string // Connection of an answer
		connections  int
	}{{"kept", false, "", 1}, {"asked", true, "", 10}, {"server", false, "close", 10}} {
		t.Run(test.name, func(t *testing.T) {
			accepted := 0
			server := httptest.NewUnstartedServer(http.HandlerFunc(
				func(w http.ResponseWriter, _ *http.Request) {
					if test.header != "" {
						w.Header().Set("Connection", test.header)
					}
					http.Error(w, "busy", http.StatusServiceUnavailable)
				}))
			server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
				accepted++
				return ctx
			}
			server.Start()
			spec, err := ParseURL(t.Context(), server.URL)
			if err != nil {
				t.Fatal(err)
			}
			spec.Count, spec.Concurrency, spec.KeepAlive = 10, 1, 10
			spec.CloseOnError = test.closeOnError
			got, err := Run(t.Context(), spec, nil)
			server.Close()
			if err != nil {
				t.Fatal(err)
			}
			sound(t, got)
			if got.Causes[string(BadResponse)] != 10 || got.Statuses[503] != 10 ||
				accepted != test.connections {
				t.Errorf("%s over %d connections, want %d", counts(got), accepted, test.connections)
			}
		})
	}
}
