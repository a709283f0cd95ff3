package ociclient_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

// push pushes the content from a reader that can be read again.
func push(reg ociregistry.Interface) error {
	_, err := reg.PushBlob(ctx, "foo", blobDesc(content), strings.NewReader(content))
	return err
}

// once returns a reader that cannot be read again.
func once(content string) io.Reader { return io.MultiReader(strings.NewReader(content)) }

func TestBehaviour09_Location(t *testing.T) {
	t.Parallel()
	const base = "https://registry.test"
	tests := []struct {
		name     string
		host     string
		location string
		put      string // where the PUT goes, without the digest
		trusted  bool   // the credentials go along
	}{
		{"relative", "registry.test", "some-id", base + "/v2/foo/blobs/uploads/some-id?", true},
		{"relative, upwards", "registry.test", "../../../u/1", base + "/v2/u/1?", true},
		{"a path", "registry.test", "/u/1", base + "/u/1?", true},
		{"a path with a query", "registry.test", "/u/1?state=a%2Fb+c&x", base + "/u/1?state=a%2Fb+c&x&", true},
		{"an opaque path", "registry.test", "/u//a%2Fb/%7E;x=1/", base + "/u//a%2Fb/%7E;x=1/?", true},
		{"a fragment", "registry.test", "/u/1#x", base + "/u/1?", true},
		{"a URL", "registry.test", base + "/u/1?a=b", base + "/u/1?a=b&", true},
		{"a URL with user", "registry.test", "https://me:secret@registry.test/u/1", base + "/u/1?", true},
		{"a URL without the port", "registry.test:443", base + "/u/1", base + ":443/u/1?", true},
		{"a URL with the port", "registry.test", base + ":443/u/1", base + "/u/1?", true},
		{"a URL in capitals", "registry.test", "HTTPS://Registry.Test/u/1", base + "/u/1?", true},
		{"by http", "registry.test", "http://registry.test/u/1?a=b", base + "/u/1?a=b&", true},
		{"by http, in capitals", "registry.test", "HTTP://Registry.Test/u/1", base + "/u/1?", true},
		{"by http, with the port", "registry.test", "http://registry.test:443/u/1", base + "/u/1?", true},
		{"by http, from a port", "registry.test:8443", "http://registry.test/u/1", base + ":8443/u/1?", true},
		{"by http, from and with a port", "registry.test:8443", "http://registry.test:8443/u/1", base + ":8443/u/1?", true},
		{"without its port", "registry.test:8443", base + "/u/1", base + ":8443/u/1?", true},
		{"another port than its own", "registry.test:8443", base + ":443/u/1", base + ":443/u/1?", false},
		{"without its port, IPv6", "[::1]:8443", "http://[::1]/u/1", "https://[::1]:8443/u/1?", true},
		{"another host", "registry.test", "https://elsewhere.test/u/1", "https://elsewhere.test/u/1?", false},
		{"a host below", "registry.test", "https://a.registry.test/u/1", "https://a.registry.test/u/1?", false},
		{"another port", "registry.test", base + ":8443/u/1", base + ":8443/u/1?", false},
		{"without scheme", "registry.test", "//elsewhere.test/u/1", "https://elsewhere.test/u/1?", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &world{answers: map[string]*http.Response{
				"POST https://": answer(http.StatusAccepted, "Location", test.location),
				"PUT https://":  answer(http.StatusCreated),
			}}
			qt.Assert(t, qt.IsNil(push(clientIn(t, w, test.host, ociclient.Options{}))))
			want := "PUT " + test.put + "digest=" + url.QueryEscape(string(contentDigest))
			if test.trusted {
				want += " repository:foo:pull,push"
			}
			qt.Assert(t, qt.HasLen(w.log, 2))
			qt.Assert(t, qt.Equals(w.log[1], want))
		})
	}
}

func TestBehaviour09_BadLocation(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"", "http://registry.test:80/u/1", "http://registry.test:5000/u/1", "http://elsewhere.test/u/1", "http://a.registry.test/u/1", "ftp://registry.test/u/1", "mailto:me", "https:///u/1", ":", "%zz"} {
		w := &world{answers: map[string]*http.Response{"POST https://": answer(http.StatusAccepted, "Location", location)}}
		err := push(clientIn(t, w, "registry.test", ociclient.Options{}))
		qt.Assert(t, qt.ErrorMatches(err, ".* Location header.*"), qt.Commentf("%q", location))
		qt.Assert(t, qt.HasLen(w.log, 1))
	}
}

