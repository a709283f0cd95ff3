// Package faultserver is a server for tests of clients: it answers by a script, or
// passes requests to a handler, and does wrong what servers and networks do wrong.
//
// A script is a list of [Rule]s. For each request, the first that matches counts.
package faultserver

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Rule says what becomes of some requests. Its first fields say of which, the
// others what. Where a rule has neither Status nor Handler, its requests are passed
// to the server's handler.
type Rule struct {
	// On is what the request has to begin with: method, path and query, as in
	// "GET /v2/foo/tags/list?n=". An asterisk stands for any characters, and a
	// dollar sign at the end for the end.
	On string

	// Header has what must be in the request's header; an empty value stands for
	// a header that must be absent.
	Header map[string]string

	// Body, if it is not empty, is the request's body.
	Body string

	// State is the state that the server must be in, if it is not empty.
	State string

	// Of the requests that match so far, First leaves out so many, Every takes
	// only each so many'th, and Times only so many. Zeros take all.
	First, Every, Times int

	// Next is the state that the server goes over to, if it is not empty.
	Next string

	// Wait is waited for, or until the client goes away, before anything is done.
	Wait <-chan struct{}

	// CutRequest breaks the connection when so many bytes of the request's body
	// have reached the handler, if it is greater than zero. There is no answer.
	CutRequest int64

	// Status, Set and Answer are the answer: its status, header and body. With a
	// handler's answer, Set adds to the header; an empty value takes away.
	// NoLength makes it one that does not tell its length.
	Status   int
	Set      map[string]string
	Answer   string
	NoLength bool

	// Handler answers in place of the server's.
	Handler http.HandlerFunc

	// Do is called for each request of the rule, before it is answered.
	Do func(*http.Request)

	// Cut breaks the connection when so many bytes of the answer's body were
	// sent. LoseAnswer breaks it in place of the answer, when all is done that the
	// request wants.
	Cut        int64
	CutAtStart bool // Cut is zero and meant
	LoseAnswer bool

	pattern *regexp.Regexp
	matched int
	used    int
}

// Request is a request that came.
type Request struct {
	Method, Path, Query string
	Header              http.Header
	Body                int64 // bytes that were read of it
}

// String returns the first line of the request.
func (r Request) String() string {
	s := r.Method + " " + r.Path
	if r.Query != "" {
		s += "?" + r.Query
	}
	return s
}

// Server is a server with a script.
type Server struct {
	*httptest.Server
	t       testing.TB
	handler http.Handler

	mu       sync.Mutex
	rules    []*Rule
	state    string
	requests []*Request
}

// New starts a server that ends with the test. What no rule answers goes to the
// handler; if that is nil, it is an error of the test.
func New(t testing.TB, handler http.Handler, rules ...Rule) *Server {
	s := NewUnstarted(t, handler, rules...)
	s.Start()
	return s
}

// NewUnstarted is New for a server whose configuration is to be changed before
// it starts.
func NewUnstarted(t testing.TB, handler http.Handler, rules ...Rule) *Server {
	s := &Server{t: t, handler: handler}
	s.Script(rules...)
	s.Server = httptest.NewUnstartedServer(s)
	t.Cleanup(func() {
		s.Server.CloseClientConnections()
		s.Server.Close()
	})
	return s
}

// Script replaces the rules, and forgets the state.
func (s *Server) Script(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules, s.state = nil, ""
	for _, r := range rules {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(r.On), `\*`, `.*`)
		pattern = strings.ReplaceAll(pattern, `\$`, `$`)
		r.pattern = regexp.MustCompile("^" + pattern)
		s.rules = append(s.rules, &r)
	}
}

// Host returns the server's host and port.
func (s *Server) Host() string { return s.Listener.Addr().String() }

// Requests returns the requests so far that an On matches.
func (s *Server) Requests(on string) []Request {
	pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(on), `\*`, `.*`))
	s.mu.Lock()
	defer s.mu.Unlock()
	var requests []Request
	for _, r := range s.requests {
		if pattern.MatchString(r.String()) {
			requests = append(requests, *r)
		}
	}
	return requests
}

// Lines returns the first lines of all requests so far, and forgets them.
func (s *Server) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, r := range s.requests {
		lines = append(lines, r.String())
	}
	s.requests = nil
	return lines
}

func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	noted := s.note(req)
	rule := s.choose(req)
	if rule == nil {
		rule = new(Rule)
		if s.handler == nil {
			s.t.Errorf("faultserver: no rule for %v", noted)
			http.Error(w, "no rule", http.StatusNotImplemented)
			return
		}
	}
	req.Body = &countedBody{req.Body, s, noted}
	s.follow(rule, w, req)
}

