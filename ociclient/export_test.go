package ociclient

import (
	"context"
	"runtime"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// SetClock makes a client of these options use another clock.
func (o *Options) SetClock(now func() time.Time, sleep func(context.Context, time.Duration) error) {
	o.clock = clock{now, sleep}
}

// AwaitReferrers waits until so many changes of lists of referrers are made or
// wait to be.
func AwaitReferrers(r ociregistry.Interface, n int) {
	s := &r.(*client).referrers
	for waiting := -1; waiting < n; runtime.Gosched() {
		waiting = 0
		s.mu.Lock()
		for _, q := range s.queues {
			if q.next == nil || len(q.next.turn) == 0 {
				waiting++ // the caller that has the turn
			}
			if q.next != nil {
				waiting += len(q.next.changes)
			}
		}
		s.mu.Unlock()
	}
}
