package memstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A Request is what Options.Fault is asked about.
type Request struct {
	// Op is the name of the objstore.Store's method.
	Op string
	// Key is the object's key, or the prefix of a list.
	Key string
	// Write says whether the request changes something.
	Write bool
	// Condition is that of the write.
	Condition objstore.Condition
}

// A Fault is what happens to a request. The zero Fault is nothing.
type Fault struct {
	// Delay is how long the request takes before it is carried out.
	Delay time.Duration
	// Kind is what the store answers instead: ErrThrottled, ErrConflict, ErrTemporary,
	// ErrDenied. The request is not carried out.
	Kind error
	// Lost: the request is carried out, and its answer does not come. A read is ErrTemporary
	// and a write ErrUnclear.
	Lost bool
	// Late: the answer does not come, and the write is carried out by Store.Land, if at all.
	Late bool
	// Twice: the write is carried out twice, as by a proxy that tries again. The answer is the
	// second one's.
	Twice bool
	// Again: the write is carried out and answered, and once more by Store.Land.
	Again bool
	// IgnoreCondition: the write is carried out without its condition.
	IgnoreCondition bool
	// NotAtomic is how long after its check of the condition a write is carried out.
	// A write in between goes unnoticed.
	NotAtomic time.Duration
	// Break ends an object's body with an error, after BreakAfter bytes.
	Break      bool
	BreakAfter int64
}

// Rates says how often Random has which fault, from 0 to 1.
type Rates struct {
	Throttled, Conflict, Temporary, Lost, Late, Twice, Again, Break float64
	// MaxDelay is the maximum of random delays.
	MaxDelay time.Duration
}

// Random returns an Options.Fault that has faults at random. The same seed and the same
// order of requests give the same faults.
func Random(seed uint64, rates Rates) func(Request) Fault {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, seed))
	return func(req Request) (f Fault) {
		mu.Lock()
		defer mu.Unlock()
		if rates.MaxDelay > 0 {
			f.Delay = time.Duration(r.Int64N(int64(rates.MaxDelay)))
		}
		switch chance := r.Float64(); {
		case chance < rates.Throttled:
			f.Kind = objstore.ErrThrottled
		case chance < rates.Throttled+rates.Temporary && !req.Write:
			f.Kind = objstore.ErrTemporary
		case chance < rates.Throttled+rates.Conflict && req.Condition != (objstore.Condition{}):
			f.Kind = objstore.ErrConflict
		}
		f.Lost = r.Float64() < rates.Lost
		f.Late = req.Write && r.Float64() < rates.Late
		f.Twice = req.Write && r.Float64() < rates.Twice
		f.Again = req.Write && r.Float64() < rates.Again
		f.Break = r.Float64() < rates.Break
		f.BreakAfter = r.Int64N(1 << 16)
		return f
	}
}

// Land carries out the late writes for which now is true; the others stay late. Their answers
// go nowhere.
func (s *Store) Land(now func(Request) bool) {
	s.mem.mu.Lock()
	writes := s.mem.late
	s.mem.late = nil
	s.mem.mu.Unlock()
	for _, w := range writes {
		if now(w.req) {
			w.do()
		} else {
			s.mem.postpone(w)
		}
	}
}

// A lateWrite is a write that is on its way when its client has given it up.
type lateWrite struct {
	req Request
	do  func()
}

func (m *memory) postpone(w lateWrite) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.late = append(m.late, w)
}

var errLost = errors.New("connection reset by the test")

func (m *memory) fault(req Request) Fault {
	if m.opts.Fault == nil {
		return Fault{}
	}
	return m.opts.Fault(req)
}

// request carries out a request with the fault that it is to have.
func request[T any](ctx context.Context, m *memory, req Request, do func(objstore.Condition) (T, error)) (T, error) {
	return carryOut(ctx, m, m.fault(req), req, do)
}

// carryOut carries out a request with a fault. do gets the condition to check, and
// is called once for each time that the request is carried out.
func carryOut[T any](ctx context.Context, m *memory, f Fault, req Request, do func(objstore.Condition) (T, error)) (T, error) {
	var none T
	if err := sleep(ctx, f.Delay); err != nil {
		return none, req.failure(err)
	}
	if f.Kind != nil {
		return none, m.fail(req.Op, req.Key, f.Kind)
	}
	if req.Write && f.Late {
		m.postpone(lateWrite{req: req, do: func() { do(req.Condition) }})
		return none, req.failure(errLost)
	}
	cond := req.Condition
	if f.NotAtomic > 0 {
		if err := m.check(req); err != nil {
			return none, err
		}
		if err := sleep(ctx, f.NotAtomic); err != nil {
			return none, req.failure(err)
		}
	}
	if f.IgnoreCondition || f.NotAtomic > 0 {
		cond = objstore.Condition{}
	}
	if req.Write && f.Twice {
		do(cond)
	}
	v, err := do(cond)
	if req.Write && f.Again {
		m.postpone(lateWrite{req: req, do: func() { do(req.Condition) }})
	}
	if f.Lost {
		return none, req.failure(errLost)
	}
	return v, err
}

func (m *memory) check(req Request) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holds(req.Op, req.Key, req.Condition)
}

// failure is the error of a request without an answer.
func (req Request) failure(err error) error {
	kind := objstore.ErrTemporary
	if req.Write {
		kind = objstore.ErrUnclear
	}
	return &objstore.Error{Op: req.Op, Key: req.Key, Kind: kind, Err: fmt.Errorf("no answer: %w", err)}
}

// sleep returns when the delay is over or the context ends.
func sleep(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
