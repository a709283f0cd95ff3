package ociclient_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// stalling returns a client of a host in memory, where a function serves each connection.
// It is for a bubble of synctest, and leaves no goroutines there.
func stalling(t *testing.T, opts ociclient.Options, serve func(conn net.Conn, req *http.Request)) ociregistry.Interface {
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				context.AfterFunc(ctx, func() { server.Close() })
				if req, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
					serve(server, req.WithContext(ctx))
				}
			}()
			return client, nil
		},
	}
	t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
		synctest.Wait()
	})
	opts.Transport, opts.Insecure = transport, true
	if opts.Retry.Attempts == 0 {
		opts.Retry.Attempts = 1
	}
	reg, err := ociclient.New("registry.test", &opts)
	qt.Assert(t, qt.IsNil(err))
	return reg
}

// silent accepts a request and never answers.
func silent(conn net.Conn, req *http.Request) {
	io.Copy(io.Discard, req.Body)
	io.Copy(io.Discard, conn)
}

// wantTimeout checks that err is the timeout of a wait for the registry.
func wantTimeout(t *testing.T, err error, what string) {
	t.Helper()
	qt.Check(t, qt.ErrorMatches(err, "(?s).*waited "+what+".*"))
	qt.Check(t, qt.ErrorIs(err, os.ErrDeadlineExceeded))
	qt.Check(t, qt.IsFalse(errors.Is(err, context.DeadlineExceeded)))
	qt.Check(t, qt.IsFalse(errors.Is(err, context.Canceled)))
	var op *ociregistry.OpError
	qt.Check(t, qt.ErrorAs(err, &op))
}

func TestWaitsForAnswersEnd(t *testing.T) {
	t.Parallel()
	short := ociclient.Timeouts{Header: time.Second, Commit: 2 * time.Second, Idle: 3 * time.Second}
	tests := []struct {
		name     string
		timeouts ociclient.Timeouts
		call     func(ociregistry.Interface) error
		want     time.Duration
	}{
		{"GetBlob", ociclient.Timeouts{}, func(r ociregistry.Interface) error { return second(getBlob(r)) }, 30 * time.Second},
		{"GetBlobRange", ociclient.Timeouts{}, func(r ociregistry.Interface) error { return second(getRange(r)) }, 30 * time.Second},
		{"GetTag", ociclient.Timeouts{}, func(r ociregistry.Interface) error { return second(getTag(r)) }, 30 * time.Second},
		{"ResolveBlob", ociclient.Timeouts{}, resolveBlob, 30 * time.Second},
		{"PushBlobChunked", ociclient.Timeouts{}, func(r ociregistry.Interface) error { return second(r.PushBlobChunked(ctx, "foo", 0)) }, 30 * time.Second},
		{"PushManifest", ociclient.Timeouts{}, func(r ociregistry.Interface) error {
			return second(r.PushManifest(ctx, "foo", "v1", []byte(index), imageIndex))
		}, 10 * time.Minute},
		{"DeleteTag", ociclient.Timeouts{}, func(r ociregistry.Interface) error { return r.DeleteTag(ctx, "foo", "v1") }, 10 * time.Minute},
		{"Tags", ociclient.Timeouts{}, func(r ociregistry.Interface) error { return second(ociregistry.All(r.Tags(ctx, "foo", ""))) }, 10 * time.Minute},
		{"GetBlob of options", short, func(r ociregistry.Interface) error { return second(getBlob(r)) }, time.Second},
		{"DeleteBlob of options", short, func(r ociregistry.Interface) error { return r.DeleteBlob(ctx, "foo", contentDigest) }, 2 * time.Second},
	}
	for _, test := range tests {
		for _, parts := range []int{0, 3} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					opts := ociclient.Options{Timeouts: test.timeouts, Parallel: ociclient.Parallel{Concurrency: parts}}
					reg := stalling(t, opts, silent)
					start := time.Now()
					wantTimeout(t, test.call(reg), test.want.String()+" for registry.test to answer")
					qt.Check(t, qt.Equals(time.Since(start), test.want))
				})
			})
		}
	}
}

func TestNegativeTimeoutIsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := stalling(t, ociclient.Options{Timeouts: ociclient.Timeouts{Header: -1, Idle: -1}}, func(conn net.Conn, _ *http.Request) {
			time.Sleep(5 * time.Hour)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(content))
			time.Sleep(5 * time.Hour)
			io.WriteString(conn, content)
		})
		wantBlob(t, reg, content)
	})
}

// The errors of a timeout and of the caller's own context differ.
func TestEndOfTheContextIsNoTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := stalling(t, ociclient.Options{}, silent)
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := reg.GetBlob(ctx, "foo", contentDigest)
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Check(t, qt.IsFalse(errors.Is(err, os.ErrDeadlineExceeded)))
	})
}

func TestWaitThatEndedIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		reg := stalling(t, ociclient.Options{Retry: ociclient.RetryPolicy{Attempts: 3}}, func(conn net.Conn, req *http.Request) {
			if tries.Add(1) < 3 {
				silent(conn, req)
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(content), content)
		})
		wantBlob(t, reg, content)
		qt.Check(t, qt.Equals(tries.Load(), 3))
	})
}