// A location is relative to where a redirect led.
func TestBehaviour09_RedirectedPost(t *testing.T) {
	t.Parallel()
	w := &world{answers: map[string]*http.Response{
		"POST https://registry.test/": answer(http.StatusTemporaryRedirect, "Location", "https://eu.registry.test/v2/bar/blobs/uploads/"),
		"POST https://eu.":            answer(http.StatusAccepted, "Location", "1"),
		"PUT https://":                answer(http.StatusCreated),
	}}
	qt.Assert(t, qt.IsNil(push(clientIn(t, w, "registry.test", ociclient.Options{}))))
	qt.Assert(t, qt.DeepEquals(w.log, []string{
		"POST https://registry.test/v2/foo/blobs/uploads/ repository:foo:pull,push",
		"POST https://eu.registry.test/v2/bar/blobs/uploads/",
		"PUT https://eu.registry.test/v2/bar/blobs/uploads/1?digest=" + url.QueryEscape(string(contentDigest)),
	}))
}

// readerAt is a reader that is an [io.ReaderAt], and not an [io.Seeker].
type readerAt struct {
	io.Reader
	io.ReaderAt
}

// withBody is a reader that has GetBody.
type withBody struct{ io.Reader }

func (withBody) GetBody() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(content)), nil
}

func TestBehaviour10_WrongContent(t *testing.T) {
	t.Parallel()
	readers := map[string]func(string) io.Reader{
		"Seeker": func(s string) io.Reader { return strings.NewReader(s) },
		"Once":   once,
	}
	tests := []struct {
		name    string
		content string
		want    error
	}{
		{"shorter", content[:20], ociregistry.ErrSizeInvalid},
		{"empty", "", ociregistry.ErrSizeInvalid},
		{"longer", content + "s", ociregistry.ErrSizeInvalid},
		{"other", strings.ToUpper(content), ociregistry.ErrDigestInvalid},
	}
	for kind, reader := range readers {
		for _, test := range tests {
			for _, chunk := range []int{0, 5, 21} {
				srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), anyChunk)
				reg := clientOf(t, srv, ociclient.Options{ChunkSize: chunk}, newClock())
				_, err := reg.PushBlob(ctx, "foo", blobDesc(content), reader(test.content))
				comment := qt.Commentf("%s, %s, in chunks of %d", kind, test.name, chunk)
				qt.Assert(t, qt.ErrorIs(err, test.want), comment)
				if test.want == ociregistry.ErrSizeInvalid {
					for _, r := range srv.Requests("PUT ") {
						qt.Assert(t, qt.IsTrue(r.Body < int64(len(content))), comment)
					}
				}
				_, err = reg.ResolveBlob(ctx, "foo", blobDesc(content).Digest)
				qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown), comment)
				qt.Assert(t, qt.Equals(len(srv.Requests("POST ")), len(srv.Requests("DELETE "))), comment)
			}
		}
	}
	for _, wrong := range []error{ociregistry.ErrSizeInvalid, errors.New("a disk is on fire")} {
		reg, _ := faulty(t, ociclient.Options{ChunkSize: 5}, anyChunk)
		_, err := reg.PushBlob(ctx, "foo", blobDesc(content+content), io.MultiReader(strings.NewReader(content), failing{wrong}))
		qt.Assert(t, qt.ErrorIs(err, wrong))
	}
}

func TestBehaviour10_Replay(t *testing.T) {
	t.Parallel()
	readers := map[string]func() io.Reader{
		"Seeker":   func() io.Reader { return strings.NewReader(content) },
		"ReaderAt": func() io.Reader { return readerAt{strings.NewReader(content), strings.NewReader(content)} },
		"GetBody":  func() io.Reader { return withBody{strings.NewReader(content)} },
		"Seeker in the middle": func() io.Reader {
			r := strings.NewReader("before" + content)
			r.Seek(6, io.SeekStart)
			return r
		},
		"Small": func() io.Reader { return once(content) },
	}
	faults := map[string]rule{
		"503":         {On: "PUT ", Times: 2, Status: 503},
		"429":         {On: "PUT ", Times: 1, Status: 429},
		"401":         {On: "PUT ", Header: header{"Authorization": ""}, Status: 401, Set: header{"WWW-Authenticate": `Basic realm="x"`}},
		"cut":         {On: "PUT ", Times: 2, CutRequest: 10},
		"lost":        {On: "PUT ", Times: 1, Status: 500, LoseAnswer: true},
		"answered":    {On: "PUT ", Times: 1, LoseAnswer: true},
		"unreachable": {On: "POST ", Times: 3, LoseAnswer: true},
	}
	for kind, reader := range readers {
		for name, fault := range faults {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				backend := ocimem.New()
				srv := faultserver.New(t, ociserver.New(backend, nil), fault)
				transport := ociauth.NewStdTransport(ociauth.StdTransportParams{
					Transport: newTransport(t),
					Config:    everywhere{Username: "user", Password: "secret"},
				})
				reg := clientOf(t, srv, ociclient.Options{Transport: transport}, newClock())
				_, err := reg.PushBlob(ctx, "foo", blobDesc(content), reader())
				qt.Assert(t, qt.IsNil(err))
				wantBlob(t, backend, content)
			})
		}
	}
}

