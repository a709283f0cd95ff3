package ociclient_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// FuzzUpload pushes a blob, in one of several ways, to a registry whose answers depend on
// the input. If the push succeeds, the registry has the blob. If the registry only
// misreports its sessions, the push succeeds.
func FuzzUpload(f *testing.F) {
	f.Add([]byte(nil))
	for way := range uploadWays {
		for _, faults := range []fault{0, faultReport, faultPart, faultLax, faultDrop, faultStatus, faultRestart, faultPlace, faultMount, 0xff} {
			f.Add([]byte{byte(faults), byte(way), 90, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		s := &liar{input: input, sessions: make(map[string][]byte), blobs: make(map[digest.Digest]string)}
		s.allowed = fault(s.choose(256))
		way := uploadWays[s.choose(len(uploadWays))]
		blob := pattern(s.choose(100))
		clock := newClock()
		opts := ociclient.Options{
			Transport:    s,
			ChunkSize:    1 + s.choose(40),
			MaxChunkSize: 64,
			Retry:        ociclient.RetryPolicy{Attempts: 3},
		}
		if s.allowed&faultMount != 0 {
			opts.CheckBlobs, opts.MountFrom = true, []string{"bar"}
		}
		opts.SetClock(clock.Now, clock.Sleep)
		reg, err := ociclient.New("registry.test:8443", &opts)
		qt.Assert(t, qt.IsNil(err))
		err = way(reg, s, blob)
		if err == nil {
			qt.Assert(t, qt.Equals(s.blobs[digest.FromString(blob)], blob))
		}
		qt.Assert(t, qt.IsFalse(s.endless))
		if s.done&^(faultReport|faultMount) == 0 {
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", s.log.String()))
		}
	})
}

// uploadWays has the ways to push a blob. They panic if the writer is wrong.
var uploadWays = []func(reg ociregistry.Interface, s *liar, blob string) error{
	func(reg ociregistry.Interface, s *liar, blob string) error { // in chunks
		_, err := reg.PushBlob(ctx, "foo", blobDesc(blob), once(blob))
		return err
	},
	func(reg ociregistry.Interface, s *liar, blob string) error { // at once
		_, err := reg.PushBlob(ctx, "foo", blobDesc(blob), strings.NewReader(blob))
		return err
	},
	func(reg ociregistry.Interface, s *liar, blob string) error { // by a writer
		w, err := reg.PushBlobChunked(ctx, "foo", 0)
		if err != nil {
			return err
		}
		return writeBlob(w, s, blob)
	},
	func(reg ociregistry.Interface, s *liar, blob string) error { // by a writer for each part
		w, err := reg.PushBlobChunked(ctx, "foo", 0)
		if err != nil {
			return err
		}
		for rest := blob; ; {
			n := min(1+s.choose(30), len(rest))
			if n == len(rest) {
				return writeBlob(w, s, rest, blob)
			}
			if err := writeAll(w, s, rest[:n]); err != nil {
				return err
			}
			if err := w.Close(); err != nil {
				return err
			}
			rest = rest[n:]
			if w, err = reg.PushBlobChunkedResume(ctx, "foo", w.ID(), w.Size(), 0); err != nil {
				return err
			}
		}
	},
	func(reg ociregistry.Interface, s *liar, blob string) error { // through a proxy, in chunks
		return pushThrough(reg, s, blob, once(blob))
	},
	func(reg ociregistry.Interface, s *liar, blob string) error { // through a proxy, at once
		return pushThrough(reg, s, blob, strings.NewReader(blob))
	},
}

func pushThrough(reg ociregistry.Interface, s *liar, blob string, r io.Reader) error {
	s.proxied = true
	clock := newClock()
	opts := ociclient.Options{Transport: inProcess{ociserver.New(reg, nil)}, ChunkSize: 1 + s.choose(40), Retry: ociclient.RetryPolicy{Attempts: 2}}
	opts.SetClock(clock.Now, clock.Sleep)
	front, err := ociclient.New("proxy.test", &opts)
	if err != nil {
		return err
	}
	_, err = front.PushBlob(ctx, "foo", blobDesc(blob), r)
	return err
}

// inProcess is a transport to a handler.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			err = errors.New("the connection broke")
		} else if v != nil {
			panic(v)
		}
	}()
	in := req.Clone(req.Context())
	in.RequestURI = req.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	p.ServeHTTP(rec, in)
	return rec.Result(), nil
}

