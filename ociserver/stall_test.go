package ociserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/pipes"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// serveInBubble serves h in both versions of HTTP until the test ends, and returns a client
// of each. The clients wait only for the answer.
func serveInBubble(t *testing.T, h http.Handler) (n *pipes.Net, clients map[string]*http.Client) {
	n = pipes.New()
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(n)
	clients = map[string]*http.Client{}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		tr := &http.Transport{DialContext: n.Dial, Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(version == "HTTP/1.1")
		tr.Protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
		clients[version] = &http.Client{Transport: tr}
	}
	t.Cleanup(func() {
		for _, c := range clients {
			c.CloseIdleConnections()
		}
		srv.Close()
	})
	return n, clients
}

// trickle is a body that returns a byte in each interval, and after some time nothing until
// it is closed.
type trickle struct {
	interval time.Duration
	bytes    int
	closed   chan struct{}
	once     sync.Once
}

func newTrickle(interval time.Duration, bytes int) *trickle {
	return &trickle{interval: interval, bytes: bytes, closed: make(chan struct{})}
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.bytes == 0 {
		<-b.closed
		return 0, io.ErrClosedPipe
	}
	b.bytes--
	select {
	case <-time.After(b.interval):
		p[0] = 'x'
		return 1, nil
	case <-b.closed:
		return 0, io.ErrClosedPipe
	}
}

func (b *trickle) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

var pushes = []string{
	"PUT /v2/foo/manifests/latest",
	"POST /v2/foo/blobs/uploads/?digest=" + string(absent),
	"PATCH /v2/foo/blobs/uploads/MQ",
	"PUT /v2/foo/blobs/uploads/MQ?digest=" + string(absent),
}

// TestBodiesThatStallEnd sends bodies that stall, and checks when they are answered.
func TestBodiesThatStallEnd(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []struct {
		name     string
		opts     ociserver.Options
		interval time.Duration // between the bytes that come
		bytes    int
		manifest time.Duration // until the answer
		blob     time.Duration
	}{
		{"nothing comes", ociserver.Options{}, 0, 0, 60 * s, 300 * s},
		{"some comes at once", ociserver.Options{}, 0, 100, 60 * s, 300 * s},
		{"some comes slowly", ociserver.Options{}, 50 * s, 20, 60 * s, 1300 * s},
		{"less than enough to begin with, for long", ociserver.Options{}, 299 * s, 100, 60 * s, 100*299*s + 300*s},
		{"other limits", ociserver.Options{ManifestTimeout: 2 * s, BlobTimeout: s}, s / 2, 10, 2 * s, 6 * s},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				backend := ocimem.New()
				_, clients := serveInBubble(t, ociserver.New(backend, &test.opts))
				for version, client := range clients {
					for _, push := range pushes {
						method, path, _ := strings.Cut(push, " ")
						body := newTrickle(test.interval, test.bytes)
						req, err := http.NewRequestWithContext(t.Context(), method, "http://pipe"+path, body)
						qt.Assert(t, qt.IsNil(err))
						start := time.Now()
						resp, err := client.Do(req)
						qt.Assert(t, qt.IsNil(err), qt.Commentf("%s %s", version, push))
						resp.Body.Close()
						body.Close()
						want := test.blob
						if strings.Contains(push, "manifests") {
							want = test.manifest
						}
						qt.Check(t, qt.Equals(resp.StatusCode, http.StatusRequestTimeout), qt.Commentf("%s %s", version, push))
						qt.Check(t, qt.Equals(time.Since(start), want), qt.Commentf("%s %s", version, push))
						qt.Check(t, qt.Equals(resp.Proto, version))
					}
				}
				names, err := ociregistry.All(backend.Repositories(t.Context(), ""))
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.HasLen(names, 0))
			})
		})
	}
}

