// Package queue has calls that arrive while another is being made wait for it. Then one of
// them, the leader, makes all of them together, and wakes the others. Concurrent calls thus
// share the slow steps.
package queue

import (
	"context"
	"slices"
	"sync"
)

// MaxBatch and MaxBytes are the maximum number of calls in a batch, and of their bytes,
// unless a single call has more.
const (
	MaxBatch = 1024
	MaxBytes = 16 << 20
)

// A Call is what a [Queue] knows of a call. The type of the calls embeds it.
type Call struct {
	Exclusive bool // it has a batch of its own
	Size      int  // in bytes
	Err       error

	turn chan struct{} // receives a value when the waiting call is done or becomes the leader
	done bool
}

func (c *Call) queued() *Call { return c }

// A Caller is a pointer to a type that embeds [Call].
type Caller interface {
	comparable
	queued() *Call
}

// A Leader makes calls. A queue calls its methods one at a time.
type Leader[C Caller] interface {
	// Begin prepares a batch that c is the first of. More calls may arrive meanwhile. If
	// it returns an error, that is the result of c.
	Begin(c C) error

	// Make makes calls, and sets Err of those that fail.
	Make(batch []C)
}

// Queue holds the calls that wait. The zero Queue is empty.
type Queue[C Caller] struct {
	mu      sync.Mutex
	waiting []C // if leading, the first is the leader's
	leading bool
}

// Do makes a call, and returns its error. If the context ends before the call's batch
// begins, the call is not made, and the error is that of the context.
func (q *Queue[C]) Do(ctx context.Context, c C, leader Leader[C]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	call := c.queued()
	if !q.join(c) {
		select {
		case <-call.turn:
		case <-ctx.Done():
			if q.remove(c) {
				return ctx.Err()
			}
			<-call.turn
		}
		if call.done {
			return call.Err
		}
	}
	defer q.resign()
	if err := leader.Begin(c); err != nil {
		q.remove(c)
		return err
	}
	batch := q.next()
	leader.Make(batch)
	for _, other := range batch {
		if other != c {
			other.queued().done = true
			other.queued().turn <- struct{}{}
		}
	}
	return call.Err
}

// IsBusy reports whether a call is being made.
func (q *Queue[C]) IsBusy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.leading
}

// join adds c to the queue, and reports whether it is the leader.
func (q *Queue[C]) join(c C) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, c)
	if !q.leading {
		q.leading = true
		return true
	}
	c.queued().turn = make(chan struct{}, 1)
	return false
}

// remove removes c from the queue unless its batch has begun, and reports whether it
// did.
func (q *Queue[C]) remove(c C) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, c)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	select {
	case <-c.queued().turn: // c has just become the leader
		q.passLead()
	default:
	}
	return true
}

// next removes the next batch from the queue and returns it.
func (q *Queue[C]) next() []C {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.waiting[0].queued()
	n, size := 1, first.Size
	for n < len(q.waiting) && n < MaxBatch && !first.Exclusive {
		c := q.waiting[n].queued()
		if size += c.Size; c.Exclusive || size > MaxBytes {
			break
		}
		n++
	}
	batch := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return batch
}

// resign makes the next call in the queue the leader.
func (q *Queue[C]) resign() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.passLead()
}

func (q *Queue[C]) passLead() {
	q.leading = len(q.waiting) > 0
	if q.leading {
		q.waiting[0].queued().turn <- struct{}{}
	}
}
