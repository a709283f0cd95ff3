package ociclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// Each case pushes 21 bytes, at once or in chunks of 10.
func TestPushSurvivesLostAnswers(t *testing.T) {
	t.Parallel()
	gone := rule{Status: 404, Answer: `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`}
	on := func(r rule, on string) rule {
		r.On = on
		return r
	}
	lost := rule{Times: 1, LoseAnswer: true}
	tests := []struct {
		name    string
		chunked bool
		rules   []rule
		want    string // the methods of the requests
		err     error
	}{
		{"no fault", false, nil, "POST PUT", nil},
		{"no fault in chunks", true, nil, "POST PATCH PATCH PUT", nil},
		{"the answer to a PATCH", true, []rule{on(lost, "PATCH ")}, "POST PATCH GET PATCH PUT", nil},
		{"the answer to each PATCH", true, []rule{{On: "PATCH ", LoseAnswer: true}}, "POST PATCH GET PATCH GET PUT", nil},
		{"a PATCH half-way", true, []rule{{On: "PATCH ", Times: 1, CutRequest: 4}}, "POST PATCH GET PATCH PATCH PUT", nil},
		{"a PATCH that did nothing", true, []rule{{On: "PATCH ", Times: 1, Status: 502}}, "POST PATCH GET PATCH PATCH PUT", nil},
		{"a PATCH and the answer about it", true, []rule{on(lost, "PATCH "), {On: "GET " + uploads, Times: 1, Status: 503}}, "POST PATCH GET GET PATCH PUT", nil},
		{"the answer to a PUT", false, []rule{on(lost, "PUT ")}, "POST PUT HEAD", nil},
		{"the answer to a PUT in chunks", true, []rule{on(lost, "PUT ")}, "POST PATCH PATCH PUT HEAD", nil},
		{"a PUT half-way", false, []rule{{On: "PUT ", Times: 1, CutRequest: 10}}, "POST PUT HEAD GET PUT", nil},
		{"a PUT that did nothing", false, []rule{{On: "PUT ", Times: 1, Status: 502}}, "POST PUT HEAD GET PUT", nil},
		{"the session before a PUT", false, []rule{{On: "PUT ", Times: 1, Status: gone.Status, Answer: gone.Answer}}, "POST PUT POST PUT", nil},
		{"the session after a PUT", false, []rule{{On: "PUT ", Times: 1, Status: 503}, on(gone, "GET "+uploads)}, "POST PUT HEAD GET POST PUT", nil},
		{"the session before the first PATCH", true, []rule{{On: "PATCH ", Times: 1, Status: gone.Status, Answer: gone.Answer}}, "POST PATCH POST PATCH PATCH PUT", nil},
		{"the session before the second PATCH", true, []rule{{On: "PATCH ", First: 1, Status: gone.Status, Answer: gone.Answer}}, "POST PATCH PATCH", ociregistry.ErrBlobUploadUnknown},
		{"the session each time", false, []rule{on(gone, "PUT ")}, "POST PUT POST PUT POST PUT POST PUT POST PUT", ociregistry.ErrBlobUploadUnknown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			backend := ocimem.New()
			srv := faultserver.New(t, ociserver.New(backend, nil), append(test.rules, anyChunk)...)
			transport := newTransport(t)
			transport.DisableKeepAlives = true // so that the transport repeats no requests
			reg := clientOf(t, srv, ociclient.Options{ChunkSize: 10, Transport: transport}, newClock())
			var r io.Reader = strings.NewReader(content)
			if test.chunked {
				r = once(content)
			}
			_, err := reg.PushBlob(ctx, "foo", blobDesc(content), r)
			qt.Check(t, qt.Equals(strings.Join(methods(srv.Lines()), " "), test.want))
			if test.err != nil {
				qt.Assert(t, qt.ErrorIs(err, test.err))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			wantBlob(t, backend, content)
		})
	}
}

// A response with status 416 has the location of the session, and how much it has.
func TestPushContinuesWhereSessionIs(t *testing.T) {
	t.Parallel()
	reg, srv := scripted(t,
		rule{On: "POST ", Status: 202, Set: header{"Location": uploads + "1"}},
		rule{On: "PUT " + uploads + "1?digest=", Status: 416, Set: header{"Location": uploads + "2?a=b", "Range": "0-4"}},
		rule{On: "PUT " + uploads + "2?a=b&digest=", Header: header{"Content-Range": "5-20"}, Body: content[5:], Status: 201},
	)
	qt.Assert(t, qt.IsNil(push(reg)))
	qt.Assert(t, qt.HasLen(srv.Lines(), 3))
}

