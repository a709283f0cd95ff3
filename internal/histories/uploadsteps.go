package histories

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
)

// sessionKey names an upload session: its repository, and its number there.
type sessionKey struct {
	repo   string
	number int
}

// uploadSteps returns the steps of an operation on an upload session.
func uploadSteps(ev *Event, sizes []int64) []step {
	if ev.Do == openUpload {
		return openSteps(ev)
	}
	steps := appendSteps(ev, sizes)
	if ev.Code == "RANGE_INVALID" || ev.Code == "BLOB_UPLOAD_UNKNOWN" || ev.Code == "BLOB_UPLOAD_INVALID" {
		return append(steps, refusalSteps(ev)...)
	}
	return ev.mayBeAlone(append(steps, endSteps(ev)...))
}

// mayBeAlone adds to the steps of a commit that brings all of the content that it may
// find its session without bytes, and from then on be a matter of its process alone: what
// comes of the session elsewhere meanwhile, it does not know.
func (ev *Event) mayBeAlone(steps []step) []step {
	if ev.Do != commitUpload || ev.Piece == nil || ev.Offset > 0 || len(steps) < 2 {
		return steps
	}
	id := string(binary.BigEndian.AppendUint64([]byte{byte(ev.Client)}, uint64(ev.Call)))
	last := len(steps) - 1
	for i, st := range steps {
		if st.next == nil {
			continue
		}
		steps[i].next = func(s state) []state {
			u := &s.sessions[ev.Session-1]
			switch alone := strings.Contains(s.alone, id); {
			case alone && i == last:
				return ev.commitAlone(s, id)
			case alone:
				return []state{s}
			case i == 0 && u.phase == open && u.content == "":
				begun := s
				begun.alone += id
				return append(st.next(s), begun)
			}
			return st.next(s)
		}
	}
	return steps
}

// commitAlone returns what there may be after a commit of one process alone, which ends
// the session unless others have it.
func (ev *Event) commitAlone(s state, id string) []state {
	s.alone = strings.Replace(s.alone, id, "", 1)
	without := s
	if u := &s.sessions[ev.Session-1]; u.phase == open && u.content == "" {
		u.phase = ended
	}
	switch {
	case ev.Code == "DIGEST_INVALID":
		return []state{s}
	case contentOf(ev.Blob) != encodePiece(*ev.Piece):
		if ev.unknown() {
			return []state{without, s}
		}
		return nil
	}
	s.blobs |= blobBit(ev.Blob)
	if ev.unknown() {
		return []state{without, s}
	}
	return []state{s}
}

// besideOthers adds to the steps of a commit what others may see of it. Who is told meanwhile that it has begun,
// is told of a moment between. Of several commits at once, all may succeed: each makes sure that the blob is there.
func (h *history) besideOthers(ev *Event, steps []step) []step {
	if ev.Do != commitUpload || len(steps) == 0 || !ev.unknown() && ev.Status != http.StatusCreated {
		return steps
	}
	last := steps[len(steps)-1]
	if h.hasBeside(ev, func(other *Event) bool { return other.Do == commitUpload && other.Status == http.StatusCreated }) {
		once := last.next
		last.next = func(s state) []state {
			states := once(s)
			if u := &s.sessions[ev.Session-1]; u.phase == ended && u.content == contentOf(ev.Blob) {
				s.blobs |= blobBit(ev.Blob)
				states = append(states, s)
			}
			return states
		}
		steps[len(steps)-1] = last
	}
	if h.hasBeside(ev, func(other *Event) bool { return other.Code == "BLOB_UPLOAD_INVALID" }) {
		seal := changeSession("seal", ev.Session, func(u *session) bool {
			if u.phase != open || u.content != contentOf(ev.Blob) {
				return false
			}
			u.phase = sealed
			return true
		})
		steps = append(steps[:len(steps)-1], seal.orNot(), last)
	}
	return steps
}

// hasBeside reports whether an operation on the session of ev that goes on at the same time is of a kind.
func (h *history) hasBeside(ev *Event, is func(*Event) bool) bool {
	return slices.ContainsFunc(h.events, func(other *Event) bool {
		return other != ev && other.Repository == ev.Repository && other.Session == ev.Session &&
			other.Call < ev.Return && ev.Call < other.Return && is(other)
	})
}

