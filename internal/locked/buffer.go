// Package locked has what several goroutines of a test may write to at a time.
package locked

import (
	"log/slog"
	"strings"
	"sync"
)

// Buffer keeps what is written to it. The zero Buffer is empty. It is safe for use by
// several goroutines.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Logger returns a logger that writes a record a line.
func (b *Buffer) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