// everywhere has credentials for all registries.
type everywhere ociauth.ConfigEntry

func (c everywhere) EntryForRegistry(string) (ociauth.ConfigEntry, error) {
	return ociauth.ConfigEntry(c), nil
}

// anyChunk makes a registry take chunks of any size.
var anyChunk = rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": ""}}

// Of what cannot be read again, only a chunk is ever sent again.
func TestBehaviour10_Chunks(t *testing.T) {
	t.Parallel()
	blob := pattern(100)
	for _, fault := range []rule{{Status: 503}, {Status: 503, LoseAnswer: true}, {CutRequest: 4}} {
		fault.On, fault.Every = "PATCH ", 2
		backend := ocimem.New()
		srv := faultserver.New(t, ociserver.New(backend, nil), fault, anyChunk)
		reg := clientOf(t, srv, ociclient.Options{ChunkSize: 10}, newClock())
		_, err := reg.PushBlob(ctx, "foo", blobDesc(blob), once(blob))
		qt.Assert(t, qt.IsNil(err))
		wantBlob(t, backend, blob)
		for _, r := range srv.Requests("P") {
			qt.Assert(t, qt.IsTrue(r.Body <= 10))
		}
	}
}

// chunks returns how many bytes each request has had that sends some.
func chunks(srv *faultserver.Server) []int64 {
	var chunks []int64
	for _, r := range srv.Requests("P") {
		if r.Method != http.MethodPost {
			chunks = append(chunks, r.Body)
		}
	}
	return chunks
}

func TestBehaviour11_ChunkSizes(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	small := pattern(100)
	tests := []struct {
		name string
		blob string
		opts ociclient.Options
		min  string // OCI-Chunk-Min-Length
		want []int64
	}{
		{"by default", string(make([]byte, 20*mib)), ociclient.Options{}, "", []int64{8 * mib, 8 * mib, 4 * mib}},
		{"as set", small, ociclient.Options{ChunkSize: 40}, "", []int64{40, 40, 20}},
		{"as the registry says", small, ociclient.Options{ChunkSize: 10}, "60", []int64{60, 40}},
		{"more than the registry says", small, ociclient.Options{ChunkSize: 60}, "10", []int64{60, 40}},
		{"all that the registry wants", small, ociclient.Options{ChunkSize: 10}, "100", []int64{100}},
		{"a lie", small, ociclient.Options{ChunkSize: 10, MaxChunkSize: 30}, "1000000000000000000", []int64{30, 30, 30, 10}},
		{"a lie, by default", small, ociclient.Options{ChunkSize: 10}, "1000000000000000000", []int64{100}},
		{"a negative lie", small, ociclient.Options{ChunkSize: 50}, "-5", []int64{50, 50}},
		{"nonsense", small, ociclient.Options{ChunkSize: 50}, "99999999999999999999999", []int64{50, 50}},
		{"one chunk exactly", small, ociclient.Options{ChunkSize: 100}, "", []int64{100}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": test.min}})
			reg := clientOf(t, srv, test.opts, newClock())
			_, err := reg.PushBlob(ctx, "foo", blobDesc(test.blob), once(test.blob))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(chunks(srv), test.want))
		})
	}
}

func TestBehaviour11_WriterChunkSize(t *testing.T) {
	t.Parallel()
	tests := []struct{ asked, want int }{{0, 8 << 20}, {10, 60}, {100, 100}, {math.MaxInt, 64 << 20}}
	for _, test := range tests {
		srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": "60"}})
		w, err := clientOf(t, srv, ociclient.Options{}, newClock()).PushBlobChunked(ctx, "foo", test.asked)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(w.ChunkSize(), test.want))
		qt.Assert(t, qt.IsNil(w.Cancel()))
	}
}