// A blob may arrive slowly, and without limits any body may.
func TestSlowBodiesArrive(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("x", 1000)
	post := "POST /v2/foo/blobs/uploads/?digest=" + string(digest.FromString(content))
	for _, test := range []struct {
		opts   ociserver.Options
		pushes []string
	}{
		{ociserver.Options{}, []string{post}},
		{ociserver.Options{ManifestTimeout: -1, BlobTimeout: -1}, []string{post, "PUT /v2/foo/manifests/latest"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, clients := serveInBubble(t, ociserver.New(ocimem.New(), &test.opts))
			for version, client := range clients {
				for _, push := range test.pushes {
					method, path, _ := strings.Cut(push, " ")
					body := newTrickle(4*time.Minute, len(content))
					req, err := http.NewRequestWithContext(t.Context(), method, "http://pipe"+path, io.LimitReader(body, int64(len(content))))
					qt.Assert(t, qt.IsNil(err))
					resp, err := client.Do(req)
					qt.Assert(t, qt.IsNil(err))
					resp.Body.Close()
					qt.Check(t, qt.Equals(resp.StatusCode, http.StatusCreated), qt.Commentf("%s %s", version, push))
				}
			}
		})
	}
}

// The time that a backend takes does not count as the client's, and the connection is kept.
func TestBackendMayBeSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait := func() { time.Sleep(time.Hour) }
		_, clients := serveInBubble(t, ociserver.New(&ociregistry.Funcs{
			PushBlob_: func(ctx context.Context, _ string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
				for {
					wait()
					if _, err := io.CopyN(io.Discard, r, 100_000); err == io.EOF {
						wait()
						return desc, ctx.Err()
					}
				}
			},
			PushManifest_: func(ctx context.Context, _, _ string, contents []byte, _ string, _ ...string) (ociregistry.Descriptor, error) {
				wait()
				return ociregistry.Descriptor{Digest: digest.FromBytes(contents)}, ctx.Err()
			},
		}, nil))
		for version, client := range clients {
			for _, push := range []string{pushes[0], pushes[1], pushes[0]} {
				method, path, _ := strings.Cut(push, " ")
				req, err := http.NewRequestWithContext(t.Context(), method, "http://pipe"+path, strings.NewReader(strings.Repeat("x", 300_000)))
				qt.Assert(t, qt.IsNil(err))
				resp, err := client.Do(req)
				qt.Assert(t, qt.IsNil(err))
				resp.Body.Close()
				qt.Check(t, qt.Equals(resp.StatusCode, http.StatusCreated), qt.Commentf("%s %s", version, push))
			}
		}
	})
}

