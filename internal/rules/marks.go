package rules

import (
	"strconv"
	"strings"
)

// This file follows the mark of a packet, which rules set and which others compare.

// mark is a mark with a mask: a rule compares the bits of the mask with the value, or clears them
// and turns those of the value.
type mark struct{ value, mask uint32 }

// markOf reads VALUE or VALUE/MASK; ok is false for anything else.
func markOf(text string) (m mark, ok bool) {
	value, mask, masked := strings.Cut(text, "/")
	if !masked {
		mask = "0xffffffff"
	}
	v, errValue := strconv.ParseUint(value, 0, 32)
	k, errMask := strconv.ParseUint(mask, 0, 32)
	return mark{uint32(v), uint32(k)}, errValue == nil && errMask == nil
}

// markings are the options of the target MARK, by what they make of a value and a mask
// (xt_mark.c).
var markings = map[string]func(m mark) mark{
	"set-xmark": func(m mark) mark { return m },
	"set-mark":  func(m mark) mark { return mark{m.value, m.mask | m.value} },
	"and-mark":  func(m mark) mark { return mark{0, ^m.value} },
	"or-mark":   func(m mark) mark { return mark{m.value, m.value} },
	"xor-mark":  func(m mark) mark { return mark{m.value, 0} },
}

// nftMarkings are the operators of nft, as in "meta mark set meta mark | 0x4000".
var nftMarkings = map[string]string{
	"|": "or-mark", "or": "or-mark", "&": "and-mark", "and": "and-mark", "^": "xor-mark",
	"xor": "xor-mark",
}

// compareMark adds a condition on the mark of the packet; one that is not understood is another
// condition.
func (r *Rule) compareMark(text string, negated bool) {
	m, ok := markOf(text)
	if !ok || r.compared != nil {
		r.other = true
		return
	}
	r.compared, r.unmarked = &m, negated
}

// setMark notes what the rule makes of the mark.
func (r *Rule) setMark(name, text string) {
	m, ok := markOf(text)
	if !ok {
		r.remarks = true
		return
	}
	m = markings[name](m)
	r.marking = &m
}

// markWords reads "mark set ..." or "mark ..." of nft at i. It returns how many words it took; 0
// where they are something else.
func (r *nftRule) markWords(i int) int {
	if r.at(i) != "mark" {
		return 0
	}
	at := i + 1
	if r.at(at) == "set" {
		at++
		name := "set-mark"
		from := at
		if r.at(at) == "meta" {
			at++
		}
		if operator := nftMarkings[r.at(at+1)]; r.at(at) == "mark" && operator != "" {
			name, at = operator, at+2
		} else {
			at = from
		}
		r.setMark(name, r.at(at))
		return at + 1 - i
	}
	mask := "0xffffffff"
	if operator := r.at(at); operator == "&" || operator == "and" {
		mask, at = r.at(at+1), at+2
	}
	negated := r.at(at) == "!="
	if negated || r.at(at) == "==" {
		at++
	}
	r.compareMark(r.at(at)+"/"+mask, negated)
	return at + 1 - i
}

// marked judges the condition of a rule on the mark of the packet.
func (w *walker) marked(r *Rule) Fit {
	m := r.compared
	if m == nil {
		return Surely
	}
	fit := Maybe
	switch {
	case m.value&^m.mask != 0 || (w.mark^m.value)&m.mask&w.known != 0:
		fit = Never
	case m.mask&^w.known == 0:
		fit = Surely
	}
	if r.unmarked {
		return Surely - fit
	}
	return fit
}

// remark gives the packet the mark of a rule that it meets as surely as fit says.
func (w *walker) remark(r *Rule, fit Fit) {
	switch m := r.marking; {
	case r.remarks:
		w.known = 0
	case m != nil && fit == Surely:
		w.mark, w.known = w.mark&^m.mask^m.value, w.known|m.mask
	case m != nil:
		w.known &^= (w.mark&^m.mask ^ m.value) ^ w.mark
	}
}