// A registry of which each chunk but the last must have its least size gets none
// that is smaller, however the caller's come, in one proxy or another.
func TestBehaviour11_TailOfAChunk(t *testing.T) {
	t.Parallel()
	const least = 60
	blob := pattern(1000)
	srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": strconv.Itoa(least)}})
	for _, opts := range []ociclient.Options{{}, {ChunkSize: 10}, {ChunkSize: 100}, {ChunkSize: 1000}} {
		proxy := func() ociregistry.Interface { return clientOf(t, srv, opts, newClock()) }
		for _, size := range []int{60, 61, 99, 100, 119, 120, 121, 179, 200, 333, 1000} {
			w, err := proxy().PushBlobChunked(ctx, "foo", 0)
			qt.Assert(t, qt.IsNil(err))
			id := w.ID()
			qt.Assert(t, qt.IsNil(w.Close()))
			sent := 0
			for ; len(blob)-sent > size; sent += size { // each as a PATCH of a proxy's client
				w, err := proxy().PushBlobChunkedResume(ctx, "foo", id, int64(sent), 0)
				qt.Assert(t, qt.IsNil(err))
				for part := blob[sent : sent+size]; part != ""; { // as it comes
					n := min(len(part), 1+size/7)
					_, err = io.WriteString(w, part[:n])
					qt.Assert(t, qt.IsNil(err))
					part = part[n:]
				}
				qt.Assert(t, qt.Equals(w.Size(), int64(sent+size)))
				qt.Assert(t, qt.IsNil(w.Close()))
				id = w.ID()
			}
			w, err = proxy().PushBlobChunkedResume(ctx, "foo", id, int64(sent), 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = io.WriteString(w, blob[sent:])
			qt.Assert(t, qt.IsNil(err))
			_, err = w.Commit(digest.FromString(blob))
			qt.Assert(t, qt.IsNil(err))
			wantBlob(t, proxy(), blob)
			for _, r := range srv.Requests("PATCH ") {
				qt.Assert(t, qt.IsTrue(r.Body >= least), qt.Commentf("a chunk of %d bytes of %d, %+v", r.Body, size, opts))
			}
			srv.Lines()
		}
	}
}

func TestBehaviour11_ChunkAnswers(t *testing.T) {
	t.Parallel()
	session := header{"Location": uploads + "1"}
	tests := []struct {
		name   string
		status int
		ranges string
	}{
		{"202", 202, "0-19"}, {"201", 201, "0-19"}, {"204", 204, "0-19"},
		{"with a unit", 202, "bytes=0-19"}, {"without a range", 202, ""}, {"with no range", 202, "yes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := scripted(t,
				rule{On: "POST ", Status: 202, Set: session},
				rule{On: "PATCH ", Header: header{"Content-Range": "0-19"}, Body: content[:20], Status: test.status, Set: header{"Range": test.ranges, "Location": uploads + "2"}},
				rule{On: "PUT " + uploads + "2?digest=", Header: header{"Content-Range": "20-20"}, Body: content[20:], Status: 201},
			)
			w, err := reg.PushBlobChunked(ctx, "foo", 20)
			qt.Assert(t, qt.IsNil(err))
			_, err = io.WriteString(w, content[:11])
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(w.Size(), 11))
			_, err = io.WriteString(w, content[11:])
			qt.Assert(t, qt.IsNil(err))
			desc, err := w.Commit(contentDigest)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(desc.Size, int64(len(content))))
			qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"POST", "PATCH", "PUT"}))
		})
	}
}

// What a registry took less than it was sent of, is sent again, whatever it claims
// beside its success: the session knows.
func TestBehaviour11_PartTaken(t *testing.T) {
	t.Parallel()
	for _, claim := range []string{"0-4", "0-2", "0-99", "0-0"} {
		backend := ociserver.New(ocimem.New(), nil)
		srv := faultserver.New(t, backend, anyChunk, rule{On: "PATCH ", Times: 1, Set: header{"Range": claim}, Handler: func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(io.LimitReader(req.Body, 5))
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), 5
			req.Header.Set("Content-Range", "0-4")
			backend.ServeHTTP(w, req)
		}})
		reg := clientOf(t, srv, ociclient.Options{ChunkSize: 10}, newClock())
		_, err := reg.PushBlob(ctx, "foo", blobDesc(content), once(content))
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", claim))
		wantBlob(t, reg, content)
	}
}
