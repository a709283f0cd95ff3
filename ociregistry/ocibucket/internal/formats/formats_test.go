package formats_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

var digest = ociregistry.Digest("sha256:" + strings.Repeat("ab", 32))

// A form is an encoded object, and what reads it.
type form struct {
	name   string
	encode func() []byte
	decode func(text string) (any, error)
	want   any
}

func of[T any](name string, v T, encode func(*T) []byte, decode func(string) (T, error)) form {
	return form{name, func() []byte { return encode(&v) }, func(text string) (any, error) { return decode(text) }, v}
}

func forms() []form {
	t0 := time.Unix(1_800_000_000, 0)
	n, m := formats.Nonce(), formats.Nonce()
	return []form{
		of("inline link", formats.Link{Status: formats.Live, Nonce: n, Reference: m, T0: t0, Size: 3, Inline: "abc"}, (*formats.Link).Encode, formats.DecodeLink),
		of("empty link", formats.Link{Status: formats.Live, Nonce: n, Reference: m, T0: t0}, (*formats.Link).Encode, formats.DecodeLink),
		of("link", formats.Link{Status: formats.Condemned, Nonce: n, Reference: m, Size: 1 << 40, Data: "D"}, (*formats.Link).Encode, formats.DecodeLink),
		of("dead link", formats.Link{Status: formats.Dead, Nonce: n}, (*formats.Link).Encode, formats.DecodeLink),
		of("marker", formats.Marker{Status: formats.Doomed, T0: t0}, (*formats.Marker).Encode, formats.DecodeMarker),
		of("manifest", formats.Manifest{Status: formats.Live, Text: "{}"}, (*formats.Manifest).Encode, formats.DecodeManifest),
		of("record", formats.Record{T0: t0, Text: "text", Base: 7, Carried: []formats.Carried{{t0, ""}, {t0.Add(time.Hour), "more"}}}, (*formats.Record).Encode, formats.DecodeRecord),
		of("snapshot", formats.Snapshot{Number: 9, Dead: []formats.DeadLink{{n, digest}}, ManifestTimes: []int64{1, 2}, TagTimes: []int64{3}, State: "state"}, (*formats.Snapshot).Encode, formats.DecodeSnapshot),
		of("session", formats.Session{
			Status: formats.Open, Repository: "a/b", Algorithm: "sha256", Hash: []byte("state"), Size: 10, Data: "D", Upload: "U", Claimed: 4,
			Parts: []objstore.Part{{Number: 1, ETag: "e", Size: 6}}, Tail: "T", Inline: "", Digest: digest, Nonce: n, T0: t0,
		}, (*formats.Session).Encode, formats.DecodeSession),
		of("pulls", formats.Pulls{"a/b": {digest: 9, digest[:70] + "c": 1_800_000_000}, "c": {digest: 7}}, func(p *formats.Pulls) []byte { return p.Encode() }, formats.DecodePulls),
		of("news", news, encodeNews, func(text string) ([]formats.Changed, error) { return formats.DecodeNews(text, formats.NewsHeader) }),
		of("gone session", formats.Session{Status: formats.Gone, Repository: "a", Data: "D", Upload: "U"}, (*formats.Session).Encode, formats.DecodeSession),
	}
}

var news = []formats.Changed{
	{Repository: "a/b", Manifests: true, Blobs: []ociregistry.Digest{digest, "sha512:" + digest[7:] + digest[7:]}},
	{Repository: "c", Found: &formats.Found{Number: 300, Links: formats.LinkIDOf(digest)}},
}

func encodeNews(news *[]formats.Changed) []byte {
	var parts []byte
	for i := range *news {
		parts = formats.AppendChanged(parts, &(*news)[i])
	}
	return formats.EncodeNews(parts)
}

func TestNews_AreReadFromWhereTheyEndedBefore(t *testing.T) {
	t.Parallel()
	before := news[:1]
	got, err := formats.DecodeNews(string(encodeNews(&news)), int64(len(encodeNews(&before))))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, news[1:]))
}

func TestForms_AreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for _, f := range forms() {
		got, err := f.decode(string(f.encode()))
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", f.name))
		qt.Check(t, qt.DeepEquals(got, f.want), qt.Commentf("%s", f.name))
	}
}

func TestOperations_AreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	n, m := formats.Nonce(), formats.Nonce()
	push := &repostate.Op{Kind: repostate.PutManifest, Digest: digest, MediaType: "x/y", Size: 3, Text: "{ }", Tags: []string{"v1", "v2"}}
	want := []formats.Operation{{ID: n, Op: push}, {ID: m, Digest: digest, Nonce: n}, {ID: m, Op: &repostate.Op{Kind: repostate.DeleteManifest, Digest: digest}, Collected: true}}
	text := formats.EncodeOperations(want)
	got, err := formats.DecodeOperations(text)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, want))
	whole := map[int]bool{0: true, len(formats.EncodeOperations(want[:1])): true, len(formats.EncodeOperations(want[:2])): true}
	for n := range len(text) {
		_, err := formats.DecodeOperations(text[:n])
		qt.Check(t, qt.Equals(err == nil, whole[n]), qt.Commentf("%d bytes", n))
	}
}

// Equal bytes may have equal ETags.
func TestForms_AreNeverTheSameTwice(t *testing.T) {
	t.Parallel()
	for _, f := range forms() {
		qt.Check(t, qt.Not(qt.Equals(string(f.encode()), string(f.encode()))), qt.Commentf("%s", f.name))
	}
}

func TestForms_RefuseWhatIsCutShortOrOfAnotherKind(t *testing.T) {
	t.Parallel()
	for _, f := range forms() {
		text := string(f.encode())
		_, err := f.decode("X9" + text[2:])
		qt.Check(t, qt.ErrorIs(err, formats.ErrMalformed), qt.Commentf("%s", f.name))
		for n := range min(len(text), 60) {
			_, err := f.decode(text[:n])
			if err != nil {
				qt.Check(t, qt.ErrorIs(err, formats.ErrMalformed), qt.Commentf("%s", f.name))
			}
		}
		_, err = f.decode(text[:29-1])
		qt.Check(t, qt.ErrorIs(err, formats.ErrMalformed), qt.Commentf("%s", f.name))
	}
}

func TestDeadLink_IsKnownByItsSize(t *testing.T) {
	t.Parallel()
	dead := formats.Link{Status: formats.Dead, Nonce: formats.Nonce()}
	qt.Check(t, qt.Equals(int64(len(dead.Encode())), formats.DeadLinkSize))
	smallest := formats.Link{Status: formats.Live, Nonce: formats.Nonce(), Reference: formats.Nonce()}
	qt.Check(t, qt.IsTrue(int64(len(smallest.Encode())) > formats.DeadLinkSize))
}

func FuzzDecode(f *testing.F) {
	for _, form := range forms() {
		f.Add(string(form.encode()))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, form := range forms() {
			form.decode(text)
		}
		formats.DecodeOperations(text)
	})
}
