package ociclient

import (
	"context"
	"time"
)

// SetClock makes a client of these options use another clock.
func (o *Options) SetClock(now func() time.Time, sleep func(context.Context, time.Duration) error) {
	o.clock = clock{now, sleep}
}
