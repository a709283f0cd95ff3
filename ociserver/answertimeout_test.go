package ociserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/internal/pipes"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// unsized is a registry whose blobs are of unknown size, and can only be read.
func unsized(r ociregistry.Interface) ociregistry.Interface {
	return &ociregistry.Funcs{
		GetBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			b, err := r.GetBlob(ctx, repo, d)
			if err != nil {
				return nil, err
			}
			return plainReader{b}, nil
		},
	}
}

type plainReader struct{ r ociregistry.BlobReader }

func (r plainReader) Read(p []byte) (int, error) { return r.r.Read(p) }
func (r plainReader) Close() error               { return r.r.Close() }
func (r plainReader) Descriptor() ociregistry.Descriptor {
	desc := r.r.Descriptor()
	desc.Size = -1
	return desc
}

// answerSizes are sizes of blobs: one that fits into buffers, one that fits into one piece,
// and one that fits neither into a piece nor into the flow control window of HTTP/2.
var answerSizes = []int{100, 50_000, 6_000_000}

// withBlobs returns a registry in memory with blobs of answerSizes, and their paths.
func withBlobs(t *testing.T) (*ocimem.Registry, []string) {
	r := ocimem.New()
	var paths []string
	for _, size := range answerSizes {
		content := strings.Repeat("x", size)
		d := digest.FromString(content)
		_, err := r.PushBlob(t.Context(), "foo", ociregistry.Descriptor{Digest: d, Size: int64(size)}, strings.NewReader(content))
		qt.Assert(t, qt.IsNil(err))
		paths = append(paths, "/v2/foo/blobs/"+string(d))
	}
	return r, paths
}

// TestAnswersThatNobodyReadsEnd reads a little of an answer, and then stops.
func TestAnswersThatNobodyReadsEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		timeout time.Duration
		whole   time.Duration // the server's own
		want    time.Duration
	}{
		{"default", 0, 0, 5 * time.Minute},
		{"option", time.Minute, 0, time.Minute},
		{"server", time.Minute, 10 * time.Second, 10 * time.Second},
		{"server without option", -1, 10 * time.Second, 10 * time.Second},
	}
	requests := func(paths []string) []string {
		all := []string{"GET /v2/", "GET /v2/_catalog", "GET /v2/nothing", "PUT /v2/foo/manifests/x"}
		for _, path := range paths {
			all = append(all, "GET "+path, "GET "+path+" HTTP/1.1\r\nHost: x\r\nRange: bytes=1-", "GET "+path+" HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2,4-")
		}
		return all
	}
	for _, test := range tests {
		for _, sized := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, sized=%t", test.name, sized), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					mem, paths := withBlobs(t)
					backend := ociregistry.Interface(mem)
					if !sized {
						backend = unsized(mem)
					}
					log := new(locked.Buffer)
					n := pipes.New()
					srv := &http.Server{WriteTimeout: test.whole, Handler: ociserver.New(backend, &ociserver.Options{AnswerTimeout: test.timeout, Logger: log.Logger()})}
					go srv.Serve(n)
					defer srv.Close()
					for _, request := range requests(paths) {
						for _, take := range []int64{0, 1, 400, 300_000} {
							if !strings.Contains(request, "HTTP/1.1") {
								request += " HTTP/1.1\r\nHost: x"
							}
							conn, err := n.Dial(t.Context(), "", "")
							qt.Assert(t, qt.IsNil(err))
							io.WriteString(conn, request+"\r\n\r\n")
							start := time.Now()
							taken, err := io.CopyN(io.Discard, readerUntil{conn, time.Second}, take)
							if err != nil { // there is no more of it
								conn.Close()
								continue
							}
							conn.SetReadDeadline(time.Time{})
							conn.SetWriteDeadline(time.Now().Add(time.Hour))
							for err == nil { // until the server closes its end
								time.Sleep(time.Second)
								_, err = conn.Write(nil)
							}
							qt.Assert(t, qt.ErrorIs(err, io.ErrClosedPipe), qt.Commentf("%.200q, after %d bytes", request, taken))
							took := time.Since(start)
							qt.Check(t, qt.IsTrue(took > test.want-2*time.Second && took < test.want+10*time.Second), qt.Commentf("%.200q ended after %s", request, took))
							conn.Close()
						}
					}
					qt.Check(t, qt.IsFalse(strings.Contains(log.String(), "level=ERROR")), qt.Commentf("%s", log))
					if sized {
						qt.Check(t, qt.StringContains(log.String(), "status=499"))
					}
				})
			})
		}
	}
}

