package ociclient

import (
	"math"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
)

// progress tracks the position of an upload, and decides what to do next. It makes no
// requests: the caller reports what was sent, and what the registry answered.
//
// A success acknowledges what was sent. If its Range header disagrees, that is only a
// reason to ask the session itself: the header of some registries is stuck at the first
// chunk, counts within the chunk, or is off by one. If the session's answer cannot be
// right either, the success counts: the digest verifies the stored content in the end.
//
// The upload holds one chunk, which it can send again. Within the chunk the position moves
// back at most once. A session whose position is before the chunk is lost.
type progress struct {
	at     int64 // the position of the session, as far as is known
	unsure bool  // at is 0, and the session may have one byte
	shared bool  // others may write to the session, too
	misled bool  // the Range of a success was wrong: ignore that of later ones

	// These are about the chunk that is held.
	start, end int64
	given      int64 // the session cannot have more: the offset up to which it was read
	acked      int64 // the offset up to which a success acknowledged it
	unclear    bool  // an answer was lost: the session may have more than was acknowledged
	back       bool  // the position has moved back
	refusals   int   // consecutive refusals of the position
	why        doubt
}

// maxRefusals bounds how often in a row a registry can refuse the position and name
// another.
const maxRefusals = 8

// A step is what to do next.
type step int

const (
	stepSend    step = iota // send the chunk from the position on; nothing, if that is its end
	stepAsk                 // ask the session for its position
	stepLost                // give up: the session has lost what it had
	stepGiveUp              // give up: another writer is at the position, or it is invalid
	stepOneByte             // move the chunk to the position of the session, which is one byte further
	stepDone                // the session was committed
)

// A doubt is the reason for asking the session.
type doubt int

const (
	afterFailure doubt = iota // it is unknown what the session has taken
	afterSuccess              // its Range disagrees
	afterRefusal              // of the position
)

// An extent is the number of bytes that a session has according to a response: one of two
// numbers, which are mostly the same. The zero extent is unknown.
type extent struct {
	least, most int64
	known       bool
}

// extentIn returns the extent in the header of a response. In the specification, "0-0"
// means both no bytes and one.
func extentIn(resp *http.Response) extent {
	n, ok := wire.ParseUploadRange(resp.Header.Get("Range"))
	switch {
	case !ok || n > math.MaxInt64/2: // no blob is as large
		return extent{}
	case n == 1:
		return extent{0, 1, true}
	}
	return extent{n, n, true}
}

func (e extent) has(n int64) bool { return e.known && e.least <= n && n <= e.most }

// hold sets the chunk to send next. If it is the same as before, its state stays.
func (p *progress) hold(start, end, given int64) step {
	if start != p.start {
		p.acked, p.unclear, p.back, p.refusals = start, false, false, 0
	}
	p.start, p.end, p.given = start, end, given
	if p.at < start || p.at > given {
		return stepLost
	}
	return stepSend
}

// acknowledged handles a success after the chunk was sent to its end.
func (p *progress) acknowledged(e extent) step {
	p.at, p.unsure, p.acked, p.given = p.end, false, p.end, p.end
	if p.misled || !e.known || e.has(p.end) {
		return stepSend
	}
	p.why = afterSuccess
	return stepAsk
}

// refused handles a response that says that the session is not at the position.
func (p *progress) refused(e extent, given int64) step {
	p.given = given
	p.refusals++
	switch {
	case p.at < p.acked: // the session reported that position itself
		return p.believe(p.acked)
	case p.shared && !p.unclear && p.unsure && e.has(1):
		p.at, p.unsure = 1, false // since it is not empty
		return stepOneByte
	case p.shared && !p.unclear, p.refusals > maxRefusals:
		return stepGiveUp
	case p.move(e):
		return stepSend
	}
	p.why = afterRefusal
	return stepAsk
}

// failed handles a request whose outcome is unknown.
func (p *progress) failed(given int64) step {
	p.given, p.unclear, p.refusals = given, true, 0
	p.why = afterFailure
	return stepAsk
}

// reported handles the session's answer to a question about its position, which is the
// zero extent if it gives none.
func (p *progress) reported(e extent) step {
	behind := e.known && e.most < p.start && !p.misled
	switch p.why {
	case afterSuccess:
		if e.has(p.at) || !p.move(e) {
			return p.believe(p.at)
		}
	case afterRefusal:
		switch {
		case p.move(e):
		case behind:
			return p.lose(e)
		case p.unclear && p.given == p.end && (!p.shared || e.least <= p.given):
			return p.believe(p.end) // the request without an answer had its effect
		default:
			return stepGiveUp
		}
	case afterFailure:
		switch {
		case behind:
			return p.lose(e)
		case p.shared && e.least > p.given:
			return stepGiveUp
		case e.has(p.at):
			p.unsure = p.at < e.most
		default:
			p.move(e)
		}
	}
	return stepSend
}

// believe sets the position to what a success acknowledged, and ignores later reports
// beside successes.
func (p *progress) believe(to int64) step {
	p.at, p.unsure, p.misled = to, false, true
	return stepSend
}

// lose gives up, at the position of the session.
func (p *progress) lose(e extent) step {
	p.at, p.unsure = e.least, e.least < e.most
	return stepLost
}

// move moves to the position in a response, if that is another one within the chunk, and
// reports whether it did.
func (p *progress) move(e extent) bool {
	to := e.least
	if to == p.at {
		to = e.most
	}
	if !e.known || to == p.at || to < p.start || to > p.given || to < p.at && p.back {
		return false
	}
	p.back = p.back || to < p.at
	p.at, p.unsure = to, to < e.most
	return true
}
