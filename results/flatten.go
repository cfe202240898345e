package results

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CellOfTrial is one figure of a trial under its path in run.json.
type CellOfTrial struct {
	Path  string
	Value string // empty without a figure
}

// Flatten returns the figures of a trial, always the same ones in the same order, as a row of a
// spreadsheet needs it: numbers in Go's notation, times of day in RFC 3339, lists and maps in one
// cell. It leaves out Stages.
func Flatten(t *Trial) []CellOfTrial {
	var cells []CellOfTrial
	flatten(reflect.ValueOf(*t), "", &cells)
	for i := range cells {
		if logPaths[cells[i].Path] && t.Conntrack.LogMissing != "" {
			cells[i].Value = ""
		}
	}
	return cells
}

// logPaths are the figures that come from the kernel's log.
var logPaths = map[string]bool{"conntrack.log_lines": true, "conntrack.log_suppressed": true}

func flatten(v reflect.Value, prefix string, cells *[]CellOfTrial) {
	eachField(v.Type(), func(name string, field reflect.StructField) {
		f := v.FieldByIndex(field.Index)
		if s, ok := isPlainStruct(field.Type); ok {
			if f.Kind() == reflect.Pointer {
				if f.IsNil() {
					blank(s, prefix+name+".", cells)
					return
				}
				f = f.Elem()
			}
			flatten(f, prefix+name+".", cells)
			return
		}
		if field.Type == reflect.TypeFor[[]Stage]() {
			return
		}
		*cells = append(*cells, CellOfTrial{prefix + name, cellText(f)})
	})
}

// blank adds the cells of a missing struct.
func blank(t reflect.Type, prefix string, cells *[]CellOfTrial) {
	from := len(*cells)
	flatten(reflect.Zero(t), prefix, cells)
	for i := from; i < len(*cells); i++ {
		(*cells)[i].Value = ""
	}
}

func cellText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return cellText(v.Elem())
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case reflect.Map:
		var words []string
		for _, key := range slices.SortedFunc(maps.Keys(stringKeys(v)), strings.Compare) {
			words = append(words, key+"="+cellText(stringKeys(v)[key]))
		}
		return strings.Join(words, " ")
	case reflect.Slice:
		words := make([]string, v.Len())
		for i := range words {
			words[i] = cellText(v.Index(i))
		}
		return strings.Join(words, "; ")
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return x.Format(time.RFC3339)
	case Cause:
		return fmt.Sprintf("%s=%d", x.Name, x.Count)
	case Action:
		return x.String()
	case StateCount:
		return fmt.Sprintf("%s %s=%d", x.Protocol, x.State, x.Entries)
	case SourceCount:
		return fmt.Sprintf("%s=%d", x.Address, x.Entries)
	case Alert:
		return fmt.Sprintf("%g=%g", x.Share, x.Fired)
	default:
		return fmt.Sprint(x)
	}
}

func stringKeys(v reflect.Value) map[string]reflect.Value {
	m := make(map[string]reflect.Value, v.Len())
	for key, value := range v.Seq2() {
		m[key.String()] = value
	}
	return m
}
