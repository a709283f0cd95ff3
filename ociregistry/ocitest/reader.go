package ocitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

var readClauses = []clause{
	{name: "Blob", run: readBlob},
	{name: "BlobOfEachSize", run: readBlobSizes},
	{name: "BlobSHA512", run: readBlobSHA512},
	{name: "ManifestAndTag", run: readManifest},
	{name: "UnknownBlob", run: readUnknownBlob},
	{name: "UnknownManifest", run: readUnknownManifest},
	{name: "UnknownRepository", run: readUnknownRepository},
	{name: "OtherRepository", run: readOtherRepository},
	{name: "Range", run: readRange},
	{name: "RangeOfEmptyBlob", run: readEmptyRange},
	{name: "RangeOfUnknownBlob", run: readUnknownRange},
	{name: "ReadersAreGood", run: readersAreGood},
	{name: "ReadersAreIndependent", run: readersAreIndependent},
	{name: "BuffersAreTheCallers", run: readBuffers},
	{name: "WriterTo", run: readWriterTo},
}

func readBlob(t *test) {
	data := []byte("hello, world")
	desc := t.mustPushBlob("foo", data)
	t.wantBlob("foo", data, desc.Digest)
}

// The sizes are near the usual sizes of buffers and chunks.
func readBlobSizes(t *test) {
	for _, size := range []int64{0, 1, 511, 512, 513, 4095, 4096, 4097, 32 << 10, 64<<10 + 1, 256 << 10, 1<<20 - 1, 1<<20 + 1} {
		data := content(1, size)
		desc := t.mustPushBlob("foo", data)
		t.wantBlob("foo", data, desc.Digest)
	}
}

func readBlobSHA512(t *test) {
	data := []byte("hello")
	d := digest.SHA512.FromBytes(data)
	t.mustPushBlobAs("foo", d, data)
	t.wantBlob("foo", data, d)
}

func readManifest(t *test) {
	image := t.mustPushImage("foo", 1, "v1", "v2")
	t.wantManifest("foo", image.Manifest, image.Descriptor, "v1", "v2")
}

func readUnknownBlob(t *test) {
	t.mustPushBlob("foo", []byte("x"))
	for _, d := range []ociregistry.Digest{digest.FromString("y"), digest.SHA512.FromString("x")} {
		_, _, err := read(t.reg.GetBlob(t.Context(), "foo", d))
		t.wantErr(err, is(ociregistry.ErrBlobUnknown), "GetBlob of an unknown blob")
		_, err = t.reg.ResolveBlob(t.Context(), "foo", d)
		t.wantErr(err, is(ociregistry.ErrBlobUnknown), "ResolveBlob of an unknown blob")
	}
}

// A blob cannot be read as a manifest, whatever its content.
func readUnknownManifest(t *test) {
	image := t.mustPushImage("foo", 1)
	other := NewImage(Spec{Seed: 1, Annotations: map[string]string{"a": "b"}})
	t.mustPushBlob("foo", other.Manifest)
	for _, test := range []struct {
		name   string
		digest ociregistry.Digest
	}{
		{"an unknown digest", digest.FromString("unknown")},
		{"a blob", image.Blobs[0].Descriptor.Digest},
		{"a blob that could be a manifest", other.Descriptor.Digest},
	} {
		_, _, err := read(t.reg.GetManifest(t.Context(), "foo", test.digest))
		t.wantErr(err, is(ociregistry.ErrManifestUnknown), "GetManifest of %s", test.name)
		_, err = t.reg.ResolveManifest(t.Context(), "foo", test.digest)
		t.wantErr(err, is(ociregistry.ErrManifestUnknown), "ResolveManifest of %s", test.name)
	}
	_, _, err := read(t.reg.GetTag(t.Context(), "foo", "v1"))
	t.wantErr(err, is(ociregistry.ErrManifestUnknown), "GetTag of an unknown tag")
	_, err = t.reg.ResolveTag(t.Context(), "foo", "v1")
	t.wantErr(err, is(ociregistry.ErrManifestUnknown), "ResolveTag of an unknown tag")
}