// A body that is not needed is not waited for, whatever the answer.
func TestUnwantedBodiesThatStallEnd(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{
		"Content-Length: 100\r\n\r\nx",
		"Content-Length: 10000000\r\n\r\nx",
		"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
		"Transfer-Encoding: chunked\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n50000\r\n" + strings.Repeat("x", 0x50000) + "\r\n",
		"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			backend := ocimem.New()
			push := func(content string) {
				_, err := backend.PushBlob(t.Context(), "foo", ociregistry.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}, strings.NewReader(content))
				qt.Assert(t, qt.IsNil(err))
			}
			large := strings.Repeat("x", 1_000_000)
			push(large)
			push("x")
			network, _ := serveInBubble(t, ociserver.New(backend, &ociserver.Options{MaxManifestSize: 10}))
			for request, status := range map[string]int{
				"GET /v2/":                        200,
				"GET /v2/nothing":                 404,
				"PUT /v2/FOO/manifests/latest":    400,
				"PUT /v2/":                        405,
				"OPTIONS /v2/":                    204,
				"POST /v2/foo/blobs/uploads/":     202,
				"GET /v2/foo/blobs/uploads/MQ":    404,
				"DELETE /v2/foo/blobs/uploads/MQ": 404,
				"GET /v2/foo/blobs/" + string(digest.FromString(large)):                  0, // or a part of it
				"DELETE /v2/foo/blobs/" + string(digest.FromString("x")):                 202,
				"POST /v2/bar/blobs/uploads/?mount=" + string(digest.FromString(large)):  201,
				"PATCH /v2/foo/blobs/uploads/MQ HTTP/1.1\r\nHost: x\r\nContent-Range: x": 400,
			} {
				if !strings.Contains(request, "HTTP/1.1") {
					request += " HTTP/1.1\r\nHost: x"
				}
				conn, err := network.Dial(t.Context(), "", "")
				qt.Assert(t, qt.IsNil(err))
				start := time.Now()
				sent := make(chan struct{})
				go func() {
					io.WriteString(conn, request+"\r\n"+framing) // which the server may end
					close(sent)
				}()
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if status != 0 {
					qt.Assert(t, qt.IsNil(err), qt.Commentf("%.200s %.60q", request, framing))
					qt.Check(t, qt.Equals(resp.StatusCode, status), qt.Commentf("%.200s", request))
				}
				if err == nil {
					io.Copy(io.Discard, resp.Body) // of which the server may send a part
				}
				_, err = io.Copy(io.Discard, conn)
				qt.Check(t, qt.IsNil(err)) // the server closed
				qt.Check(t, qt.IsTrue(time.Since(start) <= 66*time.Second), qt.Commentf("%.200q %.60q: %s", request, framing, time.Since(start)))
				conn.Close()
				<-sent
			}
		})
	}
}

// If no deadline can be set, the body is closed.
func TestBodiesThatStallEndWithoutDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := ociserver.New(ocimem.New(), nil)
		for _, push := range pushes {
			method, path, _ := strings.Cut(push, " ")
			w, start := httptest.NewRecorder(), time.Now()
			req := httptest.NewRequest(method, path, newTrickle(0, 10))
			h.ServeHTTP(w, req)
			qt.Check(t, qt.Equals(w.Code, http.StatusRequestTimeout), qt.Commentf("%s: %s", push, w.Body))
			qt.Check(t, qt.IsTrue(time.Since(start) <= 5*time.Minute))
		}
	})
}

// manifestInParts is a manifest whose body a test sends in parts.
type manifestInParts struct {
	*io.PipeWriter
	w    *httptest.ResponseRecorder
	took time.Duration
	done chan struct{}
}

func putInParts(t *testing.T, h http.Handler, tag string) *manifestInParts {
	r, w := io.Pipe()
	m := &manifestInParts{w, httptest.NewRecorder(), 0, make(chan struct{})}
	req := httptest.NewRequest("PUT", "/v2/foo/manifests/"+tag, r).WithContext(t.Context())
	req.Header.Set("Content-Type", "text/plain")
	go func() {
		start := time.Now()
		h.ServeHTTP(m.w, req)
		m.took = time.Since(start)
		r.CloseWithError(errors.New("the request is over"))
		close(m.done)
	}()
	return m
}

// send sends n bytes. It returns when the server has them, or waits for memory.
func (m *manifestInParts) send(n int) {
	go io.WriteString(m, strings.Repeat("x", n))
	synctest.Wait()
}

// end ends the body, and returns the status.
func (m *manifestInParts) end() int {
	go m.Close()
	<-m.done
	return m.w.Code
}

