package ociclient_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// largeSize returns the size of large blobs: 32 MiB, or, with OCICLIENT_FULL in the
// environment, 1 GiB. The counts of requests are the same for both.
func largeSize() int64 {
	if os.Getenv("OCICLIENT_FULL") != "" {
		return 1 << 30
	}
	return 32 << 20
}

// noise is a blob of so many pseudo-random bytes. Any of them can be computed without the
// others.
type noise int64

func (n noise) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(n) {
		return 0, io.EOF
	}
	var err error
	if left := int64(n) - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	var word [8]byte
	for done := 0; done < len(p); {
		at := off + int64(done)
		binary.LittleEndian.PutUint64(word[:], mix(uint64(at/8)))
		done += copy(p[done:], word[at%8:])
	}
	return len(p), err
}

// mix is the output function of SplitMix64.
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (n noise) reader() *io.SectionReader { return io.NewSectionReader(n, 0, int64(n)) }

func (n noise) descriptor() ociregistry.Descriptor {
	d := digest.SHA256.Digester()
	io.Copy(d.Hash(), n.reader())
	return ociregistry.Descriptor{Digest: d.Digest(), Size: int64(n)}
}

// Each of 64 cuts of the connection costs one request.
func TestLargeBlobIsPulledOverBreakingConnections(t *testing.T) {
	t.Parallel()
	const parts = 64
	blob := noise(largeSize())
	desc := blob.descriptor()
	srv := faultserver.New(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, req, "", time.Time{}, blob.reader())
	}), rule{On: "GET ", Cut: int64(blob) / parts})
	reg := clientOf(t, srv, ociclient.Options{}, newClock())

	start := time.Now()
	r, err := reg.GetBlob(ctx, "foo", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	got := digest.SHA256.Digester()
	n, err := io.Copy(got.Hash(), r)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(n, desc.Size))
	qt.Assert(t, qt.Equals(got.Digest(), desc.Digest))

	requests := ranges(srv)
	qt.Assert(t, qt.HasLen(requests, parts)) // the first, and one for each cut before the end
	for i, rng := range requests[1:] {
		qt.Assert(t, qt.Equals(rng, fmt.Sprintf("bytes=%d-%d", int64(i+1)*desc.Size/parts, desc.Size-1)))
	}
	t.Logf("%d MiB in %d requests, %v", desc.Size>>20, len(requests), time.Since(start).Round(time.Millisecond))
}

// sink is a registry that accepts one blob in a session. It stores nothing: it knows the
// content.
type sink struct {
	want noise

	mu     sync.Mutex
	offset int64
	got    []wire.Range // the chunks, in order
	wrong  bool         // the content was wrong
	done   bool
}

func (s *sink) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Location", uploads+"1")
	w.Header().Set("Range", wire.UploadRange(s.offset))
	switch req.Method {
	case http.MethodPost:
		w.WriteHeader(http.StatusAccepted)
	case http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case http.MethodHead:
		if !s.done {
			w.WriteHeader(http.StatusNotFound)
		}
	case http.MethodPatch, http.MethodPut:
		start, _, ok := wire.ParseChunkRange(req.Header.Get("Content-Range"))
		if !ok || start != s.offset {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		if err := s.take(req.Body); err != nil {
			return // without an answer
		}
		w.Header().Set("Range", wire.UploadRange(s.offset))
		if req.Method == http.MethodPatch {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		s.done = s.offset == int64(s.want) && !s.wrong
		w.WriteHeader(http.StatusCreated)
	}
}

// take compares a body, which may break off, with the expected content.
func (s *sink) take(body io.Reader) error {
	start := s.offset
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := body.Read(got)
		s.want.ReadAt(want[:n], s.offset)
		s.wrong = s.wrong || string(got[:n]) != string(want[:n])
		s.offset += int64(n)
		if err != nil {
			s.got = append(s.got, wire.Range{Start: start, End: s.offset})
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}

// The blob has 128 chunks and cannot be read again. One registry loses every fifth answer
// after it has acted; at another, every fifth chunk breaks off.
func TestLargeBlobIsPushedOverLostAnswers(t *testing.T) {
	t.Parallel()
	const parts = 128
	blob := noise(largeSize())
	desc := blob.descriptor()
	tests := []struct {
		name  string
		fault rule
	}{
		{"lost answers", rule{LoseAnswer: true}},
		{"cut requests", rule{CutRequest: int64(blob) / parts / 3}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.fault.On, test.fault.Every = "PATCH ", 5
			s := &sink{want: blob}
			srv := faultserver.New(t, s, test.fault)
			reg := clientOf(t, srv, ociclient.Options{ChunkSize: int(blob) / parts}, newClock())

			start := time.Now()
			_, err := reg.PushBlob(ctx, "foo", desc, struct{ io.Reader }{blob.reader()})
			qt.Assert(t, qt.IsNil(err))
			took := time.Since(start)
			qt.Assert(t, qt.IsTrue(s.done))

			qt.Check(t, qt.IsTrue(most(s.got) <= 2), qt.Commentf("%v", s.got))
			t.Logf("%d MiB in %v, no byte more than %d times; requests %v", desc.Size>>20, took.Round(time.Millisecond), most(s.got), tally(srv.Lines()))
		})
	}
}

// most returns the largest number of times that a byte came.
func most(ranges []wire.Range) int {
	type edge struct {
		at int64
		by int
	}
	var edges []edge
	for _, r := range ranges {
		edges = append(edges, edge{r.Start, 1}, edge{r.End, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	depth, deepest := 0, 0
	for _, e := range edges {
		depth += e.by
		deepest = max(deepest, depth)
	}
	return deepest
}

// tally returns the number of requests of each method.
func tally(lines []string) map[string]int {
	count := make(map[string]int)
	for _, line := range lines {
		method, _, _ := strings.Cut(line, " ")
		count[method]++
	}
	return count
}
