package ociclient

import (
	"context"
	"iter"
	"strings"
	"sync"
)

// warnings tells of each warning once.
type warnings struct {
	report func(ctx context.Context, text string)

	mu   sync.Mutex
	told map[string]bool
}

const (
	maxWarnings = 1000 // that are told: a registry can make up any number
	maxWarning  = 4096 // bytes
)

// note reports the warnings in the values of Warning headers (specification,
// section "Warnings").
func (w *warnings) note(ctx context.Context, values []string) {
	if w.report == nil {
		return
	}
	for _, value := range values {
		if len(value) > maxWarning {
			continue
		}
		for text := range parseWarnings(value) {
			if w.isNew(text) {
				w.report(ctx, text)
			}
		}
	}
}

func (w *warnings) isNew(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told[text] || len(w.told) >= maxWarnings {
		return false
	}
	if w.told == nil {
		w.told = make(map[string]bool)
	}
	w.told[text] = true
	return true
}

// parseWarnings returns the texts of a list of `299 - "text"`: code, agent and
// date are to be as they stand here. What is otherwise ends the list.
func parseWarnings(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			quoted, ok := strings.CutPrefix(strings.TrimLeft(value, " \t,"), `299 - "`)
			if !ok {
				return
			}
			text, rest, ok := cutQuoted(quoted)
			if !ok || text != "" && !yield(text) {
				return
			}
			value = rest
		}
	}
}

// cutQuoted cuts off s what a quotation mark ends (RFC 9110, section 5.6.4).
func cutQuoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
