package uploads

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// openSessions are those that a process takes for open: it has begun them or gone on with them within
// an hour, and does not know that they have ended, which may have happened elsewhere.
type openSessions struct {
	max int // negative: no limit, and nothing is noted

	mu   sync.Mutex
	byID map[string]*list.Element
	used *list.List // of lastUse, the last first
}

type lastUse struct {
	id string
	at time.Time
}

// idleTime is how long a session counts that nobody here goes on with.
const idleTime = time.Hour

func newOpenSessions(max int) *openSessions {
	return &openSessions{max: max, byID: map[string]*list.Element{}, used: list.New()}
}

// begin notes a new session, if there may be one more.
func (o *openSessions) begin(id string) error {
	if o.max < 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for last := o.used.Back(); last != nil && now.Sub(last.Value.(lastUse).at) > idleTime; last = o.used.Back() {
		o.remove(last)
	}
	if o.used.Len() >= o.max {
		return errTooMany
	}
	o.byID[id] = o.used.PushFront(lastUse{id, now})
	return nil
}

var errTooMany = errors.Join(ociregistry.ErrTooManyRequests, errors.New("there are as many uploads as there may be"))

// use notes that somebody goes on with a session. It is never one too many: another one does not count
// then.
func (o *openSessions) use(id string) {
	if o.max < 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if place := o.byID[id]; place != nil {
		o.remove(place)
	}
	o.byID[id] = o.used.PushFront(lastUse{id, time.Now()})
	if o.used.Len() > o.max {
		o.remove(o.used.Back())
	}
}

// end notes that a session has ended.
func (o *openSessions) end(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if place := o.byID[id]; place != nil {
		o.remove(place)
	}
}

func (o *openSessions) remove(place *list.Element) {
	delete(o.byID, o.used.Remove(place).(lastUse).id)
}
