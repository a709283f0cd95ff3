package ocidebug_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocidebug"
)

// recorder collects what is logged.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) logf(f string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(f, a...))
}

// take returns the lines since the last call.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

const (
	content  = "the content of a blob"
	manifest = "the content of a manifest"
	testType = "application/x-test"
)

var (
	blobDigest     = digest.FromString(content)
	manifestDigest = digest.FromString(manifest)
	blobDesc       = ociregistry.Descriptor{Digest: blobDigest, Size: int64(len(content))}
	absent         = digest.FromString("absent")
)

// sleepy is a registry in which looking up a tag, and committing, take long.
type sleepy struct{ ociregistry.Interface }

func (r sleepy) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	time.Sleep(time.Second)
	return r.Interface.ResolveTag(ctx, repo, tag)
}

// One record for each call, and one for the end of each reader and writer.
func TestCalls_HaveOneRecordEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testRecords)
}

func testRecords(t *testing.T) {
	var log recorder
	r := ocidebug.New(sleepy{ocimem.New()}, log.logf)
	ctx := t.Context()
	read := func(rd ociregistry.BlobReader, err error) error {
		if err != nil {
			return err
		}
		_, err = io.ReadAll(rd)
		qt.Check(t, qt.IsNil(err))
		time.Sleep(time.Minute)
		return rd.Close()
	}
	resolve := func(_ ociregistry.Descriptor, err error) error { return err }
	replacer := strings.NewReplacer(
		"BLOB", string(blobDigest),
		"MANIFEST", string(manifestDigest),
		"ABSENT", string(absent))

	tests := []struct {
		do   func() error
		want []string
	}{{
		func() error { return resolve(r.PushBlob(ctx, "app", blobDesc, strings.NewReader(content))) },
		[]string{`msg=PushBlob repository=app digest=BLOB size=21 duration=0s`},
	}, {
		func() error {
			return resolve(r.PushManifest(ctx, "app", "v1", []byte(manifest), testType, "v2", "v3"))
		},
		[]string{`msg=PushManifest repository=app ref=v1 tags="[v2 v3]" size=25 mediaType=application/x-test digest=MANIFEST duration=0s`},
	}, {
		func() error { return resolve(r.PushManifest(ctx, "app", "", []byte(manifest), testType)) },
		[]string{`msg=PushManifest repository=app size=25 mediaType=application/x-test digest=MANIFEST duration=0s`},
	}, {
		func() error { return resolve(r.MountBlob(ctx, "app", "copy", blobDigest)) },
		[]string{`msg=MountBlob repository=copy from=app digest=BLOB duration=0s`},
	}, {
		func() error { return read(r.GetBlob(ctx, "app", blobDigest)) },
		[]string{
			`msg=GetBlob repository=app digest=BLOB size=21 mediaType=application/octet-stream duration=0s`,
			`msg=BlobReader.Close repository=app digest=BLOB bytes=21 duration=1m0s`,
		},
	}, {
		func() error { return read(r.GetBlobRange(ctx, "app", blobDigest, 4, 11)) },
		[]string{
			`msg=GetBlobRange repository=app digest=BLOB offset0=4 offset1=11 size=21 mediaType=application/octet-stream duration=0s`,
			`msg=BlobReader.Close repository=app digest=BLOB offset0=4 offset1=11 bytes=7 duration=1m0s`,
		},
	}, {
		func() error { return read(r.GetManifest(ctx, "app", manifestDigest)) },
		[]string{
			`msg=GetManifest repository=app digest=MANIFEST size=25 mediaType=application/x-test duration=0s`,
			`msg=BlobReader.Close repository=app digest=MANIFEST bytes=25 duration=1m0s`,
		},
	}, {
		func() error { return read(r.GetTag(ctx, "app", "v1")) },
		[]string{
			`msg=GetTag repository=app tag=v1 digest=MANIFEST size=25 mediaType=application/x-test duration=0s`,
			`msg=BlobReader.Close repository=app tag=v1 bytes=25 duration=1m0s`,
		},
	}, {
		func() error { return read(r.GetBlob(ctx, "app", absent)) },
		[]string{`msg=GetBlob repository=app digest=ABSENT duration=0s error="GetBlob app@ABSENT: blob unknown: blob unknown to registry"`},
	}, {
		func() error { return resolve(r.ResolveBlob(ctx, "app", blobDigest)) },
		[]string{`msg=ResolveBlob repository=app digest=BLOB size=21 mediaType=application/octet-stream duration=0s`},
	}, {
		func() error { return resolve(r.ResolveManifest(ctx, "app", manifestDigest)) },
		[]string{`msg=ResolveManifest repository=app digest=MANIFEST size=25 mediaType=application/x-test duration=0s`},
	}, {
		func() error { return resolve(r.ResolveTag(ctx, "app", "v1")) },
		[]string{`msg=ResolveTag repository=app tag=v1 digest=MANIFEST size=25 mediaType=application/x-test duration=1s`},
	}, {
		func() error { return resolve(r.ResolveTag(ctx, "nope", "v1")) },
		[]string{`msg=ResolveTag repository=nope tag=v1 duration=1s error="ResolveTag nope:v1: name unknown: repository name not known to registry"`},
	}, {
		func() error { _, err := ociregistry.All(r.Repositories(ctx, "")); return err },
		[]string{`msg=Repositories count=2 duration=0s`},
	}, {
		func() error { _, err := ociregistry.All(r.Tags(ctx, "app", "v1")); return err },
		[]string{`msg=Tags repository=app startAfter=v1 count=2 duration=0s`},
	}, {
		func() error {
			_, err := ociregistry.All(r.Referrers(ctx, "app", manifestDigest, "application/x-sbom"))
			return err
		},
		[]string{`msg=Referrers repository=app digest=MANIFEST artifactType=application/x-sbom count=0 duration=0s`},
	}, {
		func() error { return r.DeleteTag(ctx, "app", "v3") },
		[]string{`msg=DeleteTag repository=app tag=v3 duration=0s`},
	}, {
		func() error { return r.DeleteManifest(ctx, "app", manifestDigest) },
		[]string{`msg=DeleteManifest repository=app digest=MANIFEST duration=0s`},
	}, {
		func() error { return r.DeleteBlob(ctx, "app", blobDigest) },
		[]string{`msg=DeleteBlob repository=app digest=BLOB duration=0s`},
	}}
	for _, test := range tests {
		err := test.do()
		got := log.take()
		qt.Assert(t, qt.HasLen(got, len(test.want)), qt.Commentf("%q", got))
		for i, want := range test.want {
			qt.Check(t, qt.Equals(got[i], replacer.Replace(want)))
		}
		qt.Check(t, qt.Equals(err != nil, strings.Contains(got[0], "error=")), qt.Commentf("%v", err))
	}
}