func openSteps(ev *Event) []step {
	switch {
	case ev.unknown():
		return nil // nobody knows its id
	case ev.Status != http.StatusAccepted:
		return []step{impossible(ev)}
	case ev.Session == 0:
		return nil // its client did not keep it
	}
	return []step{change("open", func(s *state) bool {
		s.sessions[ev.Session-1].phase = open
		return true
	})}
}

// appendSteps returns the steps in which a chunk is added, if one is sent. It may be
// added in pieces, and somebody may see the sizes between. If it was not accepted, a
// part of it may be there.
func appendSteps(ev *Event, sizes []int64) (steps []step) {
	if ev.Piece == nil {
		return nil
	}
	p, at := *ev.Piece, ev.Offset
	switch {
	case at >= 0:
	case ev.Do == sendChunk && ev.Status == http.StatusAccepted:
		at = ev.Size - p.size()
	case ev.Do == commitUpload && ev.Status == http.StatusCreated:
		at = sizeOf(contentOf(ev.Blob)) - p.size()
	}
	certain := ev.isSuccess() || ev.Code == "DIGEST_INVALID"
	if at < 0 && !certain {
		return []step{{what: "perhaps append", next: partial{ev.Session, p, ev.Do == sendChunk, sizes}.next}}
	}
	cuts := []int64{p.size()} // of the piece, after each step
	for _, size := range sizes {
		if cut := size - at; at >= 0 && 0 < cut && cut < p.size() {
			cuts = append(cuts, cut)
		}
	}
	slices.Sort(cuts)
	from := int64(0)
	for _, to := range slices.Compact(cuts) {
		a := addition{piece{p.Chunk, p.From + from, p.From + to}, -1, from > 0, ev.Do == sendChunk}
		if at >= 0 {
			a.at = at + from
		}
		st := changeSession("append "+a.String(), ev.Session, a.add)
		switch {
		case certain:
			steps = append(steps, st)
		case ev.unknown() || ev.Do == commitUpload || to < p.size():
			steps = append(steps, st.orNot())
		}
		from = to
	}
	return steps
}

// partial is a chunk without an offset that may have been added, or the beginning of
// it: up to a size that somebody saw.
type partial struct {
	session int
	piece   piece
	kept    bool // as in an addition
	sizes   []int64
}

func (p partial) next(s state) []state {
	states := []state{s}
	u := s.sessions[p.session-1]
	if u.phase != open {
		return states
	}
	have := sizeOf(u.content)
	cuts := []int64{p.piece.size()}
	for _, size := range p.sizes {
		if cut := size - have; 0 < cut && cut < p.piece.size() {
			cuts = append(cuts, cut)
		}
	}
	for _, cut := range cuts {
		next := s
		a := addition{piece{p.piece.Chunk, p.piece.From, p.piece.From + cut}, -1, false, p.kept}
		a.add(&next.sessions[p.session-1])
		states = append(states, next)
	}
	return states
}

// addition is a step of adding a chunk.
type addition struct {
	piece
	at        int64 // -1 if it is not known
	continues bool  // it follows another step of the same chunk
	kept      bool  // the session is asked for again
}

func (a addition) add(u *session) bool {
	if u.phase != open || a.at >= 0 && sizeOf(u.content) != a.at {
		return false
	}
	if _, last, ok := lastPiece(u.content); a.continues && (!ok || last.Chunk != a.Chunk || last.To != a.From) {
		return false
	}
	u.content = appendPiece(u.content, a.piece)
	u.kept = u.kept || a.kept
	return true
}

