package histories

import (
	"fmt"
	"sync"
	"time"
)

// recorder writes down what clients asked and got. Its clock is monotone.
type recorder struct {
	cluster *cluster
	start   time.Time

	mu     sync.Mutex
	events []*Event
	lives  []*life // of the servers that were asked
}

func newRecorder(c *cluster) *recorder { return &recorder{cluster: c, start: time.Now()} }

func (r *recorder) now() time.Duration { return time.Since(r.start) }

func (r *recorder) add(ev *Event, l *life) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
	r.lives = append(r.lives, l)
}

// finish returns the history, when no client asks for anything more.
func (r *recorder) finish() []*Event {
	end := r.now()
	for i, ev := range r.events {
		if !ev.unknown() {
			continue
		}
		ev.Return = end
		if at, dead := r.cluster.nothingAfter(r.lives[i]); dead {
			ev.Return = max(ev.Call, min(end, at.Sub(r.start)))
		}
	}
	return r.events
}

// failures returns the answers of servers that failed.
func failures(events []*Event) (all []string) {
	for _, ev := range events {
		if ev.Failure != "" {
			all = append(all, fmt.Sprintf("%v: %s", ev, ev.Failure))
		}
	}
	return all
}
