package ociclient_test

import (
	"io"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Readers verify a whole blob that is read from its beginning to its end without a Seek.
func TestReadersTellWhatTheyVerified(t *testing.T) {
	t.Parallel()
	begun := verified.State{Digest: contentDigest}
	ended := verified.State{Digest: contentDigest, Read: int64(len(content)), Ended: true}
	seek := func(to int64) func(io.ReadSeeker) {
		return func(r io.ReadSeeker) { r.Seek(to, io.SeekStart) }
	}
	tests := []struct {
		name       string
		parts      int
		open       func(ociregistry.Interface) (ociregistry.BlobReader, error)
		before     func(io.ReadSeeker)
		begin, end verified.State
	}{
		{"a blob", 0, getBlob, nil, begun, ended},
		{"a blob in parts", 4, getBlob, nil, begun, ended},
		{"a blob that was begun", 0, getBlob, func(r io.ReadSeeker) { io.CopyN(io.Discard, r, 3) }, verified.State{Digest: contentDigest, Read: 3}, ended},
		{"after a jump", 0, getBlob, seek(3), verified.State{}, verified.State{}},
		{"back at the beginning", 0, getBlob, func(r io.ReadSeeker) { io.CopyN(io.Discard, r, 3); seek(0)(r) }, verified.State{}, ended},
		{"a part", 0, getRange, nil, verified.State{}, verified.State{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, _ := faulty(t, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: test.parts, PartSize: 5}})
			r, err := test.open(reg)
			qt.Assert(t, qt.IsNil(err))
			defer r.Close()
			if test.before != nil {
				test.before(r.(io.ReadSeeker))
			}
			qt.Check(t, qt.Equals(verified.By(r), test.begin))
			_, err = io.Copy(io.Discard, r)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(verified.By(r), test.end))
		})
	}

	reg, _ := scripted(t, rule{On: "GET *", Status: 200, Answer: pattern(len(content))})
	r, err := getBlob(reg)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	qt.Check(t, qt.Equals(verified.By(r), verified.State{Digest: contentDigest, Read: int64(len(content))}))
}
