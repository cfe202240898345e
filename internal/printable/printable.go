// Package printable keeps text from strangers (run folders, experiments, guests) from doing more
// than to be read: control sequences move the cursor or retitle the terminal, and bidirectional
// controls let a text look like another one. It is the filter at the edge of every output.
package printable

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// unsafe reports whether a character does something else than to show itself: a control character,
// a line end that only some programs see, or a format character, as those that change the
// direction. The two joiners belong to the spelling of some languages.
func unsafe(r rune) bool {
	switch r {
	case '\n', '\t', '\u200c', '\u200d':
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Text returns a text with U+FFFD in place of each unsafe character and of invalid UTF-8.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if unsafe(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// Of returns a copy of a document in which every text is printable; see [Text]. It reaches what
// JSON would: exported fields, lists, maps and pointers.
func Of[T any](document T) T {
	v := reflect.New(reflect.TypeFor[T]()).Elem()
	v.Set(reflect.ValueOf(&document).Elem())
	clean(v)
	return v.Interface().(T)
}

// clean makes a settable value printable, and copies what it refers to.
func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(Text(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			to := reflect.New(v.Type().Elem())
			to.Elem().Set(v.Elem())
			clean(to.Elem())
			v.Set(to)
		}
	case reflect.Interface:
		if !v.IsNil() {
			to := reflect.New(v.Elem().Type()).Elem()
			to.Set(v.Elem())
			clean(to)
			v.Set(to)
		}
	case reflect.Slice:
		if !v.IsNil() {
			to := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(to, v)
			for i := range to.Len() {
				clean(to.Index(i))
			}
			v.Set(to)
		}
	case reflect.Array:
		for i := range v.Len() {
			clean(v.Index(i))
		}
	case reflect.Map:
		if !v.IsNil() {
			to := reflect.MakeMapWithSize(v.Type(), v.Len())
			for from := v.MapRange(); from.Next(); {
				key := reflect.New(v.Type().Key()).Elem()
				key.Set(from.Key())
				clean(key)
				value := reflect.New(v.Type().Elem()).Elem()
				value.Set(from.Value())
				clean(value)
				to.SetMapIndex(key, value)
			}
			v.Set(to)
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() {
				clean(value)
			}
		}
	}
}

// JSON returns a JSON document in which each unsafe character is escaped; readers get the same
// document. JSON itself asks only for escapes below U+0020.
func JSON(document []byte) []byte {
	at := bytes.IndexFunc(document, unsafe)
	if at < 0 {
		return document
	}
	out := append(make([]byte, 0, len(document)+64), document[:at]...)
	for len(document) > at {
		r, size := utf8.DecodeRune(document[at:])
		switch {
		case !unsafe(r):
			out = append(out, document[at:at+size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		at += size
	}
	return out
}

// Cell returns a value for a table that a spreadsheet may read: a text that it would take for a
// formula gets an apostrophe, which it does not show. A number may begin with a sign.
func Cell(value string) string {
	if value == "" || !strings.ContainsRune("=+-@\t\r", rune(value[0])) {
		return value
	}
	if _, err := strconv.ParseFloat(value, 64); err == nil {
		return value
	}
	return "'" + value
}

// Writer returns a writer whose texts arrive printable at w. A character may not be split between
// two writes.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ io.Writer }

func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, Text(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
