package ociunify

import (
	"context"

	"github.com/seed-40b21970/oci/ociregistry"
)

// race asks two registries at once. Each request has its own context, so that one of
// them can be cancelled.
type race[T any] struct {
	failover bool
	discard  func(T) // releases an answer that is not used; may be nil
	cancel   [2]context.CancelFunc
	answers  [2]chan answer[T]
}

type answer[T any] struct {
	v   T
	err error
}

func newRace[T any](ctx context.Context, u *union, ask func(context.Context, ociregistry.Interface) (T, error), discard func(T)) *race[T] {
	q := &race[T]{failover: u.opts.Failover, discard: discard}
	for i := range q.answers {
		ctx, cancel := context.WithCancel(ctx)
		q.cancel[i] = cancel
		q.answers[i] = make(chan answer[T], 1)
		go func() {
			v, err := ask(ctx, u.r[i])
			q.answers[i] <- answer[T]{v, err}
		}()
	}
	return q
}

// finish returns the answer that counts, and which registry it is from. If there is
// none, it returns an error. The caller must cancel the context of the answer when it
// has used the answer; finish releases everything else.
//
// If ordered is true, the answer of r0 counts if it has one.
func (q *race[T]) finish(ctx context.Context, ordered bool) (v T, winner int, err error) {
	var got [2]*answer[T]
	for {
		if winner = q.winner(got, ordered); winner >= 0 {
			break
		}
		select {
		case a := <-q.answers[0]:
			got[0] = &a
		case a := <-q.answers[1]:
			got[1] = &a
		case <-ctx.Done():
			q.abandon(0, got[0])
			q.abandon(1, got[1])
			return v, 0, ctx.Err()
		}
	}
	a := got[winner]
	q.abandon(1-winner, got[1-winner])
	if a.err == nil {
		return a.v, winner, nil
	}
	q.cancel[winner]()
	if other := got[1-winner]; other != nil && other.err != nil {
		return v, winner, neither(got[0].err, got[1].err)
	}
	return v, winner, a.err
}

// winner returns the registry whose answer counts, or -1 if that is not decided yet.
// The answer may be an error.
func (q *race[T]) winner(got [2]*answer[T], ordered bool) int {
	if ordered {
		switch {
		case got[0] == nil:
			return -1
		case got[0].err == nil, !notFound(got[0].err) && !q.failover:
			return 0
		}
	}
	for i, a := range got {
		if a != nil && a.err == nil {
			return i
		}
	}
	if got[0] != nil && got[1] != nil {
		return 0
	}
	return -1
}

// abandon cancels the request to a registry, and releases its answer: now if it has
// come, or else when it comes.
func (q *race[T]) abandon(i int, a *answer[T]) {
	q.cancel[i]()
	if q.discard == nil || a != nil && a.err != nil {
		return
	}
	if a != nil {
		q.discard(a.v)
		return
	}
	go func() {
		if a := <-q.answers[i]; a.err == nil {
			q.discard(a.v)
		}
	}()
}
