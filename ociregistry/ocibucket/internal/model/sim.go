package model

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
)

// A sim is one run: a bucket, processes with tasks, and what goes wrong.
type sim struct {
	*bucket
	truths
	off     map[rule]bool
	rnd     *rand.Rand
	now     int
	nonces  int
	tasks   []*task
	late    []lateRequest
	faults  bool
	pauses  bool
	options options
	profile profile

	sessions [2]string // that clients go on with

	keepTrace bool
	trace     []string
}

// options are what all processes of a registry share.
type options struct{ immutable, sparse, deletes bool }

type lateRequest struct {
	request
	at  int
	who string
}

func (s *sim) on(r rule) bool { return !s.off[r] }

func (s *sim) nonce(prefix string) string {
	s.nonces++
	return fmt.Sprintf("%s%d", prefix, s.nonces)
}

func (s *sim) logf(format string, args ...any) {
	if s.keepTrace {
		s.trace = append(s.trace, fmt.Sprintf("%5d ", s.now)+fmt.Sprintf(format, args...))
	}
}

// A process has what it could lose.
type process struct {
	*sim
	name    string
	epoch   int // counts crashes
	seen    int // the last Date that the store told it
	repos   map[string]*repository
	catalog map[string]bool     // names that are known to be in c/
	marked  map[string][]string // the marks of names that were new
}

func (p *process) crash() {
	p.epoch++
	p.seen = 0
	p.repos, p.catalog, p.marked = map[string]*repository{}, map[string]bool{}, map[string][]string{}
}

// A task is a goroutine of a process: a coroutine that stops at each request.
type task struct {
	*process
	name    string
	rnd     *rand.Rand
	yield   func(request) bool
	next    func() (request, bool)
	stop    func()
	epochAt int
	request request
	answer  answer
	wakes   int
	linked  int // when the task last saw or made a link
	done    bool
}

// A panic with crashed ends a task's call, after a crash of its process; one with stopped ends
// the task, with the run.
type (
	crashed struct{}
	stopped struct{}
)

// do makes a request and returns its answer.
func (t *task) do(r request) answer {
	if !t.yield(r) {
		panic(stopped{})
	}
	if t.epochAt != t.epoch {
		panic(crashed{})
	}
	if t.answer.code != none && r.op != wait {
		t.seen = max(t.seen, t.answer.date)
	}
	return t.answer
}

// call runs one call of a client, until it returns or the process crashes.
func (t *task) call(name string, f func() result) {
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(crashed); !ok {
				panic(v)
			}
			t.epochAt = t.epoch
		}
	}()
	t.logf("%s: %s", t.name, name)
	r := f()
	t.logf("%s: %s = %s", t.name, name, r)
}

func (s *sim) addTask(p *process, name string, seed uint64, body func(*task)) {
	t := &task{process: p, name: name, rnd: rand.New(rand.NewPCG(seed, 0)), epochAt: p.epoch}
	t.next, t.stop = iter.Pull(func(yield func(request) bool) {
		t.yield = yield
		defer func() {
			if v := recover(); v != nil && v != any(stopped{}) {
				panic(v)
			}
		}()
		body(t)
	})
	s.tasks = append(s.tasks, t)
}

// run lets tasks go on, one request at a time, until all are done or something is violated.
func (s *sim) run(steps int) {
	for _, t := range s.tasks {
		t.advance()
	}
	for range steps {
		s.land()
		ready, soonest := s.ready()
		if s.violation != "" || len(ready) == 0 && soonest < 0 {
			break
		}
		if len(ready) == 0 {
			s.now = soonest
			continue
		}
		if s.rnd.IntN(40) == 0 {
			s.now += s.rnd.IntN(delay)
		}
		s.now++
		s.step(ready[s.rnd.IntN(len(ready))])
	}
	for _, t := range s.tasks {
		t.stop()
	}
	for _, l := range s.late {
		s.execute(l.who, l.request)
	}
	s.checkEnd()
}

func (t *task) advance() {
	r, more := t.next()
	t.request, t.done = r, !more
}

// ready returns the tasks that can go on, and when the first one of the others wakes, or -1.
func (s *sim) ready() (ready []*task, soonest int) {
	soonest = -1
	for _, t := range s.tasks {
		switch {
		case t.done, t.request.op == wait && t.epochAt == t.epoch && !t.request.until():
		case t.wakes <= s.now:
			ready = append(ready, t)
		case soonest < 0 || t.wakes < soonest:
			soonest = t.wakes
		}
	}
	return ready, soonest
}

// step lets a task's request meet its fate.
func (s *sim) step(t *task) {
	if t.epochAt != t.epoch { // another task of the process crashed it
		if t.request.write() && s.rnd.IntN(2) == 0 {
			s.delay(t.name, t.request)
		}
		t.advance()
		return
	}
	if s.pauses && s.rnd.IntN(s.profile.pauses) == 0 {
		t.wakes = s.now + s.rnd.IntN(3*grace)
		return
	}
	t.answer = answer{date: s.now}
	switch fate := s.rnd.IntN(100); {
	case t.request.op == wait || !s.faults:
		t.answer = s.execute(t.name, t.request)
	case !t.request.write():
		if fate >= 2 && !(s.profile.shaky && fate < 20) { // else a read that fails
			t.answer = s.execute(t.name, t.request)
		}
	case fate < 3:
		s.execute(t.name+" (lost)", t.request)
	case fate < 6:
		s.delay(t.name, t.request)
	case fate < 7: // repeated by something in between, later
		t.answer = s.execute(t.name, t.request)
		s.delay(t.name+" (again)", t.request)
	case fate < 8: // repeated at once, so that who succeeded is told that he was refused
		s.execute(t.name, t.request)
		t.answer = s.execute(t.name+" (again)", t.request)
	case fate < 9:
		s.execute(t.name+" (crash)", t.request)
		t.crash()
	case fate < 10:
		t.crash()
	case fate < 11:
		s.delay(t.name+" (crash)", t.request)
		t.crash()
	default:
		t.answer = s.execute(t.name, t.request)
	}
	t.advance()
}

// delay lets a request be carried out later.
func (s *sim) delay(who string, r request) {
	s.logf("%s: %s %s is on its way", who, opNames[r.op], r.key)
	s.late = append(s.late, lateRequest{r, s.now + s.rnd.IntN(lateness), who})
}

// land carries out late requests: all that are due, and some before.
func (s *sim) land() {
	for i := 0; i < len(s.late); {
		if l := s.late[i]; l.at <= s.now || s.rnd.IntN(15) == 0 {
			s.late = slices.Delete(s.late, i, i+1)
			s.execute(l.who+" (late)", l.request)
		} else {
			i++
		}
	}
}

func (s *sim) execute(who string, r request) answer {
	if r.op == wait {
		return answer{code: ok, date: s.now}
	}
	s.checkEnding(r)
	a := s.carryOut(r, s.now)
	if s.keepTrace {
		s.logf("%s: %s %s %s %v = %s %v", who, opNames[r.op], r.key, r.upload, r.body, codeNames[a.code], a.body)
	}
	if a.code == ok && r.write() {
		s.checkWrite(r)
	}
	if a.code == invalidPart {
		s.violate("a part of an acknowledged chunk was replaced")
	}
	a.date -= s.rnd.IntN(2)
	return a
}

// nap lets a task do nothing for a while, as a process that sleeps between two requests.
func (t *task) nap(n int) {
	t.wakes = t.sim.now + n
	t.do(request{op: wait, until: func() bool { return true }})
}