func readUnknownRepository(t *test) {
	t.mustPushBlob("foo/bar", []byte("x"))
	ctx, d, unknown := t.Context(), digest.FromString("x"), is(ociregistry.ErrNameUnknown)
	for _, repo := range []string{"foo", "foo/bar/x", "bar"} {
		_, _, err := read(t.reg.GetBlob(ctx, repo, d))
		t.wantErr(err, unknown, "GetBlob in the unknown repository %s", repo)
		_, _, err = read(t.reg.GetBlobRange(ctx, repo, d, 0, -1))
		t.wantErr(err, unknown, "GetBlobRange in the unknown repository %s", repo)
		_, _, err = read(t.reg.GetManifest(ctx, repo, d))
		t.wantErr(err, unknown, "GetManifest in the unknown repository %s", repo)
		_, _, err = read(t.reg.GetTag(ctx, repo, "v1"))
		t.wantErr(err, unknown, "GetTag in the unknown repository %s", repo)
		_, err = t.reg.ResolveBlob(ctx, repo, d)
		t.wantErr(err, t.unknownTo(ociregistry.ErrBlobUnknown), "ResolveBlob in the unknown repository %s", repo)
		_, err = t.reg.ResolveManifest(ctx, repo, d)
		t.wantErr(err, t.unknownTo(ociregistry.ErrManifestUnknown), "ResolveManifest in the unknown repository %s", repo)
		_, err = t.reg.ResolveTag(ctx, repo, "v1")
		t.wantErr(err, t.unknownTo(ociregistry.ErrManifestUnknown), "ResolveTag in the unknown repository %s", repo)
	}
}

// The content of one repository cannot be read from another.
func readOtherRepository(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	t.mustPushBlob("bar", []byte("x"))
	t.wantNoBlob("bar", image.Blobs[0].Descriptor.Digest, "when only foo has it")
	t.wantNoManifest("bar", image.Descriptor.Digest, "when only foo has it")
	t.wantNoTag("bar", "v1", "when only foo has it")
}

func readRange(t *test) {
	data := []byte("0123456789")
	desc := t.mustPushBlob("foo", data)
	for _, test := range []struct {
		offset0, offset1 int64
		want             string
	}{
		{0, -1, "0123456789"},
		{0, 10, "0123456789"},
		{0, 11, "0123456789"},
		{0, math.MaxInt64, "0123456789"},
		{0, math.MinInt64, "0123456789"},
		{0, 1, "0"},
		{3, 7, "3456"},
		{3, -1, "3456789"},
		{3, 100, "3456789"},
		{9, 10, "9"},
		{9, -1, "9"},
		{0, 0, ""},
		{5, 5, ""},
		{10, -1, ""},
		{10, 10, ""},
		{10, 20, ""},
	} {
		r, err := t.reg.GetBlobRange(t.Context(), "foo", desc.Digest, test.offset0, test.offset1)
		t.wantContent(r, err, []byte(test.want), desc, rangeName(test.offset0, test.offset1))
	}
	for _, test := range []struct{ offset0, offset1 int64 }{
		{-1, -1}, {-1, 5}, {-10, 0}, {math.MinInt64, -1}, {11, -1}, {11, 12}, {math.MaxInt64, -1}, {math.MaxInt64, math.MaxInt64},
		{7, 3}, {10, 9}, {1, 0}, {11, 3},
	} {
		_, _, err := read(t.reg.GetBlobRange(t.Context(), "foo", desc.Digest, test.offset0, test.offset1))
		t.wantErr(err, is(ociregistry.ErrRangeInvalid), "%s", rangeName(test.offset0, test.offset1))
	}
}

func rangeName(offset0, offset1 int64) string {
	return fmt.Sprintf("GetBlobRange from %d to %d", offset0, offset1)
}

func readEmptyRange(t *test) {
	desc := t.mustPushBlob("foo", nil)
	for _, offset1 := range []int64{-1, 0, 1} {
		r, err := t.reg.GetBlobRange(t.Context(), "foo", desc.Digest, 0, offset1)
		t.wantContent(r, err, nil, desc, "GetBlobRange of an empty blob")
	}
	_, _, err := read(t.reg.GetBlobRange(t.Context(), "foo", desc.Digest, 1, -1))
	t.wantErr(err, is(ociregistry.ErrRangeInvalid), "GetBlobRange of an empty blob from byte 1")
}

func readUnknownRange(t *test) {
	t.mustPushBlob("foo", []byte("x"))
	_, _, err := read(t.reg.GetBlobRange(t.Context(), "foo", digest.FromString("y"), 0, 1))
	t.wantErr(err, is(ociregistry.ErrBlobUnknown), "GetBlobRange of an unknown blob")
}