// writeBlob writes the rest of a blob and commits the whole.
func writeBlob(w ociregistry.BlobWriter, s *liar, parts ...string) error {
	rest, blob := parts[0], parts[len(parts)-1]
	if err := writeAll(w, s, rest); err != nil {
		return err
	}
	_, err := w.Commit(digest.FromString(blob))
	if err != nil {
		_, err = w.Commit(digest.FromString(blob)) // a Commit that failed can be repeated
	}
	w.Cancel()
	return err
}

// writeAll writes in pieces. A Write that failed stays failed.
func writeAll(w ociregistry.BlobWriter, s *liar, text string) error {
	for text != "" {
		n := min(1+s.choose(30), len(text))
		_, err := io.WriteString(w, text[:n])
		text = text[n:]
		if err == nil {
			continue
		}
		size := w.Size()
		_, again := io.WriteString(w, "x")
		_, commit := w.Commit(digest.FromString("x"))
		for _, other := range []error{again, commit, w.Close()} {
			if other == nil || errors.Is(other, ociregistry.ErrRangeInvalid) != errors.Is(err, ociregistry.ErrRangeInvalid) {
				panic(fmt.Sprintf("after the error %v, the error %v", err, other))
			}
		}
		if w.Size() != size {
			panic("a writer that failed has moved")
		}
		w.Cancel()
		return err
	}
	return nil
}

// fault is a set of the faults that a liar may have.
type fault int

const (
	faultReport  fault = 1 << iota // it misreports the size of a session
	faultPart                      // it takes only a part of a chunk, and reports success
	faultLax                       // it appends chunks that do not belong there
	faultDrop                      // it does not answer, before or after it has acted
	faultStatus                    // it refuses for no reason
	faultRestart                   // its sessions lose bytes, end, or get those of others
	faultPlace                     // it sends wrong locations of sessions
	faultMount                     // it refuses mounts and similar savings
)

// liar is a transport to a registry. Its blobs match their digests, and it does not claim to
// have others; everything else depends on the input. After the end of the input it has no
// more faults.
type liar struct {
	input    []byte
	allowed  fault
	done     fault // the faults that it has had
	sessions map[string][]byte
	blobs    map[digest.Digest]string
	requests int
	endless  bool
	proxied  bool // its client is a server, which must know the position of the session to commit
	log      strings.Builder
}

func (s *liar) choose(n int) int {
	if len(s.input) == 0 {
		return 0
	}
	b := s.input[0]
	s.input = s.input[1:]
	return int(b) % n
}

// wrong chooses whether to have a fault, in one of n ways; 0 means that it does not.
func (s *liar) wrong(f fault, n int) int {
	if s.allowed&f == 0 {
		return 0
	}
	way := s.choose(n + 3)
	if way > n {
		way = 0
	}
	if way > 0 {
		s.done |= f
	}
	return way
}

func (s *liar) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.requests++; s.requests > 1000 {
		s.endless = true
		return nil, &url.Error{Op: req.Method, Err: ociregistry.ErrDenied}
	}
	drop := s.wrong(faultDrop, 3)
	var body []byte
	if req.Body != nil {
		r := io.Reader(req.Body)
		if drop == 1 {
			r = io.LimitReader(r, int64(s.choose(20)))
		}
		var err error
		body, err = io.ReadAll(r)
		req.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	resp := &http.Response{Header: make(http.Header), Body: http.NoBody}
	switch {
	case drop == 2:
		resp.StatusCode = http.StatusBadGateway
	case s.wrong(faultStatus, 1) > 0:
		statuses := []int{400, 401, 403, 404, 405, 408, 409, 416, 429, 500, 501, 503, 200, 202, 204, 302}
		resp.StatusCode = statuses[s.choose(len(statuses))]
		if req.Method != http.MethodPatch && req.Method != http.MethodGet && resp.StatusCode < 300 {
			resp.StatusCode = 500 // it does not say that it has a blob
		}
		s.report(resp, s.choose(100), 0)
	default:
		s.restart()
		s.serve(resp, req, body)
	}
	fmt.Fprintln(&s.log, req.Method, req.URL.Path, req.Header.Get("Content-Range"), len(body), resp.StatusCode, resp.Header)
	if drop == 1 || drop == 3 {
		return nil, errors.New("the connection broke")
	}
	return resp, nil
}

