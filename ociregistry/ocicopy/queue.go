package ocicopy

import (
	"context"
	"sync"
)

// task is a part of a pass that can fail without affecting others. Its run function
// returns the tasks that it found, even if it fails.
type task struct {
	event   Event // what it is about
	attempt int   // starts at 1
	run     func(ctx context.Context, about Event) ([]task, error)
}

// queue runs tasks, and the tasks that they find, until there are none. It runs the
// task that was found last first, which keeps the queue short.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond
	tasks  []task
	active int
}

// drain runs tasks with the given number of workers, and returns when all have ended. It
// starts no task after the end of ctx.
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

// next waits for a task. It returns false if there is none, and no task is running that
// could find one.
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

// done notes that a task is done, which next returned, and has found more.
func (q *queue) done(found []task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active--
	q.tasks = append(q.tasks, found...)
	q.more.Broadcast()
}
