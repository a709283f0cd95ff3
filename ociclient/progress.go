package ociclient

import (
	"math"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
)

// progress is how far an upload has come, and decides what to do next. It makes no
// requests: it is told what was sent and what came back.
//
// A success acknowledges what was sent. A Range header beside it that says
// otherwise is only a reason to ask the session itself; registries are in use
// whose header is stuck at the first chunk, counts within the chunk, or is off by
// one. If the session's answer cannot be right either, the success counts: what
// was stored is checked by the digest in the end.
//
// What is held, and may be sent again, is one chunk. Within it the position moves
// back once at most. A session that is behind it is lost.
type progress struct {
	at     int64 // where the session goes on, as far as is known
	unsure bool  // at is 0, and the session may have one byte
	shared bool  // others may write to the session as well
	misled bool  // a Range beside a success was wrong: the others are not looked at

	// Of what is held:
	start, end int64
	given      int64 // nobody can have more of it
	acked      int64 // up to where a success has acknowledged it
	unclear    bool  // an answer was lost: the session may have more than was acknowledged
	back       bool  // the position has moved back
	refusals   int   // how often in a row the position was refused
	why        doubt
}

// maxRefusals is how often in a row a registry can refuse the position and name
// another.
const maxRefusals = 8

// step is what to do next.
type step int

const (
	stepSend    step = iota // send what is held from the position on; nothing, if that is its end
	stepAsk                 // ask the session where it is
	stepLost                // give up: the session has not kept what it had
	stepGiveUp              // give up: the position is somebody else's, or none
	stepOneByte             // put what is held where the session is, which is one byte further
	stepDone                // the session has ended well
)

// doubt is why the session was asked.
type doubt int

const (
	afterFailure doubt = iota // which leaves open what the session has taken
	afterSuccess              // whose Range says otherwise
	afterRefusal              // of the position
)

// extent is what an answer says of how many bytes a session has: one of two
// numbers, which are mostly the same. The zero extent says nothing.
type extent struct {
	least, most int64
	known       bool
}

// extentIn returns what the header of an answer says. The specification has one
// way to say that there are no bytes and that there is one: "0-0".
func extentIn(resp *http.Response) extent {
	n, ok := wire.ParseUploadRange(resp.Header.Get("Range"))
	switch {
	case !ok || n > math.MaxInt64/2: // nobody has as much
		return extent{}
	case n == 1:
		return extent{0, 1, true}
	}
	return extent{n, n, true}
}

func (e extent) has(n int64) bool { return e.known && e.least <= n && n <= e.most }

// begin takes what is to be sent next. What is known of it stays, if it was begun
// before.
func (p *progress) begin(start, end, given int64) step {
	if start != p.start {
		p.acked, p.unclear, p.back, p.refusals = start, false, false, 0
	}
	p.start, p.end, p.given = start, end, given
	if p.at < start || p.at > given {
		return stepLost
	}
	return stepSend
}

// acknowledged is for a success after what is held was sent to its end.
func (p *progress) acknowledged(e extent) step {
	p.at, p.unsure, p.acked, p.given = p.end, false, p.end, p.end
	if p.misled || !e.known || e.has(p.end) {
		return stepSend
	}
	p.why = afterSuccess
	return stepAsk
}

// refused is for the answer that the session is not at the position.
func (p *progress) refused(e extent, given int64) step {
	p.given = given
	p.refusals++
	switch {
	case p.at < p.acked: // the session said that it was there
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

// failed is for a request of which no answer tells what became of it.
func (p *progress) failed(given int64) step {
	p.given, p.unclear, p.refusals = given, true, 0
	p.why = afterFailure
	return stepAsk
}

// told takes what the session says when it is asked; the zero extent if it does
// not.
func (p *progress) told(e extent) step {
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
			return p.believe(p.end) // what had no answer was taken after all
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

// believe goes on behind what was sent, whatever the session says of it.
func (p *progress) believe(to int64) step {
	p.at, p.unsure, p.misled = to, false, true
	return stepSend
}

// lose gives up at the place where the session is.
func (p *progress) lose(e extent) step {
	p.at, p.unsure = e.least, e.least < e.most
	return stepLost
}

// move goes where an answer says, if that is another place in what is held, and
// reports whether it is.
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