func (s *Server) note(req *http.Request) *Request {
	noted := &Request{Method: req.Method, Path: req.URL.EscapedPath(), Query: req.URL.RawQuery, Header: req.Header.Clone()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, noted)
	return noted
}

// choose returns the rule for a request, or nil, and goes over to its next state.
func (s *Server) choose(req *http.Request) *Rule {
	var body []byte
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rules {
		if !r.matches(req, s.state) {
			continue
		}
		if r.Body != "" {
			if body == nil {
				body, _ = io.ReadAll(req.Body)
				req.Body = io.NopCloser(bytes.NewReader(body))
			}
			if r.Body != string(body) {
				continue
			}
		}
		if r.takes() {
			s.state = cmp.Or(r.Next, s.state)
			return r
		}
	}
	return nil
}

func (r *Rule) matches(req *http.Request, state string) bool {
	line := Request{Method: req.Method, Path: req.URL.EscapedPath(), Query: req.URL.RawQuery}.String()
	if !r.pattern.MatchString(line) || r.State != "" && r.State != state {
		return false
	}
	for name, value := range r.Header {
		if req.Header.Get(name) != value {
			return false
		}
	}
	return true
}

// takes counts a request that matches, and reports whether it is one of those
// that are meant.
func (r *Rule) takes() bool {
	r.matched++
	n := r.matched - r.First
	if n <= 0 || r.Every > 0 && n%r.Every != 0 || r.Times > 0 && r.used == r.Times {
		return false
	}
	r.used++
	return true
}

// follow does what a rule says.
func (s *Server) follow(r *Rule, w http.ResponseWriter, req *http.Request) {
	if r.Wait != nil {
		select {
		case <-r.Wait:
		case <-req.Context().Done():
			panic(http.ErrAbortHandler)
		case <-s.t.Context().Done(): // the context of a request whose body is not read may not end
			panic(http.ErrAbortHandler)
		}
	}
	if r.Do != nil {
		r.Do(req)
	}
	answer := &answer{ResponseWriter: w, set: r.Set, left: -1, noLength: r.NoLength}
	if r.Cut > 0 || r.CutAtStart {
		answer.left = r.Cut
	}
	switch {
	case r.CutRequest > 0:
		req.Body = &cutRequest{req.Body, r.CutRequest}
		s.serve(r, httptest.NewRecorder(), req)
		abort(w)
	case r.LoseAnswer:
		s.serve(r, httptest.NewRecorder(), req)
		abort(w)
	default:
		s.serve(r, answer, req)
	}
}

func (s *Server) serve(r *Rule, w http.ResponseWriter, req *http.Request) {
	switch {
	case r.Handler != nil:
		r.Handler(w, req)
		return
	case r.Status == 0:
		s.handler.ServeHTTP(w, req)
		return
	}
	io.Copy(io.Discard, req.Body)
	w.WriteHeader(r.Status)
	if req.Method != http.MethodHead {
		io.WriteString(w, r.Answer)
	}
}

// abort breaks the connection: it resets it if it can.
func abort(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// answer changes the header of an answer, and cuts off its body.
type answer struct {
	http.ResponseWriter
	set      map[string]string
	left     int64 // negative for no end
	noLength bool
	begun    bool
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if !a.begun {
		a.begun = true
		for name, value := range a.set {
			if a.Header().Del(name); value != "" {
				a.Header().Set(name, value)
			}
		}
		if a.noLength {
			a.Header().Del("Content-Length")
		}
	}
	a.ResponseWriter.WriteHeader(status)
	if a.noLength {
		http.NewResponseController(a.ResponseWriter).Flush()
	}
}

func (a *answer) Write(p []byte) (int, error) {
	if !a.begun {
		a.WriteHeader(http.StatusOK)
	}
	if a.left < 0 {
		return a.ResponseWriter.Write(p)
	}
	n, err := a.ResponseWriter.Write(p[:min(int64(len(p)), a.left)])
	if a.left -= int64(n); a.left > 0 && err == nil {
		return n, nil
	}
	http.NewResponseController(a.ResponseWriter).Flush()
	panic(http.ErrAbortHandler) // what was flushed reaches the client; a reset could overtake it
}

// cutRequest is a request's body that breaks off.
type cutRequest struct {
	io.ReadCloser
	left int64
}

func (b *cutRequest) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

type countedBody struct {
	io.ReadCloser
	s     *Server
	noted *Request
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.noted.Body += int64(n)
	return n, err
}
