package ociclient

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestProgress reports events to a progress, and checks what it does then. The chunk is
// bytes 10 to 20 of an upload that is not shared, unless a line says otherwise:
//
//	shared       others may write to the session
//	all          the chunk is the first 20 bytes
//	202 EXTENT   a success, with its Range
//	416 EXTENT   a refusal
//	fail         no answer, or 5xx
//	get EXTENT   the session's answer
//
// An EXTENT is a number of bytes, "few" for none or one, or "-" for nothing.
func TestProgress(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, script, want string }{
		{"nothing", "", "send 10"},
		{"taken", "202 20", "send 20"},
		{"taken, and nothing said", "202 -", "send 20"},
		{"taken, says the session", "202 10, get 20", "send 20"},
		{"stuck", "202 10, get -", "send 20"},
		{"stuck, and no more asked", "202 10, get -, next, 202 10", "send 30"},
		{"ahead", "202 21, get 20", "send 20"},
		{"ahead, says the session too", "202 21, get 21", "send 20"},
		{"behind the chunk", "202 5", "ask 20"},
		{"behind the chunk, says the session too", "202 5, get 5", "send 20"},
		{"none or one", "202 few, get -", "send 20"},

		{"a part taken", "202 15, get 15", "send 15"},
		{"a part taken, says only the session", "202 12, get 15", "send 15"},
		{"a part taken, and the rest", "202 15, get 15, 202 20", "send 20"},
		{"a part taken, twice", "202 15, get 15, 202 18, get 18", "send 20"},
		{"a part not taken", "202 10, get 10, 416 10", "send 20"},
		{"a part not taken, and no more asked", "202 10, get 10, 416 -, next, 202 10", "send 30"},
		{"of a part, the answer is lost", "202 15, get 15, fail, get 17", "send 17"},

		{"elsewhere", "416 15", "send 15"},
		{"elsewhere, twice", "416 15, 416 18", "send 18"},
		{"elsewhere, and back", "416 15, 416 10", "send 10"},
		{"elsewhere, and back, and nowhere", "416 15, 416 10, 416 10, get 10", "give up 10"},
		{"elsewhere, to and fro", "416 15, 416 10, 416 15, 416 10, get 10", "give up 15"},
		{"elsewhere, and the session knows", "416 -, get 15", "send 15"},
		{"elsewhere, and nobody knows", "416 -, get -", "give up 10"},
		{"elsewhere, where it is", "416 10, get 10", "give up 10"},
		{"elsewhere, ahead", "416 21, get 21", "give up 10"},
		{"elsewhere, behind the chunk", "416 5, get 5", "lost 5"},
		{"elsewhere, says only the header", "416 5, get 12", "send 12"},
		{"elsewhere, with none or one", "416 few, get few", "lost 0"},

		{"an answer lost", "fail", "ask 10"},
		{"an answer lost, nothing done", "fail, get 10", "send 10"},
		{"an answer lost, a part done", "fail, get 13", "send 13"},
		{"an answer lost, all done", "fail, get 20", "send 20"},
		{"an answer lost, and nothing known", "fail, get -", "send 10"},
		{"an answer lost, and nothing known, but done", "fail, get -, 416 -, get -", "send 20"},
		{"an answer lost, and stuck", "fail, get 10, 416 10, get 10", "send 20"},
		{"an answer lost, and ahead", "fail, get 21, 416 21, get 21", "send 20"},
		{"an answer lost, with the session's content", "fail, get 5", "lost 5"},
		{"an answer lost, with all", "fail, get 0", "lost 0"},
		{"an answer lost, of a registry that misleads", "202 5, get 5, next, fail, get 5, 416 5, get 5", "send 30"},
		{"back and on", "fail, get 15, fail, get 12, fail, get 18, fail, get 11", "send 18"},

		{"few", "all, fail, get few", "send 0"},
		{"few, which is none", "all, fail, get few, 202 20", "send 20"},
		{"few, which is one", "all, fail, get few, 416 few", "send 1"},
		{"few, of which none came", "all, 202 few, get few, 416 few", "send 20"},

		{"another's place", "shared, 416 15", "give up 10"},
		{"another's place, and nothing said", "shared, 416 -", "give up 10"},
		{"perhaps another's place", "shared, fail, get 15", "send 15"},
		{"surely another's place", "shared, fail, get 21", "give up 10"},
		{"another's place, later", "shared, fail, get 10, 416 -, get 21", "give up 10"},
		{"a place that was one's own", "shared, 202 15, get 15, 416 30", "send 20"},
		{"behind another, who has written more", "shared, 202 30, get 30, next, 416 30", "give up 20"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := progress{at: 10}
			next := p.hold(10, 20, 20)
			for _, event := range strings.Split(test.script, ", ") {
				next = tell(&p, next, event)
			}
			names := [...]string{"send", "ask", "lost", "give up", "one byte"}
			qt.Assert(t, qt.Equals(fmt.Sprint(names[next], " ", p.at), test.want))
		})
	}
}