// restart restarts the registry.
func (s *liar) restart() {
	way := s.wrong(faultRestart, 3)
	for id, data := range s.sessions {
		switch way {
		case 1:
			s.sessions[id] = data[:min(len(data), s.choose(100))]
		case 2:
			delete(s.sessions, id)
		case 3:
			s.sessions[id] = append(data, "others"...)
		}
	}
}

func (s *liar) serve(resp *http.Response, req *http.Request, body []byte) {
	id := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
	data, open := s.sessions[id]
	switch {
	case req.Method == http.MethodHead:
		resp.StatusCode = http.StatusNotFound
		if blob, ok := s.blobs[digest.Digest(id)]; ok {
			resp.StatusCode, resp.ContentLength = http.StatusOK, int64(len(blob))
		} else if way := s.wrong(faultMount, 3); way > 0 && s.allowed&faultMount != 0 {
			resp.StatusCode = []int{403, 500, 405}[way-1]
		}
	case req.Method == http.MethodPost:
		mount := req.URL.Query().Get("mount") != ""
		if way := s.wrong(faultMount, 4); mount && way > 0 {
			resp.StatusCode = []int{401, 403, 405, 500}[way-1]
			return
		}
		id = fmt.Sprintf("session-%d", s.requests)
		s.sessions[id] = nil
		resp.StatusCode = http.StatusAccepted
		s.place(resp, id)
	case !open:
		resp.StatusCode = http.StatusNotFound
	case req.Method == http.MethodGet:
		resp.StatusCode = http.StatusNoContent
		before := s.done
		s.done = 0
		if way := s.wrong(faultReport, 3); way > 0 {
			resp.StatusCode = []int{404, 405, 500}[way-1]
		}
		s.report(resp, len(data), 0)
		if s.proxied && s.done != 0 {
			s.done |= faultStatus
		}
		s.done |= before
	case req.Method == http.MethodDelete:
		delete(s.sessions, id)
		resp.StatusCode = http.StatusNoContent
	default: // PATCH and PUT
		start, _, ok := wire.ParseChunkRange(req.Header.Get("Content-Range"))
		if ok && start != int64(len(data)) && s.wrong(faultLax, 1) == 0 {
			resp.StatusCode = http.StatusRequestedRangeNotSatisfiable
			s.report(resp, len(data), len(body))
			return
		}
		if s.wrong(faultPart, 1) > 0 {
			body = body[:s.choose(len(body)+1)]
		}
		data = append(bytes.Clone(data), body...)
		s.sessions[id] = data
		if req.Method == http.MethodPatch {
			resp.StatusCode = []int{202, 201, 204, 200}[s.choose(4)]
			s.place(resp, id)
			s.report(resp, len(data), len(body))
			return
		}
		delete(s.sessions, id)
		want := digest.Digest(req.URL.Query().Get("digest"))
		if digest.FromBytes(data) != want {
			resp.StatusCode = http.StatusBadRequest
			resp.Body = io.NopCloser(strings.NewReader(`{"errors":[{"code":"DIGEST_INVALID"}]}`))
			return
		}
		s.blobs[want] = string(data)
		resp.StatusCode = http.StatusCreated
	}
}

// place sets the location of a session in a response.
func (s *liar) place(resp *http.Response, id string) {
	base := "https://registry.test:8443/v2/foo/blobs/uploads/"
	bases := []string{"", "http://registry.test/v2/foo/blobs/uploads/", "https://REGISTRY.test/v2/foo/blobs/uploads/", "/v2/foo/blobs/uploads/"}
	location := cmp.Or(bases[s.choose(len(bases))], base) + id
	if way := s.wrong(faultPlace, 6); way > 0 {
		location = []string{"", ":", "http://elsewhere.test/" + id, "https://elsewhere.test/" + id, base + "?" + id, "ftp:" + id}[way-1]
	}
	resp.Header.Set("Location", location)
}

// report sets the size of a session that received a chunk in a response.
func (s *liar) report(resp *http.Response, size, sent int) {
	reports := []string{
		wire.UploadRange(int64(size)),
		"", "garbage", "0-", "-1", "bytes 0-5", "0-9223372036854775807", "0-0", "0--1", "5-9",
		wire.UploadRange(int64(size) + 1), wire.UploadRange(int64(max(size-1, 0))), wire.UploadRange(int64(sent)),
		wire.UploadRange(int64(size - sent)), wire.UploadRange(math.MaxInt64 / 2), wire.UploadRange(int64(s.choose(100))),
	}
	resp.Header.Set("Range", reports[s.wrong(faultReport, len(reports)-1)])
}
