package verified_test

import (
	"bytes"
	_ "crypto/sha512"
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
)

// reader is a verified.Reader with any state.
type reader struct {
	io.Reader
	state verified.State
}

func (r *reader) Verified() verified.State { return r.state }

func TestHashHasSumOfReader(t *testing.T) {
	t.Parallel()
	const text = "some content"
	d, other := digest.FromString(text), digest.FromString("other content")
	zeros := digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat("0", 64))
	whole := func(d digest.Digest) verified.State {
		return verified.State{Digest: d, Read: int64(len(text)), Ended: true}
	}
	tests := []struct {
		testName   string
		begin, end verified.State
		content    string // that is written
		digest     digest.Digest
		want       bool
	}{
		{"verified", verified.State{Digest: d}, whole(d), text, d, true},
		{"what is verified is not hashed again", verified.State{Digest: d}, whole(d), "same length!", d, true},
		{"not ended", verified.State{Digest: d}, verified.State{Digest: d, Read: int64(len(text))}, text, d, false},
		{"not ended, and the digest is zero", verified.State{Digest: zeros}, verified.State{Digest: zeros, Read: int64(len(text))}, text, zeros, false},
		{"read by somebody else as well", verified.State{Digest: d}, whole(d), text[:4], d, false},
		{"given more than was read", verified.State{Digest: d}, whole(d), text + text, d, false},
		{"verifies no more", verified.State{Digest: d}, verified.State{}, text, d, false},
		{"begun before", verified.State{Digest: d, Read: 4}, whole(d), "same length!", d, false},
		{"begun before, hashed here", verified.State{Digest: d, Read: 4}, whole(d), text, d, true},
		{"verified something else", verified.State{Digest: other}, whole(other), text, d, true},
		{"something else is right", verified.State{Digest: other}, whole(other), "same length!", d, false},
		{"does not verify", verified.State{}, verified.State{}, text, d, true},
		{"does not verify, and is wrong", verified.State{}, verified.State{}, "same length!", d, false},
	}
	for _, test := range tests {
		t.Run(test.testName, func(t *testing.T) {
			t.Parallel()
			r := &reader{state: test.begin}
			h := verified.Hash(r, test.digest)
			io.WriteString(h, test.content)
			r.state = test.end
			sum := h.Sum([]byte("prefix"))
			qt.Assert(t, qt.IsTrue(bytes.HasPrefix(sum, []byte("prefix"))))
			got := digest.NewDigestFromBytes(digest.SHA256, sum[len("prefix"):])
			qt.Assert(t, qt.Equals(got == test.digest, test.want))
		})
	}
}

func TestHashOfOtherReaderHashes(t *testing.T) {
	t.Parallel()
	d := digest.SHA512.FromString("text")
	h := verified.Hash(strings.NewReader("text"), d)
	io.WriteString(h, "text")
	qt.Assert(t, qt.Equals(digest.NewDigestFromBytes(digest.SHA512, h.Sum(nil)), d))
	qt.Assert(t, qt.Equals(verified.By(strings.NewReader("text")), verified.State{}))
	qt.Assert(t, qt.Equals(verified.By(&reader{state: verified.State{Digest: d}}), verified.State{Digest: d}))
}