func TestBytesOfAnotherWriterAreNotTakenForOwn(t *testing.T) {
	t.Parallel()
	reg, _ := faulty(t, ociclient.Options{}, anyChunk)
	first, err := reg.PushBlobChunked(ctx, "foo", 10)
	qt.Assert(t, qt.IsNil(err))
	second, err := reg.PushBlobChunkedResume(ctx, "foo", first.ID(), 0, 10)
	qt.Assert(t, qt.IsNil(err))
	_, err = io.WriteString(first, content[:10])
	qt.Assert(t, qt.IsNil(err))
	_, err = io.WriteString(second, content[:10])
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
}

// The client gives up on a server that answers 416 again and again.
func TestRepeatedRefusalOfPositionEnds(t *testing.T) {
	t.Parallel()
	reg, srv := scripted(t,
		rule{On: "POST ", Status: 202, Set: header{"Location": uploads + "1"}},
		rule{On: "PUT ", Status: 416, Set: header{"Range": "0-4"}},
		rule{On: "GET ", Status: 204, Set: header{"Range": "0-4"}},
		rule{On: "DELETE ", Status: 204},
	)
	qt.Assert(t, qt.ErrorIs(push(reg), ociregistry.ErrRangeInvalid))
	qt.Assert(t, qt.IsTrue(len(srv.Requests("PUT ")) <= 6))
}

func TestCancelEndsTheSession(t *testing.T) {
	t.Parallel()
	for _, status := range []int{204, 200, 202, 404} { // 404 means that it is gone
		reg, srv := scripted(t,
			rule{On: "POST ", Status: 202, Set: header{"Location": uploads + "1?a=b"}},
			rule{On: "DELETE " + uploads + "1?a=b$", Status: status},
		)
		w, err := reg.PushBlobChunked(ctx, "foo", 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = io.WriteString(w, content)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Cancel()))
		qt.Assert(t, qt.IsNil(w.Cancel()))
		_, err = w.Write([]byte("x"))
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
		qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"POST", "DELETE"}))
	}
}

func TestClosedWriterCanBeResumed(t *testing.T) {
	t.Parallel()
	reg, srv := faulty(t, ociclient.Options{})
	w, err := reg.PushBlobChunked(ctx, "foo", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = io.WriteString(w, "more ")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	w, err = reg.PushBlobChunkedResume(ctx, "foo", w.ID(), -1, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(w.Size(), 5))
	_, err = io.WriteString(w, "content")
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Commit(blobDesc("more content").Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"POST", "PATCH", "GET", "PUT"}))
}

// The session is cancelled even if the push failed because the context ended.
func TestFailedPushCancelsItsSession(t *testing.T) {
	t.Parallel()
	disk := errors.New("a disk is on fire")
	never := make(chan struct{})
	tests := []struct {
		name string
		rule rule
		r    func(context.CancelFunc) io.Reader
		want error
	}{
		{"refused", rule{On: "PUT ", Status: 403}, func(context.CancelFunc) io.Reader { return strings.NewReader(content) }, ociregistry.ErrDenied},
		{"a reader that fails", rule{}, func(context.CancelFunc) io.Reader {
			return io.MultiReader(strings.NewReader(content[:15]), failing{disk})
		}, disk},
		{"a context that ends between chunks", rule{}, func(cancel context.CancelFunc) io.Reader {
			return io.MultiReader(strings.NewReader(content[:15]), cancelling{cancel}, strings.NewReader(content[15:]))
		}, context.Canceled},
		{"a context that ends in a request", rule{On: "PUT ", Wait: never}, func(cancel context.CancelFunc) io.Reader {
			return readAnd{strings.NewReader(content), cancel}
		}, context.Canceled},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			deleted := make(chan struct{}, 1)
			noted := rule{On: "DELETE " + uploads, Do: func(*http.Request) { deleted <- struct{}{} }}
			rules := []rule{anyChunk, noted}
			if test.rule.On != "" {
				rules = append(rules, test.rule)
			}
			reg, srv := faulty(t, ociclient.Options{ChunkSize: 10}, rules...)
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			_, err := reg.PushBlob(ctx, "foo", blobDesc(content), test.r(cancel))
			qt.Assert(t, qt.ErrorIs(err, test.want))
			<-deleted
			qt.Assert(t, qt.HasLen(srv.Requests("POST "), 1))
		})
	}
}

// cancelling is an empty reader that cancels a context.
type cancelling struct{ cancel context.CancelFunc }

func (c cancelling) Read([]byte) (int, error) {
	c.cancel()
	return 0, io.EOF
}

// readAnd is a reader that cancels a context when it is read.
type readAnd struct {
	*strings.Reader
	cancel context.CancelFunc
}

func (r readAnd) Read(p []byte) (int, error) {
	r.cancel()
	return r.Reader.Read(p)
}