func TestManifests_WaitForMemory(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		h := ociserver.New(ocimem.New(), nil)
		var large []*manifestInParts
		for i := range 4 {
			m := putInParts(t, h, fmt.Sprint("large", i))
			m.send(4*mib - 1)
			large = append(large, m)
		}

		// Small ones have a half of their own, also when large ones wait.
		late := putInParts(t, h, "late")
		late.send(100_000)
		for i := range 250 {
			m := putInParts(t, h, fmt.Sprint("small", i))
			m.send(64 << 10)
			defer m.end()
		}
		m := putInParts(t, h, "small")
		m.send(1000)
		qt.Check(t, qt.Equals(m.end(), http.StatusCreated))
		qt.Check(t, qt.Equals(m.took, 0))

		// A large one waits for ten seconds.
		<-late.done
		qt.Check(t, qt.Equals(late.w.Code, http.StatusServiceUnavailable))
		qt.Check(t, qt.Equals(late.w.Header().Get("Retry-After"), "10"))
		qt.Check(t, qt.StringContains(late.w.Body.String(), "too many manifests"))
		qt.Check(t, qt.Equals(late.took, 10*time.Second))

		// If there is memory before, it continues.
		next := putInParts(t, h, "next")
		next.send(2 * mib)
		time.Sleep(9 * time.Second)
		qt.Check(t, qt.Equals(large[0].end(), http.StatusCreated))
		qt.Check(t, qt.Equals(next.end(), http.StatusCreated))
		qt.Check(t, qt.Equals(next.took, 9*time.Second))

		// A manifest that stalls frees its memory in the end.
		for _, m := range large[1:] {
			<-m.done
			qt.Check(t, qt.Equals(m.w.Code, http.StatusRequestTimeout))
		}
		for i := range 4 {
			m := putInParts(t, h, fmt.Sprint("again", i))
			m.send(4*mib - 1)
			defer m.end()
		}
	})
}

func TestManifestMemory_BoundsWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opts   ociserver.Options
		status int
		took   time.Duration
	}{
		{ociserver.Options{ManifestMemory: 2000}, http.StatusServiceUnavailable, 10 * time.Second},
		{ociserver.Options{ManifestMemory: 2000, ManifestWait: 2 * time.Second}, http.StatusServiceUnavailable, 2 * time.Second},
		{ociserver.Options{ManifestMemory: 2000, ManifestWait: 1}, http.StatusServiceUnavailable, 1},
		{ociserver.Options{ManifestMemory: 2002}, http.StatusCreated, 0},
		{ociserver.Options{ManifestMemory: -1}, http.StatusCreated, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := ociserver.New(ocimem.New(), &test.opts)
			first := putInParts(t, h, "first")
			first.send(500)
			second := putInParts(t, h, "second")
			second.send(501)
			qt.Check(t, qt.Equals(second.end(), test.status))
			qt.Check(t, qt.Equals(second.took, test.took))
			qt.Check(t, qt.Equals(first.end(), http.StatusCreated))

			// One by itself may be larger than that.
			alone := putInParts(t, h, "alone")
			alone.send(50_000)
			alone.send(50_000)
			qt.Check(t, qt.Equals(alone.end(), http.StatusCreated))
		})
	}
}

func TestManifestWait_MayBeUnlimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := ociserver.New(ocimem.New(), &ociserver.Options{ManifestMemory: 2000, ManifestWait: -1, ManifestTimeout: -1})
		first := putInParts(t, h, "first")
		first.send(500)
		second := putInParts(t, h, "second")
		second.send(501)
		time.Sleep(time.Hour)
		qt.Check(t, qt.Equals(first.end(), http.StatusCreated))
		qt.Check(t, qt.Equals(second.end(), http.StatusCreated))
		qt.Check(t, qt.Equals(second.took, time.Hour))
	})
}

// Time that a manifest waits for memory counts as time of its body.
func TestManifestWait_CountsAsTimeOfTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := ociserver.New(ocimem.New(), &ociserver.Options{ManifestMemory: 2000, ManifestTimeout: time.Minute})
		slow := putInParts(t, h, "slow")
		slow.send(500)
		time.Sleep(55 * time.Second)
		other := putInParts(t, h, "other")
		other.send(400)
		slow.send(200)
		<-slow.done
		qt.Check(t, qt.Equals(slow.w.Code, http.StatusServiceUnavailable))
		qt.Check(t, qt.Equals(slow.took, time.Minute))
		qt.Check(t, qt.Equals(other.end(), http.StatusCreated))
	})
}
