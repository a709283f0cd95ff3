package histories

import (
	"encoding/binary"
	"fmt"

	"github.com/anishathalye/porcupine"
)

// Porcupine tries the orders in which operations may have taken place. To try them
// for reads is in vain: one may as well take place as soon as the state is what was
// read. So a read is not an operation for porcupine, but two moments: it begins, and
// from then on the state knows of it as long as it is not what was read; when it
// ends, the state must not know of it any more.

// operations returns a history as porcupine wants it, for one repository.
func operations(repo string, events []*Event) (ops []porcupine.Operation) {
	r := new(reads)
	forSteps(repo, events, func(st *step) {
		call, ret := int64(st.event.Call), int64(st.event.Return)
		if st.holds == nil {
			ops = append(ops, porcupine.Operation{ClientId: st.event.Client, Input: write{r, st}, Call: call, Return: ret})
			return
		}
		id := uint16(len(r.steps))
		r.steps = append(r.steps, st)
		ops = append(ops,
			porcupine.Operation{ClientId: st.event.Client, Input: readBegins{r, id}, Call: call, Return: call},
			porcupine.Operation{ClientId: st.event.Client, Input: readEnds{r, id}, Call: ret, Return: ret})
	})
	return ops
}

// plainOperations is like operations, but one step is one operation. That is easier to
// understand, and harder to check.
func plainOperations(repo string, events []*Event) (ops []porcupine.Operation) {
	forSteps(repo, events, func(st *step) {
		ops = append(ops, porcupine.Operation{ClientId: st.event.Client, Input: st, Call: int64(st.event.Call), Return: int64(st.event.Return)})
	})
	return ops
}

// forSteps calls f with the steps that take place in a repository.
func forSteps(repo string, events []*Event, f func(*step)) {
	h := newHistory(events)
	for _, ev := range events {
		for _, l := range h.steps(ev) {
			if l.repo == repo {
				f(&l.step)
			}
		}
	}
}

// step implements stepper.
func (st *step) step(s state) []state {
	switch {
	case st.holds == nil:
		return st.next(s)
	case st.holds(&s):
		return []state{s}
	}
	return nil
}

func (st *step) String() string {
	return fmt.Sprintf("%v -> %v (%s)", st.event.Op, st.event.Outcome, st.what)
}

// reads has the reads of a history. They go by their places in it.
type reads struct{ steps []*step }

// look takes from those that wait for a state what this one satisfies.
func (r *reads) look(s *state) {
	if s.waiting == "" {
		return
	}
	var still []byte
	for w := s.waiting; w != ""; w = w[2:] {
		if id := readID(w); !r.steps[id].holds(s) {
			still = binary.BigEndian.AppendUint16(still, id)
		}
	}
	if len(still) < len(s.waiting) {
		s.waiting = string(still)
	}
}

func readID(waiting string) uint16 { return binary.BigEndian.Uint16([]byte(waiting[:2])) }

// write is a step that writes.
type write struct {
	*reads
	made *step
}

func (w write) step(s state) []state {
	states := w.made.next(s)
	for i := range states {
		w.look(&states[i])
	}
	return states
}

// readBegins and readEnds are the moments of a read.
type readBegins struct {
	*reads
	id uint16
}

func (b readBegins) step(s state) []state {
	if !b.steps[b.id].holds(&s) {
		ids := binary.BigEndian.AppendUint16([]byte(s.waiting), b.id)
		s.waiting = string(ids)
	}
	return []state{s}
}

type readEnds struct {
	*reads
	id uint16
}

func (e readEnds) step(s state) []state {
	for w := s.waiting; w != ""; w = w[2:] {
		if readID(w) == e.id {
			return nil
		}
	}
	return []state{s}
}
