package histories

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// sessions is what the clients of a round know of upload sessions. It is of use
// only to ask for what makes sense: it may be wrong.
type sessions struct {
	mu    sync.Mutex
	known map[sessionKey]*knownSession
	count map[string]int // by repository
}

type knownSession struct {
	location string
	content  string // as in a state
	sent     *piece // that may be there, or a part of it
}

func newSessions() *sessions {
	return &sessions{known: make(map[sessionKey]*knownSession), count: make(map[string]int)}
}

func (s *sessions) location(key sessionKey) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[key].location
}

// heard takes note of an answer, and returns the size that it tells, or -1. For a
// new session it sets the operation's number, if there is room for one.
func (s *sessions) heard(op *Op, a answer) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	location := a.Header.Get("Location")
	if (op.Do == openUpload || op.Do == mountBlob) && a.StatusCode == http.StatusAccepted && s.count[op.Repository] < maxSessions {
		s.count[op.Repository]++
		op.Session = s.count[op.Repository]
		s.known[sessionKey{op.Repository, op.Session}] = &knownSession{location: location}
		return -1
	}
	size := sizeIn(a.Header)
	known := s.known[sessionKey{op.Repository, op.Session}]
	if known == nil || size < 0 {
		return -1
	}
	if location != "" {
		known.location = location
	}
	known.note(op, size)
	return size
}

// sizeIn returns the size of a session that a Range header tells, or -1. "0-0" is
// what one that is empty has: no client here sends a single byte.
func sizeIn(h http.Header) int64 {
	_, end, ok := strings.Cut(h.Get("Range"), "-")
	n, err := strconv.ParseInt(end, 10, 64)
	switch {
	case !ok || err != nil:
		return -1
	case n == 0:
		return 0
	}
	return n + 1
}

// note takes over the size of a session.
func (k *knownSession) note(op *Op, size int64) {
	have := sizeOf(k.content)
	for _, p := range []*piece{op.Piece, k.sent} {
		if p != nil && have < size && size <= have+p.size() {
			k.content = appendPiece(k.content, piece{p.Chunk, p.From, p.From + size - have})
			k.sent = nil
			return
		}
	}
	for have > size { // not as it was thought
		before, last, _ := lastPiece(k.content)
		k.content = before
		if have -= last.size(); have < size {
			k.content = appendPiece(before, piece{last.Chunk, last.From, last.From + size - have})
		}
	}
}

// lost takes note of a request of which nothing was heard.
func (s *sessions) lost(op *Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.known[sessionKey{op.Repository, op.Session}]; known != nil && op.Piece != nil {
		known.sent = op.Piece
	}
}

// pick chooses a session of a repository, and returns its number and what it is
// thought to have. The number is 0 if there is none.
func (s *sessions) pick(g *rand.Rand, repo string) (content string, number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[repo] == 0 {
		return "", 0
	}
	n := 1 + g.IntN(s.count[repo])
	return s.known[sessionKey{repo, n}].content, n
}

// numbers returns how many sessions a repository has.
func (s *sessions) numbers(repo string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[repo]
}