// readerUntil reads from a connection until a deadline.
type readerUntil struct {
	net.Conn
	wait time.Duration
}

func (r readerUntil) Read(p []byte) (int, error) {
	r.SetReadDeadline(time.Now().Add(r.wait))
	return r.Conn.Read(p)
}

// TestAnswersThatAreReadSlowlyArrive reads just fast enough, in both versions of HTTP.
func TestAnswersThatAreReadSlowlyArrive(t *testing.T) {
	t.Parallel()
	for _, sized := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			mem, paths := withBlobs(t)
			backend := ociregistry.Interface(mem)
			if !sized {
				backend = unsized(mem)
			}
			_, clients := serveInBubble(t, ociserver.New(backend, &ociserver.Options{AnswerTimeout: 10 * time.Second}))
			for version, client := range clients {
				for i, path := range paths {
					resp, err := client.Get("http://x" + path)
					qt.Assert(t, qt.IsNil(err))
					n, err := io.Copy(io.Discard, slowReader{resp.Body})
					qt.Check(t, qt.IsNil(err), qt.Commentf("%s", version))
					qt.Check(t, qt.Equals(n, int64(answerSizes[i])))
					resp.Body.Close()
				}
			}
		})
	}
}

// slowReader reads 120,000 bytes a second.
type slowReader struct{ r io.Reader }

func (r slowReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	time.Sleep(time.Duration(n) * time.Second / 120_000)
	return n, err
}

// TestStreamsThatNobodyReadsEnd reads other streams of the same connection.
func TestStreamsThatNobodyReadsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend, paths := withBlobs(t)
		log := new(locked.Buffer)
		_, clients := serveInBubble(t, ociserver.New(backend, &ociserver.Options{Logger: log.Logger()}))
		client := clients["HTTP/2.0"]
		stuck, err := client.Get("http://x" + paths[2])
		qt.Assert(t, qt.IsNil(err))
		defer stuck.Body.Close()
		time.Sleep(5*time.Minute + time.Second)
		qt.Check(t, qt.StringContains(log.String(), "status=499"))
		_, err = io.Copy(io.Discard, stuck.Body)
		qt.Check(t, qt.IsNotNil(err))
		other, err := client.Get("http://x" + paths[1])
		qt.Assert(t, qt.IsNil(err))
		n, err := io.Copy(io.Discard, other.Body)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, int64(answerSizes[1])))
		other.Body.Close()
	})
}

// deadlineListener accepts connections that note the write deadlines they get, and can be made
// to pass.
type deadlineListener struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
	left  []time.Duration // until each deadline, when it was set
	late  bool            // all deadlines have passed
}

func (l *deadlineListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c.(*net.TCPConn))
	return deadlineConn{c.(*net.TCPConn), l}, nil
}

// deadlines returns the time until each deadline when it was set.
func (l *deadlineListener) deadlines() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.left)
}

// expire makes the deadlines pass, those that are set and those to come.
func (l *deadlineListener) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = true
	for _, c := range l.conns {
		c.SetWriteDeadline(time.Unix(1, 0))
	}
}

// deadlineConn is a connection of a deadlineListener. It still accepts files.
type deadlineConn struct {
	*net.TCPConn
	l *deadlineListener
}

func (c deadlineConn) SetWriteDeadline(t time.Time) error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if !t.IsZero() {
		c.l.left = append(c.l.left, time.Until(t))
		if c.l.late {
			t = time.Unix(1, 0)
		}
	}
	return c.TCPConn.SetWriteDeadline(t)
}

