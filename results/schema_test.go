package results

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	invopop "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite run.schema.json")

// makeSchema makes the schema from the types and their comments; a strict one refuses fields that
// it does not know.
func makeSchema(t *testing.T, strict bool) []byte {
	t.Helper()
	r := &invopop.Reflector{
		AllowAdditionalProperties: !strict,
		ExpandedStruct:            true,
		BaseSchemaID:              "https://github.com/ctload/ctload/results",
		Mapper: func(typ reflect.Type) *invopop.Schema {
			s := &invopop.Schema{Type: "string"}
			switch typ {
			case reflect.TypeFor[Verdict]():
				for _, v := range slices.SortedFunc(maps.Keys(severity), Verdict.Compare) {
					s.Enum = append(s.Enum, string(v))
				}
			case reflect.TypeFor[RecoveryEnd]():
				for _, e := range []RecoveryEnd{Undisturbed, Settled, TimeOver, Interrupted} {
					s.Enum = append(s.Enum, string(e))
				}
			default:
				return nil
			}
			return s
		},
	}
	if err := r.AddGoComments("github.com/ctload/ctload/results", "."); err != nil {
		t.Fatal(err)
	}
	for name, text := range r.CommentMap {
		r.CommentMap[name] = strings.Join(strings.Fields(text), " ")
	}
	for _, c := range NetworkCounters { // the kernel's names come first
		field := reflect.TypeFor[NetCounters]().FieldByIndex(c.index)
		key := "github.com/ctload/ctload/results.NetCounters." + field.Name
		r.CommentMap[key] = strings.Trim(c.Kernel+": "+r.CommentMap[key], ": ")
	}
	s := r.Reflect(&Run{})
	s.Title = "run.json of ctload"
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

func compileSchema(t *testing.T, data []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("run.schema.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("run.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaIsCurrent(t *testing.T) {
	want := makeSchema(t, false)
	if *update {
		if err := os.WriteFile("run.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(Schema)); diff != "" {
		t.Errorf("run.schema.json is out of date; run with -update:\n%s", diff)
	}
}

// full returns a run in which every field has a value.
func full() *Run {
	run := &Run{}
	fill(reflect.ValueOf(run).Elem())
	run.Schema, run.Conclusion = SchemaVersion, nil // Encode derives the conclusion
	run.Scenarios[0].Trials[0].Verdict, run.Scenarios[0].Trials[0].Also = TableFull, Evicting
	run.Scenarios[0].Trials[0].Recovery.Ended = Settled
	return run
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 20, 1, 2, 3, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Interface:
		v.Set(reflect.ValueOf("x"))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(math.MaxUint64)
	case reflect.Float64:
		v.SetFloat(1.5)
	default:
		panic("the model has a field of kind " + v.Kind().String())
	}
}

func TestSchemaAcceptsRuns(t *testing.T) {
	strict, open := compileSchema(t, makeSchema(t, true)), compileSchema(t, Schema)
	for name, run := range map[string]*Run{
		"full":    full(),
		"empty":   {Schema: SchemaVersion},
		"not run": {Schema: SchemaVersion, Scenarios: []Scenario{{Name: "a"}}},
		"interrupted": {
			Schema: SchemaVersion, Interrupted: true,
			Scenarios: []Scenario{{Trials: []Trial{{Verdict: Invalid, Invalid: []string{"x"}}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Encode(&b, run); err != nil {
				t.Fatal(err)
			}
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if err := strict.Validate(document); err != nil {
				t.Error(err)
			}
			if err := open.Validate(document); err != nil {
				t.Error(err)
			}
			back, err := decode(b.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			var again bytes.Buffer
			if err := Encode(&again, back); err != nil {
				t.Fatal(err)
			}
			if name == "full" {
				if diff := cmp.Diff(run, back); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestSchemaRefuses(t *testing.T) {
	open := compileSchema(t, Schema)
	for name, change := range map[string]func(map[string]any){
		"a verdict that is none": func(m map[string]any) { trial0(m)["verdict"] = "full" },
		"a figure as text":       func(m map[string]any) { trial0(m)["seconds"] = "12" },
		"no scenarios":           func(m map[string]any) { delete(m, "scenarios") },
		"null for a list":        func(m map[string]any) { m["scenarios"] = nil },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Encode(&b, full()); err != nil {
				t.Fatal(err)
			}
			document, err := jsonschema.UnmarshalJSON(&b)
			if err != nil {
				t.Fatal(err)
			}
			change(document.(map[string]any))
			if err := open.Validate(document); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func trial0(m map[string]any) map[string]any {
	scenario := m["scenarios"].([]any)[0].(map[string]any)
	return scenario["trials"].([]any)[0].(map[string]any)
}

func TestEncodeNamesWhatIsNoNumber(t *testing.T) {
	run := full()
	run.Scenarios[0].Trials[0].Load.Connect.P99 = math.NaN()
	err := Encode(&bytes.Buffer{}, run)
	if err == nil ||
		!strings.Contains(err.Error(), "scenarios[0].trials[0].load.connect_ms.p99 is no number") {
		t.Errorf("got %v", err)
	}
}

// FuzzDecode: a decoded document can be encoded and decoded to the same; no input makes the reader
// panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":1,"experiment":"x","scenarios":[{"name":"a","trials":[` +
		`{"verdict":"clean","conntrack":{"drop":1,"seconds_to_full":1.5}}]}]}`))
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`{"scenarios":null}`))
	f.Add([]byte(`[`))
	f.Add([]byte(`{"started":"2026-11-20T00:00:00Z","seed":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		run, err := decode(data)
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := Encode(&first, run); err != nil {
			t.Fatal(err)
		}
		again, err := decode(first.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := Encode(&second, again); err != nil {
			t.Fatal(err)
		}
		if first.String() != second.String() {
			t.Errorf("not the same:\n%s\n%s", &first, &second)
		}
	})
}

// FuzzReadLines: a series that was read and written again is the same; a reader never panics.
func FuzzReadLines(f *testing.F) {
	f.Add([]byte("{\"t\":1,\"count\":5,\"counters\":{\"drop\":1}}\n{\"t\":2"))
	f.Add([]byte("\n\n{}\n"))
	f.Add([]byte("null\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		samples, err := parseLines[Sample](data)
		if err != nil {
			return
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		for _, s := range samples {
			if err := e.Encode(s); err != nil {
				t.Fatal(err)
			}
		}
		again, err := parseLines[Sample](b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(samples, again); diff != "" {
			t.Error(diff)
		}
	})
}
