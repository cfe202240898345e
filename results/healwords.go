package results

import (
	"fmt"
	"strings"
)

// actionWords names the actions of a trial and what each did.
func actionWords(t *Trial) string {
	if len(t.Actions) == 0 {
		return ""
	}
	words := make([]string, len(t.Actions))
	for i, a := range t.Actions {
		words[i] = a.String()
		if effects := effectWords(a); effects != "" {
			words[i] += ", " + effects
		}
	}
	return "Actions: " + strings.Join(words, "; ") + "."
}

// effectWords words the changes: at most two, and only those of one line.
func effectWords(a Action) string {
	var words []string
	for _, e := range a.Effects {
		if e.Before == e.After || strings.ContainsRune(e.Before+e.After, '\n') || len(e.Before)+len(e.After) > 60 {
			continue
		}
		from := e.Before
		if from == "" {
			from = "none"
		}
		to := e.After
		if to == "" {
			to = "none"
		}
		words = append(words, fmt.Sprintf("%s from %s to %s", e.Name, from, to))
	}
	return strings.Join(words[:min(2, len(words))], ", ")
}

// healWords words when a trial left its steady state, whether it returned, and the losses
// meanwhile.
func healWords(t *Trial) string {
	h := t.Heal
	if h == nil {
		return ""
	}
	existing := fmt.Sprintf("%s broke", plural(h.Broken, "existing connection"))
	if h.Deviated == nil {
		s := "It stayed in its steady state"
		if len(t.Actions) > 0 {
			s += "; " + existing
		}
		return s + "."
	}
	a := actsOf(t.Actions)
	since, cure := "the deviation", "the deviation"
	switch {
	case a.fix != nil:
		since, cure = "the fix", a.fix.Name
	case a.fault != nil && a.fault.Ended != nil:
		since = "the end of the fault"
	case a.fault != nil:
		since = "the fault"
	}
	from := "the start of the load"
	if a.fault != nil && (a.fix == nil || *a.fault.Begun <= *a.fix.Begun) {
		from = a.fault.Name
	}
	s := fmt.Sprintf("Out of its steady state %s s after %s", Figure(*h.SecondsToDeviate), from)
	switch {
	case h.Healed == nil && a.fix != nil:
		s += fmt.Sprintf("; %s did not heal it while it was watched", cure)
	case h.Healed == nil:
		s += ", and not healed while it was watched"
	case *h.SecondsToHeal == 0 && a.fix != nil:
		s += fmt.Sprintf(", and normal again before %s", cure)
	default:
		s += fmt.Sprintf(", normal again %s s after %s", Figure(*h.SecondsToHeal), since)
	}
	lost := []string{
		plural(h.Refused, "refused packet"), plural(h.Failed, "failed attempt") + " of the load", plural(h.ProbesLost, "lost probe"),
	}
	s += "; meanwhile " + list(lost)
	if len(t.Actions) > 0 {
		s += "; " + existing
	}
	return s + "."
}
