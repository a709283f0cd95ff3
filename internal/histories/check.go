package histories

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// fixedRepo is a repository that nobody changes while a history is made.
const fixedRepo = "fixed"

// violation is a history, of one repository, that is not linearizable.
type violation struct {
	repo   string
	result porcupine.CheckResult // Unknown if there were too many orders to try
	events []*Event
}

// maxSteps bounds the search for an order of what one repository went through. Steps are counted, and not time, so
// that the speed of the machine has no say in what is found. Most searches take some hundred, few ten thousand.
const maxSteps = 2_000_000

// check looks for repositories whose part of a history is not linearizable, or cannot be found to be within maxSteps.
func check(events []*Event) (violations []*violation) {
	for _, repo := range newHistory(events).repos {
		if v := checkRepo(repo, concerning(repo, events), maxSteps); v != nil {
			violations = append(violations, v)
		}
	}
	return violations
}

// checkRepo returns nil if what a repository went through is linearizable.
func checkRepo(repo string, events []*Event, steps int) *violation {
	bounded := model
	bounded.StepContext = func(ctx context.Context, states, input, output any) (bool, any) {
		if steps -= len(states.([]any)); steps < 0 {
			return false, nil // and so the search ends soon
		}
		return model.StepContext(ctx, states, input, output)
	}
	ok := porcupine.CheckOperations(bounded, operations(repo, events))
	switch {
	case ok:
		return nil
	case steps < 0:
		return &violation{repo: repo, result: porcupine.Unknown, events: events}
	}
	return &violation{repo: repo, result: porcupine.Illegal, events: events}
}

// model is of one repository. It begins empty.
var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{state{}} },
	Step: func(s, input, _ any) (all []any) {
		for _, next := range input.(stepper).step(s.(state)) {
			all = append(all, next)
		}
		return all
	},
	Hash:              func(s any) uint64 { return maphash.Comparable(stateSeed, s.(state)) },
	DescribeOperation: func(input, _ any) string { return fmt.Sprint(input) },
	DescribeState: func(s any) string {
		st := s.(state)
		return st.String()
	},
}).ToModel()

// stepper is what porcupine takes for an operation.
type stepper interface{ step(s state) []state }

var stateSeed = maphash.MakeSeed()

// concerning returns the events that have to do with a repository.
func concerning(repo string, events []*Event) []*Event {
	return slices.DeleteFunc(slices.Clone(events), func(ev *Event) bool {
		return ev.Repository != repo && ev.Repository != "" && (ev.Do != mountBlob || ev.From != repo)
	})
}

// The time for what is only for people.
const (
	shrinkTime = 20 * time.Second
	oneTime    = 2 * time.Second // for one attempt to shorten, and for a page
)

// shrink makes a history that is not linearizable shorter, for people: what began
// after the first contradiction goes, and then what changes nothing and is not part
// of it.
func (v *violation) shrink() []*Event {
	end := time.Now().Add(shrinkTime)
	illegal := func(events []*Event) bool {
		return time.Now().Before(end) && porcupine.CheckOperationsTimeout(model, operations(v.repo, events), oneTime) == porcupine.Illegal
	}
	events := slices.Clone(v.events)
	slices.SortStableFunc(events, func(a, b *Event) int { return cmp.Compare(a.Return, b.Return) })
	n := sort.Search(len(events), func(n int) bool { return illegal(before(events, events[n].Return)) })
	if n < len(events) {
		events = before(events, events[n].Return)
	}
	for i := len(events) - 1; i >= 0; i-- {
		without := slices.Delete(slices.Clone(events), i, i+1)
		if (events[i].reads() || refused(events[i])) && illegal(without) {
			events = without
		}
	}
	return events
}

// refused reports whether an operation was certainly not done.
func refused(ev *Event) bool { return ev.Status >= 400 && ev.Do != sendChunk && ev.Do != commitUpload }

// before returns what is known of a history at a time.
func before(events []*Event, t time.Duration) (known []*Event) {
	for _, ev := range events {
		switch {
		case ev.Call > t:
		case ev.Return > t:
			pending := *ev
			pending.Outcome = Outcome{Size: -1}
			known = append(known, &pending)
		default:
			known = append(known, ev)
		}
	}
	return known
}

// save writes what is wrong to files in a directory, as a page to look at and as
// text, and returns a report.
func (v *violation) save(dir string) (string, error) {
	base := filepath.Join(dir, v.repo)
	text, err := os.Create(base + ".jsonl")
	if err != nil {
		return "", err
	}
	defer text.Close()
	if err := writeHistory(text, v.events); err != nil {
		return "", err
	}
	what, events := "there are too many orders to find out whether this is linearizable", v.events
	if v.result == porcupine.Illegal {
		what, events = "this is not linearizable", v.shrink()
	}
	_, info := porcupine.CheckOperationsVerbose(model, plainOperations(v.repo, events), oneTime)
	if err := porcupine.VisualizePath(model, info, base+".html"); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "repository %s: %s:\n", v.repo, what)
	for _, ev := range events {
		fmt.Fprintf(&b, "\t%v\n", ev)
	}
	fmt.Fprintf(&b, "see %s.html; to check it again: OCI_HISTORIES_REPLAY=%[1]s.jsonl go test -C internal/histories -run TestReplay", base)
	return b.String(), nil
}
