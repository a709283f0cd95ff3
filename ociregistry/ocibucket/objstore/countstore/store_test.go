package countstore_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/countstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/storetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) objstore.Store { return countstore.New(memstore.New(nil)) })
}

func TestCounts_HaveEachRequest(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := countstore.New(memstore.New(nil))
	var log []string
	s.Log = func(op, key string) { log = append(log, op+" "+key) }
	s.Put(ctx, "a", nil, objstore.Condition{})
	s.Get(ctx, "a", objstore.Range{})
	s.Get(ctx, "b", objstore.Range{})
	s.List(ctx, objstore.ListOptions{Prefix: "a"})
	up, _ := s.CreateMultipart(ctx, "d")
	part, _ := s.PutPart(ctx, up, 1, []byte("x"))
	s.ListParts(ctx, up, 0)
	s.CompleteMultipart(ctx, up, []objstore.Part{part}, objstore.Condition{})
	s.AbortMultipart(ctx, up)
	s.ListMultiparts(ctx, objstore.MultipartOptions{Prefix: "d"})
	s.Delete(ctx, "a", objstore.Condition{})
	s.Presign(ctx, "a", objstore.PresignOptions{})
	want := "AbortMultipart:1 CompleteMultipart:1 CreateMultipart:1 Delete:1 Get:2 List:1 ListMultiparts:1 ListParts:1 Put:1 PutPart:1"
	qt.Check(t, qt.Equals(s.Counts().String(), want))
	qt.Check(t, qt.Equals(s.Counts().Total(), 11))
	qt.Check(t, qt.HasLen(log, 11))
	qt.Check(t, qt.Equals(log[2], "Get b"))
	qt.Check(t, qt.Equals(s.Reset().Total(), 11))
	qt.Check(t, qt.Equals(s.Counts().Total(), 0))
}