// refusalSteps returns the steps of a request to a session that was refused.
func refusalSteps(ev *Event) (steps []step) {
	switch ev.Code {
	case "BLOB_UPLOAD_UNKNOWN":
		return []step{requireSession("it has ended", ev.Session, func(u *session) bool { return u.phase == ended })}
	case "BLOB_UPLOAD_INVALID":
		steps = append(steps, requireSession("it can only be committed", ev.Session, func(u *session) bool { return u.phase == sealed }))
	case "RANGE_INVALID":
		steps = append(steps, requireSession("it is elsewhere", ev.Session, func(u *session) bool {
			// One that sends no offset is refused when the session moves on meanwhile.
			return u.isOpen() && (ev.Offset < 0 || sizeOf(u.content) != ev.Offset)
		}))
	}
	if ev.Size >= 0 { // the answer to another question
		steps = append(steps, sizeStep(ev))
	}
	return steps
}

func (u *session) isOpen() bool { return u.phase == open || u.phase == sealed }

func sizeStep(ev *Event) step {
	return requireSession("its size", ev.Session, func(u *session) bool { return u.isOpen() && sizeOf(u.content) == ev.Size })
}

// endSteps returns the steps of a request after what it adds.
func endSteps(ev *Event) []step {
	switch {
	case ev.Do == sendChunk && ev.unknown():
		return nil
	case ev.Do == sendChunk && ev.Status == http.StatusAccepted && (ev.Offset < 0 || ev.Size == ev.Offset+ev.Piece.size()):
		return nil
	case ev.Do == askUpload && ev.Status == http.StatusNoContent:
		return []step{sizeStep(ev)}
	case ev.Do == cancelUpload && (ev.unknown() || ev.Status == http.StatusNoContent):
		return cancelSteps(ev)
	case ev.Do == commitUpload && ev.unknown():
		return []step{{what: "perhaps commit", next: cutCommit(ev)}}
	case ev.Do == commitUpload && ev.Status == http.StatusCreated:
		return []step{commitStep(ev)}
	case ev.Do == commitUpload && ev.Code == "DIGEST_INVALID":
		return []step{changeSession("it is another blob", ev.Session, func(u *session) bool {
			if !u.isOpen() || u.content == contentOf(ev.Blob) {
				return false
			}
			u.phase = ended
			return true
		})}
	}
	return []step{impossible(ev)}
}

// cancelSteps returns the steps of a cancellation. First the session is found, and
// when it ends, somebody else may have ended it already.
func cancelSteps(ev *Event) []step {
	end := changeSession("end", ev.Session, func(u *session) bool {
		if u.phase == never {
			return false
		}
		u.phase = ended
		return true
	})
	if ev.unknown() {
		return []step{end.orNot()}
	}
	return []step{requireSession("it is open", ev.Session, func(u *session) bool { return u.isOpen() }), end}
}

func commitStep(ev *Event) step {
	return change("commit", func(s *state) bool {
		u := &s.sessions[ev.Session-1]
		if !u.vague() {
			if !u.isOpen() || u.content != contentOf(ev.Blob) {
				return false
			}
			u.phase = ended
		}
		s.blobs |= blobBit(ev.Blob)
		return true
	})
}

// cutCommit returns what there may be after a commit of which nothing was heard.
// The session may outlive the blob that it became: it can be committed again.
func cutCommit(ev *Event) func(s state) []state {
	return func(s state) []state {
		u := s.sessions[ev.Session-1]
		with := func(p phase, blobs uint16) state {
			next := s
			next.sessions[ev.Session-1].phase = p
			next.blobs |= blobs
			return next
		}
		b := blobBit(ev.Blob)
		switch {
		case u.vague():
			return []state{s, with(ended, b)}
		case !u.isOpen():
			return []state{s}
		case u.content != contentOf(ev.Blob):
			return []state{s, with(ended, 0)}
		}
		return []state{s, with(sealed, 0), with(ended, b), with(sealed, b)}
	}
}

// mountSteps returns the steps of a mount in the repository that is to have the
// blob.
func mountSteps(ev *Event) []step {
	fixed := (ev.From == fixedRepo || ev.From == "") && slices.Contains(fixedBlobs, ev.Blob)
	switch {
	case ev.unknown():
		return []step{addBlob(ev.Blob).orNot()}
	case ev.Status == http.StatusCreated:
		return []step{addBlob(ev.Blob)}
	case ev.Status == http.StatusAccepted && !fixed:
		return openSteps(ev)
	}
	return []step{impossible(ev)}
}
