package ociweb

import (
	"context"
	"iter"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/flight"
)

const (
	// ownNames is how many repositories a page lists for itself. A page that goes further goes
	// on in a list that pages share: else each search would list all repositories.
	ownNames = 256

	// sharedFor is how long pages share a list of repositories.
	sharedFor = 5 * time.Second
)

// shared is a list of repositories, from the first on, that pages share while it is young.
type shared struct {
	reading flight.Group[struct{}, *names]

	mu   sync.Mutex
	list *names // nil if there is none
}

func (s *shared) get() *names {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

func (s *shared) set(list *names) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

// far returns the shared list for a page that has read far from start on. It makes one if there
// is none, unless the page begins where the list may not reach; then it may return nil.
func (x *exchange) far(start string) (*names, error) {
	if list := x.shared.get(); list != nil || start != "" {
		return list, nil
	}
	return x.shared.reading.Do(x.ctx, struct{}{}, func(ctx context.Context) (_ *names, err error) {
		defer func() { // the goroutine is not that of the request
			if v := recover(); v != nil {
				err = x.logPanic(v)
			}
		}()
		list, err := x.read(x.registry.Repositories(ctx, ""), x.opts.MaxNames, func(string) bool { return true })
		if err != nil {
			return nil, err
		}
		x.shared.set(&list)
		time.AfterFunc(sharedFor, func() { x.shared.set(nil) })
		return &list, nil
	})
}

// repositoriesAfter lists the repositories after start: if pages share a list, the near ones as they are, and those
// that are far away as they were a moment ago.
func (x *exchange) repositoriesAfter(start string) iter.Seq2[string, error] {
	if !x.opts.ShareList {
		return x.registry.Repositories(x.ctx, start)
	}
	return func(yield func(string, error) bool) {
		c := chain{yield: yield, last: start}
		if c.pass(x.registry.Repositories(x.ctx, start), ownNames); c.passed < ownNames {
			return
		}
		list, err := x.far(start)
		if err != nil {
			yield("", err)
			return
		}
		if list != nil {
			c.pass(list.after(c.last), len(list.items))
		}
		if list == nil || list.next != "" {
			c.pass(x.registry.Repositories(x.ctx, c.last), math.MaxInt)
		}
	}
}

// chain passes several lists on as one.
type chain struct {
	yield  func(string, error) bool
	passed int    // the number of names
	last   string // the name before the next
	ended  bool   // nothing follows
}

// pass passes on up to n names of a list.
func (c *chain) pass(list iter.Seq2[string, error], n int) {
	if c.ended {
		return
	}
	for name, err := range list {
		if c.ended = !c.yield(name, err) || err != nil; c.ended {
			return
		}
		c.last = name
		c.passed++
		if n--; n == 0 {
			return
		}
	}
}

// after lists the names of n after one.
func (n *names) after(name string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		i, found := slices.BinarySearch(n.items, name)
		if found {
			i++
		}
		for _, item := range n.items[i:] {
			if !yield(item, nil) {
				return
			}
		}
	}
}