// tell reports an event in the notation of TestProgress to p.
func tell(p *progress, next step, event string) step {
	word, value, _ := strings.Cut(event, " ")
	var e extent
	switch n, err := strconv.ParseInt(value, 10, 64); {
	case value == "few":
		e = extent{0, 1, true}
	case err == nil:
		e = extent{n, n, true}
	}
	switch word {
	case "shared":
		p.shared = true
	case "all":
		*p = progress{}
		next = p.hold(0, 20, 20)
	case "next":
		next = p.hold(p.end, p.end+10, p.end+10)
	case "202":
		next = p.acknowledged(e)
	case "416":
		next = p.refused(e, p.end)
	case "fail":
		next = p.failed(p.end)
	case "get":
		next = p.reported(e)
	}
	return next
}

// A writer that was resumed at no bytes or one, and learns that the session is not empty,
// continues after the first byte.
func TestProgressTellsOneByteFromNone(t *testing.T) {
	t.Parallel()
	p := progress{shared: true, unsure: true}
	qt.Assert(t, qt.Equals(p.hold(0, 10, 10), stepSend))
	qt.Assert(t, qt.Equals(p.refused(extent{0, 1, true}, 10), stepOneByte))
	qt.Assert(t, qt.Equals(p.hold(1, 11, 11), stepSend))
	qt.Assert(t, qt.Equals(p.at, 1))
}

// A session whose position is outside the chunk is lost.
func TestProgressDoesNotBeginElsewhere(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{0, 9, 21, 1 << 40} {
		p := progress{at: at}
		qt.Assert(t, qt.Equals(p.hold(10, 20, 20), stepLost))
	}
}

// Whatever the events, the position stays within the chunk and moves back at most once, and
// futile requests end.
func TestProgressStaysInBoundsAndEnds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := progress{at: 10, shared: r.IntN(2) == 0, unsure: r.IntN(2) == 0}
		next, given, back, refused := p.hold(10, 20, 10), int64(10), 0, 0
		for range 50 {
			before := p.at
			e := extent{}
			if n := r.Int64N(25); n > 0 {
				e = extent{n - 1, n - 1 + r.Int64N(2), true}
			}
			switch {
			case next == stepAsk:
				next = p.reported(e)
			default:
				given += r.Int64N(p.end - given + 1)
				switch r.IntN(3) {
				case 0:
					next, given, refused = p.acknowledged(e), p.end, 0
				case 1:
					next, refused = p.refused(e, given), refused+1
				case 2:
					next, refused = p.failed(given), 0
				}
			}
			if next == stepLost || next == stepGiveUp || next == stepOneByte {
				break
			}
			if p.at < before {
				back++
			}
			qt.Assert(t, qt.IsTrue(p.start <= p.at && p.at <= given), qt.Commentf("seed %d: at %d", seed, p.at))
			qt.Assert(t, qt.IsTrue(back <= 1 && refused <= maxRefusals), qt.Commentf("seed %d", seed))
		}
	}
}
