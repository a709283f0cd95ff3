package repostate

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// TestOperationsFormat holds the format of operations to what is on the disks of users.
func TestOperationsFormat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		op   Op
		want string
	}{
		{Op{Kind: PutManifest, Digest: "sha256:d", MediaType: "text/plain", Size: 300, Text: "{}", Tags: []string{"v1", "v2"}},
			"M\x08sha256:d\x0atext/plain\xac\x02\x00\x02{}\x02\x02v1\x02v2"},
		{Op{Kind: PutManifest, Digest: "sha256:d", MediaType: "x/y", Size: 1, Blob: true, Tags: []string{}}, "M\x08sha256:d\x03x/y\x01\x01\x00\x00"},
		{Op{Kind: DeleteTags, Tags: []string{"v1"}}, "t\x01\x02v1"},
		{Op{Kind: DeleteManifest, Digest: "sha256:d"}, "m\x08sha256:d"},
		{Op{Kind: PutBlob, Digest: "sha256:d", Text: "text"}, "B\x08sha256:d\x04text"},
		{Op{Kind: DeleteBlob, Digest: "sha256:d"}, "b\x08sha256:d"},
	} {
		got := string(AppendOps(nil, []Op{test.op}))
		qt.Check(t, qt.Equals(got, test.want))
		ops, err := ParseOps(test.want + test.want)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(ops, 2))
		qt.Check(t, qt.DeepEquals([]any{ops[1].Kind, ops[1].Digest, ops[1].MediaType, ops[1].Size, ops[1].Blob, ops[1].Text, ops[1].Tags},
			[]any{test.op.Kind, test.op.Digest, test.op.MediaType, test.op.Size, test.op.Blob, test.op.Text, test.op.Tags}))
		for n := 1; n < len(test.want); n++ {
			_, err := ParseOps(test.want[:n])
			qt.Check(t, qt.ErrorIs(err, ErrMalformed), qt.Commentf("%q", test.want[:n]))
		}
	}
	_, err := ParseOps("?")
	qt.Check(t, qt.ErrorIs(err, ErrMalformed))
}

// FuzzParseOps reads any text as operations: those that it is are written as it, but
// that numbers have shorter forms.
func FuzzParseOps(f *testing.F) {
	f.Add(string(AppendOps(nil, []Op{
		{Kind: PutManifest, Digest: "sha256:d", MediaType: "x/y", Size: 3, Text: "abc", Tags: []string{"v1"}},
		{Kind: DeleteTags, Tags: []string{"v1"}},
		{Kind: PutBlob, Digest: ociregistry.Digest("sha512:d"), Text: "text"},
	})))
	f.Fuzz(func(t *testing.T, text string) {
		ops, err := ParseOps(text)
		if err != nil {
			return
		}
		written := AppendOps(nil, ops)
		if len(written) > len(text) {
			t.Fatalf("%q was read from %q", written, text)
		}
		again, err := ParseOps(string(written))
		if err != nil || len(again) != len(ops) {
			t.Fatalf("%q: %v", written, err)
		}
	})
}
