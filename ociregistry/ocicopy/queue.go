package ocicopy

import (
	"context"
	"sync"
)

// task is a part of a pass that can fail alone. It returns the tasks that it
// found, also when it fails.
type task struct {
	event   Event // what it is about
	attempt int   // from 1
	run     func(ctx context.Context, about Event) ([]task, error)
}

// queue runs tasks, and those that they find, until there are none. The last
// found is run first, which keeps the queue short.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond
	tasks  []task
	active int
}

// drain runs the tasks by workers at a time, and returns when all have ended. It
// begins none after ctx has ended.
func drain(ctx context.Context, workers int, tasks []task, run func(context.Context, task) []task) {
	q := &queue{tasks: tasks}
	q.more.L = &q.mu
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for {
				t, ok := q.next()
				if !ok {
					return
				}
				var found []task
				if ctx.Err() == nil {
					found = run(ctx, t)
				}
				q.done(found)
			}
		})
	}
	wait.Wait()
}

// next waits for a task. There is none when none is left that could find one.
func (q *queue) next() (t task, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.tasks) == 0 && q.active > 0 {
		q.more.Wait()
	}
	if len(q.tasks) == 0 {
		return task{}, false
	}
	q.active++
	last := len(q.tasks) - 1
	t = q.tasks[last]
	q.tasks = q.tasks[:last]
	return t, true
}

// done tells that what next returned is done, and found more.
func (q *queue) done(found []task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active--
	q.tasks = append(q.tasks, found...)
	q.more.Broadcast()
}