func TestUploads_HaveARecordForEachStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log recorder
		r := ocidebug.New(ocimem.New(), log.logf)
		ctx := t.Context()
		expect := func(want ...string) {
			t.Helper()
			got := log.take()
			qt.Assert(t, qt.HasLen(got, len(want)), qt.Commentf("%q", got))
			for i := range want {
				qt.Check(t, qt.Matches(got[i], want[i]))
			}
		}

		w, err := r.PushBlobChunked(ctx, "app", 0)
		qt.Assert(t, qt.IsNil(err))
		expect(`msg=PushBlobChunked repository=app upload=[0-9a-f]{8} duration=0s`)
		_, err = w.Write([]byte(content[:5]))
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(time.Second)
		qt.Assert(t, qt.IsNil(w.Close()))
		expect(`msg=BlobWriter.Close repository=app upload=[0-9a-f]{8} bytes=5 duration=1s`)

		w, err = r.PushBlobChunkedResume(ctx, "app", w.ID(), w.Size(), w.ChunkSize())
		qt.Assert(t, qt.IsNil(err))
		expect(`msg=PushBlobChunkedResume repository=app upload=[0-9a-f]{8} offset=5 duration=0s`)
		_, err = io.Copy(w, strings.NewReader(content[5:]))
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(time.Minute)
		_, err = w.Commit("sha256:bad")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		expect(`msg=BlobWriter.Commit repository=app upload=[0-9a-f]{8} digest=sha256:bad bytes=16 duration=1m0s error=".*digest.*"`)
		_, err = w.Commit(blobDigest)
		qt.Assert(t, qt.IsNil(err))
		expect(`msg=BlobWriter.Commit repository=app upload=[0-9a-f]{8} digest=sha256:[0-9a-f]{64} bytes=16 duration=1m0s`)
		// What is deferred is not worth a record.
		qt.Check(t, qt.IsNil(w.Cancel()))
		qt.Check(t, qt.IsNil(w.Close()))
		expect()

		w, err = r.PushBlobChunked(ctx, "app", 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(w.Cancel()))
		qt.Check(t, qt.IsNil(w.Close()))
		expect(`msg=PushBlobChunked .*`, `msg=BlobWriter.Cancel repository=app upload=[0-9a-f]{8} bytes=0 duration=0s`)

		_, err = r.PushBlobChunked(ctx, "../app", 0)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid))
		expect(`msg=PushBlobChunked repository=../app duration=0s error=".*invalid repository name.*"`)
	})
}