// Readers keep the contracts of package io, including those of Seeker and ReaderAt if they
// implement these.
func readersAreGood(t *test) {
	data := content(1, 20_000)
	desc := t.mustPushBlob("foo", data)
	image := t.mustPushImage("foo", 1, "v1")
	ctx := t.Context()
	for _, test := range []struct {
		what string
		open func() (ociregistry.BlobReader, error)
		want []byte
	}{
		{"GetBlob", func() (ociregistry.BlobReader, error) { return t.reg.GetBlob(ctx, "foo", desc.Digest) }, data},
		{"GetBlobRange", func() (ociregistry.BlobReader, error) {
			return t.reg.GetBlobRange(ctx, "foo", desc.Digest, 5000, 15_000)
		}, data[5000:15_000]},
		{"GetManifest", func() (ociregistry.BlobReader, error) {
			return t.reg.GetManifest(ctx, "foo", image.Descriptor.Digest)
		}, image.Manifest},
		{"GetTag", func() (ociregistry.BlobReader, error) { return t.reg.GetTag(ctx, "foo", "v1") }, image.Manifest},
	} {
		r, err := test.open()
		t.must(err, "%s", test.what)
		if err := iotest.TestReader(r, test.want); err != nil {
			t.Errorf("%s: the reader does not keep the contract of package io: %v", test.what, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: Close: %v", test.what, err)
		}
	}
}

func readersAreIndependent(t *test) {
	data := content(1, 100_000)
	desc := t.mustPushBlob("foo", data)
	first, err := t.reg.GetBlob(t.Context(), "foo", desc.Digest)
	t.must(err, "GetBlob")
	second, err := t.reg.GetBlob(t.Context(), "foo", desc.Digest)
	t.must(err, "GetBlob again")
	head := make([]byte, 50_000)
	if _, err := io.ReadFull(first, head); err != nil {
		t.Errorf("half of a blob: %v", err)
	}
	t.wantContent(second, nil, data, desc, "the second of two readers")
	rest, _, err := read(first, nil)
	if diff := diffBytes(append(head, rest...), data); diff != "" || err != nil {
		t.Errorf("the first of two readers: error %v, %s", err, diff)
	}
}

// Modifying the bytes that a reader returned does not modify the content.
func readBuffers(t *test) {
	data := content(1, 10_000)
	desc := t.mustPushBlob("foo", data)
	image := t.mustPushImage("foo", 1, "v1")
	spoil := func(r ociregistry.BlobReader, err error) {
		t.must(err, "opening a reader")
		p := t.mustReadN(r, int(r.Descriptor().Size))
		t.must(r.Close(), "Close of a reader")
		clear(p)
	}
	for range 2 {
		spoil(t.reg.GetBlob(t.Context(), "foo", desc.Digest))
		spoil(t.reg.GetTag(t.Context(), "foo", "v1"))
	}
	t.wantBlob("foo", data, desc.Digest)
	t.wantManifest("foo", image.Manifest, image.Descriptor, "v1")
}

// WriteTo continues where Read stopped, and returns the writer's error.
func readWriterTo(t *test) {
	data := content(1, 600_000)
	desc := t.mustPushBlob("foo", data)
	open := func() (ociregistry.BlobReader, io.WriterTo) {
		r, err := t.reg.GetBlob(t.Context(), "foo", desc.Digest)
		t.must(err, "GetBlob")
		wt, _ := r.(io.WriterTo)
		return r, wt
	}
	r, wt := open()
	defer r.Close()
	if wt == nil {
		return
	}
	var got bytes.Buffer
	if _, err := io.CopyN(&got, struct{ io.Reader }{r}, 1000); err != nil {
		t.Errorf("1000 bytes: %v", err)
	}
	n, err := wt.WriteTo(&got)
	if diff := diffBytes(got.Bytes(), data); err != nil || n != desc.Size-1000 || diff != "" {
		t.Errorf("WriteTo after 1000 bytes were read: %d bytes, error %v; %s", n, err, diff)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read after WriteTo: %d bytes, error %v; want EOF", n, err)
	}

	r, wt = open()
	defer r.Close()
	full := &fullWriter{room: 1000}
	if n, err := wt.WriteTo(full); !errors.Is(err, errFull) || n != 1000 {
		t.Errorf("WriteTo a writer that fails after 1000 bytes: %d bytes, error %v; want 1000 and the writer's error", n, err)
	}
}

var errFull = errors.New("the writer is full")

// fullWriter accepts room bytes and then fails.
type fullWriter struct{ room int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if len(p) > w.room {
		n := w.room
		w.room = 0
		return n, errFull
	}
	w.room -= len(p)
	return len(p), nil
}