// A body that stalls continues at the same byte, like one that breaks.
func TestStalledBodyGoesOn(t *testing.T) {
	t.Parallel()
	for _, parts := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) {
			var ranges []string
			opts := ociclient.Options{Retry: ociclient.RetryPolicy{Attempts: 2}, Parallel: ociclient.Parallel{Concurrency: parts}}
			reg := stalling(t, opts, func(conn net.Conn, req *http.Request) {
				ranges = append(ranges, req.Header.Get("Range"))
				from := 0
				status := fmt.Sprintf("206 Partial Content\r\nContent-Range: bytes 0-%d/%d", len(content)-1, len(content))
				if len(ranges) > 1 {
					from = 10
					status = fmt.Sprintf("206 Partial Content\r\nContent-Range: bytes 10-%d/%d", len(content)-1, len(content))
				} else if parts == 0 {
					status = "200 OK"
				}
				fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n", status, len(content)-from)
				if len(ranges) == 1 {
					io.WriteString(conn, content[:10])
					silent(conn, req)
					return
				}
				io.WriteString(conn, content[from:])
			})
			start := time.Now()
			wantBlob(t, reg, content)
			qt.Check(t, qt.Equals(time.Since(start), time.Minute))
			qt.Check(t, qt.Equals(ranges[1], "bytes=10-20"))
		})
	}
}

func TestStalledBodiesAreErrors(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(ociregistry.Interface) error{
		"GetBlob":      func(r ociregistry.Interface) error { return second(readAll(getBlob(r))) },
		"GetBlobRange": func(r ociregistry.Interface) error { return second(readAll(getRange(r))) },
		"GetTag":       func(r ociregistry.Interface) error { return second(getTag(r)) },
		"Tags":         func(r ociregistry.Interface) error { return second(ociregistry.All(r.Tags(ctx, "foo", ""))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reg := stalling(t, ociclient.Options{}, func(conn net.Conn, req *http.Request) {
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{")
					silent(conn, req)
				})
				start := time.Now()
				wantTimeout(t, call(reg), "1m0s for registry.test to send more of its answer")
				qt.Check(t, qt.Equals(time.Since(start), time.Minute))
			})
		})
	}
}

// Neither a slow server nor a slow caller is one that stalls.
func TestSlowIsNotStalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := stalling(t, ociclient.Options{}, func(conn net.Conn, req *http.Request) {
			time.Sleep(29 * time.Second)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(content))
			for i := range content {
				time.Sleep(59 * time.Second)
				io.WriteString(conn, content[i:i+1])
			}
		})
		r, err := getBlob(reg)
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(time.Hour)
		got, err := readAll(r, nil)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got, content))
	})
}

// session answers the requests of a push before its content, and passes others to rest.
func session(rest func(conn net.Conn, req *http.Request)) func(net.Conn, *http.Request) {
	return func(conn net.Conn, req *http.Request) {
		switch req.Method {
		case http.MethodDelete:
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			return
		case http.MethodPost:
			io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nLocation: /v2/foo/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n")
			return
		}
		rest(conn, req)
	}
}

func TestPeerThatTakesNothingMoreEnds(t *testing.T) {
	t.Parallel()
	blob := pattern(1 << 20)
	desc := blobDesc(blob)
	push := func(reg ociregistry.Interface, r io.Reader) error { return second(reg.PushBlob(ctx, "foo", desc, r)) }
	takes := func(n int64) func(net.Conn, *http.Request) {
		return session(func(conn net.Conn, req *http.Request) {
			io.CopyN(io.Discard, req.Body, n)
			<-req.Context().Done()
		})
	}
	t.Run("stuck", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reg := stalling(t, ociclient.Options{}, takes(100<<10))
			start := time.Now()
			wantTimeout(t, push(reg, strings.NewReader(blob)), "1m0s for registry.test to take more of what is sent")
			qt.Check(t, qt.Equals(time.Since(start), time.Minute))
		})
	})
	t.Run("taken, and not answered", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reg := stalling(t, ociclient.Options{}, takes(1<<20))
			wantTimeout(t, push(reg, strings.NewReader(blob)), "10m0s for registry.test to answer")
		})
	})
	t.Run("taken slowly, given slowly, answered slowly", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reg := stalling(t, ociclient.Options{}, session(func(conn net.Conn, req *http.Request) {
				for {
					time.Sleep(50 * time.Second)
					if _, err := io.CopyN(io.Discard, req.Body, 100<<10); err != nil {
						break
					}
				}
				time.Sleep(9 * time.Minute)
				io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
			}))
			qt.Check(t, qt.IsNil(push(reg, &slowReader{Reader: *strings.NewReader(blob)})))
		})
	})
}

// slowReader returns some of its content only after two minutes.
type slowReader struct {
	strings.Reader
	waited bool
}

func (r *slowReader) Read(p []byte) (int, error) {
	if !r.waited && r.Len() < 500<<10 {
		r.waited = true
		time.Sleep(2 * time.Minute)
	}
	return r.Reader.Read(p)
}

// A server may answer before it has taken all of the request. If it continues to take the
// request, but stalls in its answer, the wait for the answer still ends.
func TestEarlyAnswerThatStallsEnds(t *testing.T) {
	t.Parallel()
	blob := pattern(1 << 20)
	for _, answer := range []string{
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\n{",
		"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{",
	} {
		synctest.Test(t, func(t *testing.T) {
			reg := stalling(t, ociclient.Options{}, session(func(conn net.Conn, req *http.Request) {
				if req.Method != http.MethodPut {
					io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
					return
				}
				io.CopyN(io.Discard, req.Body, 100<<10)
				io.WriteString(conn, answer)
				time.Sleep(30 * time.Second)
				io.CopyN(io.Discard, req.Body, 100<<10)
				<-req.Context().Done()
			}))
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			start := time.Now()
			_, err := reg.PushBlob(ctx, "foo", blobDesc(blob), strings.NewReader(blob))
			qt.Check(t, qt.Equals(err == nil, strings.Contains(answer, "Created")), qt.Commentf("%v", err))
			qt.Check(t, qt.Equals(time.Since(start), time.Minute))
		})
	}
}