// The records of one session can be told from those of others.
func TestUploads_RecordsOfOneSessionBelongTogether(t *testing.T) {
	t.Parallel()
	var log recorder
	r := ocidebug.New(ocimem.New(), log.logf)
	upload := func() string {
		w, err := r.PushBlobChunked(t.Context(), "app", 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Close()))
		w, err = r.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Cancel()))
		sessions := make(map[string]bool)
		for _, line := range log.take() {
			_, after, found := strings.Cut(line, " upload=")
			qt.Assert(t, qt.IsTrue(found), qt.Commentf("%s", line))
			session, _, _ := strings.Cut(after, " ")
			sessions[session] = true
		}
		qt.Assert(t, qt.HasLen(sessions, 1))
		for session := range sessions {
			return session
		}
		return ""
	}
	qt.Check(t, qt.Not(qt.Equals(upload(), upload())))
}

func TestLists_AreLoggedWhenTheyEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log recorder
		broken := errors.New("broken")
		r := ocidebug.New(&ociregistry.Funcs{
			Tags_: func(_ context.Context, repo, _ string) seq[string] {
				return func(yield func(string, error) bool) {
					_ = yield("a", nil) && yield("b", nil) && (repo != "broken" || yield("", broken))
				}
			},
		}, log.logf)
		tags := r.Tags(t.Context(), "app", "")
		qt.Check(t, qt.HasLen(log.take(), 0), qt.Commentf("logged before the loop"))

		// Each loop is a call.
		for range 2 {
			got, err := ociregistry.All(tags)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(got, []string{"a", "b"}))
			qt.Check(t, qt.DeepEquals(log.take(), []string{`msg=Tags repository=app count=2 duration=0s`}))
		}

		for range tags {
			time.Sleep(time.Second)
			break
		}
		qt.Check(t, qt.DeepEquals(log.take(), []string{`msg=Tags repository=app count=1 stopped=true duration=1s`}))

		got, err := ociregistry.All(r.Tags(t.Context(), "broken", ""))
		qt.Check(t, qt.Equals(err, broken))
		qt.Check(t, qt.DeepEquals(got, []string{"a", "b"}))
		qt.Check(t, qt.DeepEquals(log.take(), []string{`msg=Tags repository=broken count=2 duration=0s error=broken`}))
	})
}

type ctxKey struct{}

// handler checks the contexts of records and notes their levels.
type handler struct {
	slog.Handler
	t      *testing.T
	levels map[string]slog.Level
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	qt.Check(h.t, qt.Equals(ctx.Value(ctxKey{}), any("mine")), qt.Commentf(r.Message))
	h.levels[r.Message] = r.Level
	return h.Handler.Handle(ctx, r)
}

func TestNewWithLogger_RecordsHaveAttributes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		h := handler{slog.NewJSONHandler(&out, nil), t, make(map[string]slog.Level)}
		backend := ocimem.New()
		r := ocidebug.NewWithLogger(sleepy{backend}, slog.New(h))
		ctx := context.WithValue(t.Context(), ctxKey{}, "mine")

		_, err := r.PushManifest(ctx, "app", "v1", []byte(manifest), testType)
		qt.Assert(t, qt.IsNil(err))
		out.Reset()
		_, err = r.ResolveTag(ctx, "app", "v1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.JSONEquals(out.Bytes(), map[string]any{
			"time":       time.Now(),
			"level":      "INFO",
			"msg":        "ResolveTag",
			"repository": "app",
			"tag":        "v1",
			"digest":     manifestDigest,
			"size":       len(manifest),
			"mediaType":  testType,
			"duration":   time.Second,
		}))

		rd, err := r.GetTag(ctx, "app", "v1")
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(rd.Close()))
		_, err = r.GetBlob(ctx, "app", absent)
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_, err = r.ResolveManifest(canceled, "app", manifestDigest)
		qt.Assert(t, qt.ErrorIs(err, context.Canceled))

		qt.Check(t, qt.DeepEquals(h.levels, map[string]slog.Level{
			"PushManifest":     slog.LevelInfo,
			"ResolveTag":       slog.LevelInfo,
			"GetTag":           slog.LevelInfo,
			"BlobReader.Close": slog.LevelInfo,
			"GetBlob":          slog.LevelInfo,
			"ResolveManifest":  slog.LevelWarn,
		}))
	})
}

func TestCalls_MayBeConcurrent(t *testing.T) {
	t.Parallel()
	var lines []string // without a lock: logf is called by one goroutine at a time
	r := ocidebug.New(ocimem.New(), func(f string, a ...any) { lines = append(lines, fmt.Sprintf(f, a...)) })
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := r.PushManifest(t.Context(), "app", fmt.Sprint("v", i), []byte(manifest), testType)
			qt.Check(t, qt.IsNil(err))
			_, err = ociregistry.All(r.Tags(t.Context(), "app", ""))
			qt.Check(t, qt.IsNil(err))
		})
	}
	wg.Wait()
	qt.Check(t, qt.HasLen(lines, 32))
}
