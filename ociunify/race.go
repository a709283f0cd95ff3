package ociunify

import (
	"context"

	"github.com/seed-40b21970/oci/ociregistry"
)

// race asks two registries at once. Each is asked with a context of its own, and
// so can be cancelled alone.
type race[T any] struct {
	failover bool
	drop     func(T) // lets go of an answer that is not wanted; may be nil
	cancel   [2]context.CancelFunc
	answers  [2]chan answer[T]
}

type answer[T any] struct {
	v   T
	err error
}

func newRace[T any](ctx context.Context, u *union, ask func(context.Context, ociregistry.Interface) (T, error), drop func(T)) *race[T] {
	q := &race[T]{failover: u.opts.Failover, drop: drop}
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

// finish returns the answer that counts, and whose it is. If there is none, it
// returns why. The context of an answer is to be cancelled when it has served;
// everything else finish has let go of.
//
// If ordered, the answer of r0 counts if it has one.
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

// winner returns whose answer counts, or -1 if it is not decided. An error that
// counts is an answer, too.
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

// abandon cancels a registry's answer, and lets go of it: now, if it is there, or
// when it comes.
func (q *race[T]) abandon(i int, a *answer[T]) {
	q.cancel[i]()
	if q.drop == nil || a != nil && a.err != nil {
		return
	}
	if a != nil {
		q.drop(a.v)
		return
	}
	go func() {
		if a := <-q.answers[i]; a.err == nil {
			q.drop(a.v)
		}
	}()
}
