package ociclient

import (
	"context"
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
		if text, ok := parseWarning(value); ok && w.isNew(text) {
			w.report(ctx, text)
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

// parseWarning returns the text of `299 - "text"`: code, agent and date are to be
// as they stand here.
func parseWarning(value string) (string, bool) {
	quoted, ok := strings.CutPrefix(strings.TrimSpace(value), `299 - "`)
	if !ok || len(value) > maxWarning {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(quoted); i++ {
		switch c := quoted[i]; {
		case c == '"':
			return b.String(), b.Len() > 0
		case c == '\\' && i+1 < len(quoted):
			i++
			b.WriteByte(quoted[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
