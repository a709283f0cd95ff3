package serve

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// chunksOfLayer is a layer that a proxy sends to its origin in three chunks.
var chunksOfLayer = bytes.Repeat([]byte("0123456789abcdef"), 17<<20/16)

// patched is an answer with which a handler does something before it begins.
type patched struct {
	http.ResponseWriter
	before func(status int) int
}

func (p *patched) WriteHeader(status int) { p.ResponseWriter.WriteHeader(p.before(status)) }

// TestProxy_SurvivesAStuckRange streams a layer through a proxy of an origin that
// tells of the first chunk alone, in an answer or when it is asked.
func TestProxy_SurvivesAStuckRange(t *testing.T) {
	t.Parallel()
	for stuck, status := range map[string]int{"0-8388607": 201, "0-0": 202, "0-9223372036854775806": 202} {
		t.Run(stuck, func(t *testing.T) {
			t.Parallel()
			registry := ociserver.New(ocimem.New(), nil)
			var begun atomic.Bool
			o := startOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodPatch {
					begun.Store(true)
				}
				if begun.Load() && strings.Contains(req.URL.Path, "/uploads/") {
					w = &patched{w, func(was int) int {
						w.Header().Set("Range", stuck)
						if was == http.StatusAccepted {
							return status
						}
						return was
					}}
				}
				registry.ServeHTTP(w, req)
			}))
			d, stop := o.proxy(t)
			resp, _ := d.do(t, "POST", "/v2/foo/blobs/uploads/", nil, nil)
			location := d.checkSession(t, resp, "foo")
			resp, body := d.do(t, "PATCH", location, io.MultiReader(bytes.NewReader(chunksOfLayer)), nil)
			qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusAccepted), qt.Commentf("%s: %s", stuck, body))
			location = d.checkSession(t, resp, "foo")
			qt.Check(t, qt.Equals(resp.Header.Get("Range"), fmt.Sprintf("0-%d", len(chunksOfLayer)-1)))
			dg := digest.FromBytes(chunksOfLayer).String()
			resp, body = d.do(t, "PUT", withDigest(t, location, dg), nil, nil)
			qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated), qt.Commentf("%s", body))
			docker{o.URL}.pullBlob(t, "foo", chunksOfLayer)
			qt.Check(t, qt.Equals(stop(), 0))
		})
	}
}

// TestProxy_SurvivesALostSession streams a layer through a proxy whose origin
// restarts in between and has lost the session, or a part of it: the client gets an
// error, and the proxy lives.
func TestProxy_SurvivesALostSession(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		lose   func(w http.ResponseWriter, req *http.Request)
		status int
	}{
		"all of it": {http.NotFound, http.StatusNotFound},
		"its bytes": {func(w http.ResponseWriter, req *http.Request) {
			io.Copy(io.Discard, req.Body)
			w.Header().Set("Range", "0-0")
			w.WriteHeader(map[string]int{"GET": 204, "PATCH": 416}[req.Method])
		}, http.StatusRequestedRangeNotSatisfiable},
		"some bytes, and it says so beside a success": {func(w http.ResponseWriter, req *http.Request) {
			io.Copy(io.Discard, req.Body)
			w.Header().Set("Range", "0-4")
			w.WriteHeader(map[string]int{"GET": 204, "PATCH": 202}[req.Method])
		}, 0},
	}
	for name, test := range tests {
		for _, broken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, broken), func(t *testing.T) {
				t.Parallel()
				registry := ociserver.New(ocimem.New(), nil)
				var chunks atomic.Int32
				o := startOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					n := chunks.Load()
					if req.Method == http.MethodPatch {
						n = chunks.Add(1)
					}
					switch {
					case n < 2 || req.Method != http.MethodPatch && req.Method != http.MethodGet:
						registry.ServeHTTP(w, req)
					case n == 2 && broken && req.Method == http.MethodPatch:
						panic(http.ErrAbortHandler)
					default:
						test.lose(w, req)
					}
				}))
				d, stop := o.proxy(t)
				resp, _ := d.do(t, "POST", "/v2/foo/blobs/uploads/", nil, nil)
				location := d.checkSession(t, resp, "foo")
				resp, body := d.do(t, "PATCH", location, io.MultiReader(bytes.NewReader(chunksOfLayer)), nil)
				dg := digest.FromBytes(chunksOfLayer).String()
				if resp.StatusCode == http.StatusAccepted && test.status == 0 { // what was lost is found out at the end
					location = d.checkSession(t, resp, "foo")
					resp, body = d.do(t, "PUT", withDigest(t, location, dg), nil, nil)
					qt.Check(t, qt.Equals(resp.StatusCode, http.StatusBadRequest), qt.Commentf("%s", body))
				} else if test.status != 0 {
					qt.Check(t, qt.Equals(resp.StatusCode, test.status), qt.Commentf("%s", body))
				} else {
					qt.Check(t, qt.IsTrue(resp.StatusCode >= 400), qt.Commentf("%s", body))
				}
				resp, _ = d.do(t, "HEAD", "/v2/foo/blobs/"+dg, nil, nil)
				qt.Check(t, qt.Equals(resp.StatusCode, http.StatusNotFound))
				qt.Check(t, qt.Equals(stop(), 0))
			})
		}
	}
}
