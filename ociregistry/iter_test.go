package ociregistry_test

import (
	"io"
	"iter"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestAll_CollectsUpToAnError(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		seq     iter.Seq2[string, error]
		want    []string
		wantErr error
	}{
		{"none", ociregistry.SliceSeq[string](nil), nil, nil},
		{"some", ociregistry.SliceSeq([]string{"a", "b"}), []string{"a", "b"}, nil},
		{"error", ociregistry.ErrorSeq[string](io.ErrUnexpectedEOF), nil, io.ErrUnexpectedEOF},
		{"some and error", func(yield func(string, error) bool) {
			_ = yield("a", nil) && yield("b", nil) && yield("", io.ErrUnexpectedEOF)
		}, []string{"a", "b"}, io.ErrUnexpectedEOF},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// Twice, since a sequence can be ranged over again.
			for range 2 {
				got, err := ociregistry.All(test.seq)
				qt.Check(t, qt.DeepEquals(got, test.want))
				qt.Check(t, qt.Equals(err, test.wantErr))
			}
		})
	}
}

func TestAllStopsAtAnError(t *testing.T) {
	t.Parallel()
	seq := func(yield func(string, error) bool) {
		qt.Check(t, qt.IsFalse(yield("", io.ErrUnexpectedEOF)))
	}
	_, err := ociregistry.All(seq)
	qt.Check(t, qt.Equals(err, io.ErrUnexpectedEOF))
}

func TestSequencesStopEarly(t *testing.T) {
	t.Parallel()
	// A sequence that went on after the break would panic.
	for x, err := range ociregistry.SliceSeq([]int{1, 2, 3}) {
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(x, 1))
		break
	}
	for x, err := range ociregistry.ErrorSeq[int](io.EOF) {
		qt.Check(t, qt.Equals(err, io.EOF))
		qt.Check(t, qt.Equals(x, 0))
		break
	}
}

func TestErrorSeqHasOneElement(t *testing.T) {
	t.Parallel()
	n := 0
	for desc, err := range ociregistry.ErrorSeq[ociregistry.Descriptor](io.EOF) {
		n++
		qt.Check(t, qt.Equals(err, io.EOF))
		qt.Check(t, qt.DeepEquals(desc, ociregistry.Descriptor{}))
	}
	qt.Check(t, qt.Equals(n, 1))
}
