package ociclient

import (
	"context"
	"sync"

	"github.com/seed-40b21970/oci/internal/wire"
)

// warnings reports each warning once.
type warnings struct {
	report func(ctx context.Context, text string)

	mu       sync.Mutex
	reported map[string]bool
}

const (
	maxWarnings = 1000 // that are reported: a registry can make up any number
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
		for text := range wire.ParseWarnings(value) {
			if w.isNew(text) {
				w.report(ctx, text)
			}
		}
	}
}

func (w *warnings) isNew(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reported[text] || len(w.reported) >= maxWarnings {
		return false
	}
	if w.reported == nil {
		w.reported = make(map[string]bool)
	}
	w.reported[text] = true
	return true
}