// TestFilesThatNobodyReadsEnd has the system send a file to a client that reads everything,
// for which each piece has its own deadline, and to a client that stops, for which one passes.
func TestFilesThatNobodyReadsEnd(t *testing.T) {
	t.Parallel()
	const size = 32 << 20 // more than the system keeps for a connection
	backend, err := ocifs.New(t.TempDir(), &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	defer backend.Close()
	content := strings.Repeat("0123456789abcdef", size/16)
	d := digest.FromString(content)
	_, err = backend.PushBlob(t.Context(), "foo", ociregistry.Descriptor{Digest: d, Size: size}, strings.NewReader(content))
	qt.Assert(t, qt.IsNil(err))

	get := func() (log *locked.Buffer, resp *http.Response, l *deadlineListener, ended chan struct{}) {
		log, ended = new(locked.Buffer), make(chan struct{})
		h := ociserver.New(backend, &ociserver.Options{AnswerTimeout: time.Hour, Logger: log.Logger()})
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			defer close(ended)
			h.ServeHTTP(w, req)
		}))
		l = &deadlineListener{Listener: srv.Listener}
		srv.Listener = l
		srv.Start()
		t.Cleanup(srv.Close)
		resp, err := srv.Client().Get(srv.URL + "/v2/foo/blobs/" + string(d))
		qt.Assert(t, qt.IsNil(err))
		t.Cleanup(func() { resp.Body.Close() })
		return log, resp, l, ended
	}

	log, resp, l, ended := get()
	hash := digest.SHA256.Digester()
	_, err = io.Copy(hash.Hash(), resp.Body)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(hash.Digest(), d))
	<-ended
	set := l.deadlines()
	qt.Check(t, qt.IsTrue(len(set) >= size/(4<<20)))
	for _, left := range set {
		qt.Check(t, qt.IsTrue(left > time.Hour/2 && left <= time.Hour), qt.Commentf("%v", left))
	}
	qt.Check(t, qt.Equals(log.String(), ""))

	log, resp, l, ended = get()
	_, err = io.CopyN(io.Discard, resp.Body, 100_000)
	qt.Assert(t, qt.IsNil(err))
	l.expire()
	<-ended
	qt.Check(t, qt.StringContains(log.String(), "status=499"))
	qt.Check(t, qt.IsFalse(strings.Contains(log.String(), "level=ERROR")))
	n, err := io.Copy(io.Discard, resp.Body)
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.IsTrue(n < size-100_000))
}

// fileConn is a connection that accepts files as the system does: a given number of bytes
// until each deadline.
type fileConn struct {
	*httptest.ResponseRecorder
	takes []int64
	lost  int64 // bytes that were read and not sent when the deadline came
}

func (w *fileConn) SetWriteDeadline(time.Time) error { return nil }

func (w *fileConn) ReadFrom(r io.Reader) (int64, error) {
	if len(w.takes) == 0 {
		return io.Copy(w.Body, r)
	}
	n, err := io.CopyN(w.Body, r, w.takes[0])
	if err != nil {
		return n, err
	}
	io.CopyN(io.Discard, r, w.lost)
	w.takes = w.takes[1:]
	return n, &net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}
}

// TestFilesThatAreReadSlowlyArrive has clients read a piece of a file within several
// timeouts, of which they use each to read enough.
func TestFilesThatAreReadSlowlyArrive(t *testing.T) {
	t.Parallel()
	backend, err := ocifs.New(t.TempDir(), &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { backend.Close() })
	content := strings.Repeat("0123456789abcdef", 6<<20/16)
	d := digest.FromString(content)
	_, err = backend.PushBlob(t.Context(), "foo", ociregistry.Descriptor{Digest: d, Size: 6 << 20}, strings.NewReader(content))
	qt.Assert(t, qt.IsNil(err))
	for _, test := range []struct {
		name  string
		takes []int64
		lost  int64
		want  int // how many bytes arrive
	}{
		{"quickly", nil, 0, 6 << 20},
		{"slowly", []int64{64 << 10, 100_000, 2 << 20, 1 << 20}, 0, 6 << 20},
		{"too slowly", []int64{64 << 10, 64<<10 - 1}, 0, 128<<10 - 1},
		{"not at all", []int64{0}, 0, 0},
		{"with a loss", []int64{100_000}, 1, 100_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &fileConn{httptest.NewRecorder(), test.takes, test.lost}
			func() {
				defer func() { recover() }()
				ociserver.New(backend, nil).ServeHTTP(w, httptest.NewRequest("GET", "/v2/foo/blobs/"+string(d), nil))
			}()
			qt.Check(t, qt.IsTrue(w.Body.String() == content[:test.want]), qt.Commentf("%d bytes: %.100q", w.Body.Len(), w.Body))
		})
	}
}
