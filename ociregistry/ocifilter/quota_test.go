package ocifilter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// quotaBed is a registry in which team may have 100 bytes, and team/a may have 60 of them.
type quotaBed struct {
	t     *testing.T
	open  func(t *testing.T) backend
	below backend
	ociregistry.Interface
}

type backend interface {
	ociregistry.UsageReporter
	ocigc.Collector
}

// onBackends runs a test over each backend that reports its usage.
func onBackends(t *testing.T, test func(t *testing.T, b *quotaBed)) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) backend{
		"ocimem": func(*testing.T) backend { return ocimem.New() },
		"ocifs":  func(t *testing.T) backend { return openDir(t, t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newQuotaBed(t, open))
		})
	}
}

func openDir(t *testing.T, dir string) backend {
	r, err := ocifs.New(dir, &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(r.Close())) })
	return r
}

func newQuotaBed(t *testing.T, open func(t *testing.T) backend) *quotaBed {
	below := open(t)
	r, err := ocifilter.Quota(below, []ocifilter.QuotaRule{{Prefix: "team", MaxBytes: 100}, {Prefix: "team/a", MaxBytes: 60}})
	qt.Assert(t, qt.IsNil(err))
	return &quotaBed{t, open, below, r}
}

// blobOf returns n bytes unlike those of other numbers.
func blobOf(number, n int) []byte { return fmt.Appendf(nil, "%0*d", n, number) }

func (b *quotaBed) push(repo string, data []byte) error {
	_, err := b.PushBlob(b.t.Context(), repo, ociregistry.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}, bytes.NewReader(data))
	return err
}

func (b *quotaBed) must(err error) {
	b.t.Helper()
	qt.Assert(b.t, qt.IsNil(err))
}

func (b *quotaBed) wantUsage(prefix string, want int64) {
	b.t.Helper()
	got, err := b.Interface.(ociregistry.UsageReporter).Usage(b.t.Context(), prefix)
	b.must(err)
	qt.Assert(b.t, qt.Equals(got, want), qt.Commentf("usage of %q", prefix))
}

func TestQuota_RefusesWhatDoesNotFit(t *testing.T) { onBackends(t, testQuotaRefusesWhatDoesNotFit) }

func testQuotaRefusesWhatDoesNotFit(t *testing.T, b *quotaBed) {
	b.must(b.push("team/a", blobOf(1, 50)))
	b.must(b.push("other", blobOf(2, 40)))
	b.must(b.push("teams", blobOf(3, 1000))) // is not below team

	pushes := []struct {
		name string
		push func() error
	}{
		{"PushBlob", func() error { return b.push("team/a", blobOf(9, 20)) }},
		{"PushBlob that claims more than it has", func() error {
			_, err := b.PushBlob(t.Context(), "team/a", ociregistry.Descriptor{Digest: digest.FromString("x"), Size: 1 << 50}, strings.NewReader("x"))
			return err
		}},
		{"PushBlob that has more than it claims", func() error {
			_, err := b.PushBlob(t.Context(), "team/a", ociregistry.Descriptor{Digest: digest.FromString("x"), Size: 20}, bytes.NewReader(blobOf(9, 20)))
			return err
		}},
		{"MountBlob", func() error {
			_, err := b.MountBlob(t.Context(), "other", "team/a", digest.FromBytes(blobOf(2, 40)))
			return err
		}},
		{"PushManifest", func() error {
			_, err := b.PushManifest(t.Context(), "team/a", "v1", blobOf(9, 20), "text/plain")
			return err
		}},
		{"Write", func() error {
			w, err := b.PushBlobChunked(t.Context(), "team/a", 0)
			b.must(err)
			_, err = w.Write(blobOf(9, 20))
			return wantEnded(b, w, err)
		}},
		{"ReadFrom", func() error {
			w, err := b.PushBlobChunked(t.Context(), "team/a", 0)
			b.must(err)
			_, err = w.(io.ReaderFrom).ReadFrom(bytes.NewReader(blobOf(9, 20)))
			return wantEnded(b, w, err)
		}},
		{"the second Write", func() error {
			w, err := b.PushBlobChunked(t.Context(), "team/a", 0)
			b.must(err)
			_, err = w.Write(blobOf(9, 10))
			b.must(err)
			_, err = w.Write([]byte("x"))
			return wantEnded(b, w, err)
		}},
		{"Commit of what was written before", func() error {
			w, err := b.PushBlobChunked(t.Context(), "team/a", 0)
			b.must(err)
			_, err = w.Write(blobOf(9, 10))
			b.must(errors.Join(err, w.Close()))
			b.must(b.push("team/a", blobOf(8, 1)))
			w, err = b.PushBlobChunkedResume(t.Context(), "team/a", w.ID(), -1, 0)
			b.must(err)
			_, err = w.Commit(digest.FromBytes(blobOf(9, 10)))
			b.must(b.DeleteBlob(t.Context(), "team/a", digest.FromBytes(blobOf(8, 1))))
			return wantEnded(b, w, err)
		}},
	}
	for _, test := range pushes {
		err := test.push()
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied), qt.Commentf("%s", test.name))
		qt.Check(t, qt.ErrorMatches(err, ".*: the quota of team.* is (60|100) bytes; (50|51|60) are used, and [0-9]+ more do not fit"), qt.Commentf("%s", test.name))
		b.wantUsage("team", 50)
	}
	// Nothing is reserved after all that.
	b.must(b.push("team/a", blobOf(4, 10)))
	err := b.push("team/a", []byte("x"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	b.must(b.push("team", blobOf(5, 40)))
	err = b.push("team/b", []byte("x"))
	qt.Check(t, qt.ErrorMatches(err, ".*: the quota of team is 100 bytes; 100 are used, and 1 more do not fit"))
	b.wantUsage("team", 100)
	b.wantUsage("", 1140)
}

// wantEnded checks that a session was ended, and returns the error that ended it.
func wantEnded(b *quotaBed, w ociregistry.BlobWriter, err error) error {
	b.t.Helper()
	_, again := w.Write([]byte("x"))
	qt.Check(b.t, qt.Equals(again, err))
	_, again = b.below.PushBlobChunkedResume(b.t.Context(), "team/a", w.ID(), -1, 0)
	qt.Check(b.t, qt.ErrorIs(again, ociregistry.ErrBlobUploadUnknown))
	// Others have the room, also before it is closed.
	b.must(b.push("team/a", blobOf(7, 10)))
	b.must(b.DeleteBlob(b.t.Context(), "team/a", digest.FromBytes(blobOf(7, 10))))
	qt.Check(b.t, qt.IsNil(w.Close()))
	return err
}

func TestQuota_DeletesAndCollectionsGiveRoom(t *testing.T) {
	onBackends(t, testQuotaDeletesAndCollectionsGiveRoom)
}

func testQuotaDeletesAndCollectionsGiveRoom(t *testing.T, b *quotaBed) {
	b.must(b.push("team/a", blobOf(1, 60)))
	qt.Assert(t, qt.ErrorIs(b.push("team/a", blobOf(2, 60)), ociregistry.ErrDenied))
	b.must(b.DeleteBlob(t.Context(), "team/a", digest.FromBytes(blobOf(1, 60))))
	b.wantUsage("", 0)

	desc, err := b.PushManifest(t.Context(), "team/a", "v1", blobOf(3, 60), "text/plain")
	b.must(err)
	qt.Assert(t, qt.ErrorIs(b.push("team/a", blobOf(2, 60)), ociregistry.ErrDenied))
	b.must(b.DeleteManifest(t.Context(), "team/a", desc.Digest))

	b.must(b.push("team/a", blobOf(2, 30)))
	_, err = b.PushManifest(t.Context(), "team/a", "", blobOf(4, 30), "text/plain")
	b.must(err)
	qt.Assert(t, qt.ErrorIs(b.push("team/a", []byte("x")), ociregistry.ErrDenied))
	_, err = b.below.GC(t.Context(), &ocigc.Options{Delay: -1, Untagged: true})
	b.must(err)
	b.wantUsage("team/a", 0)
	b.must(b.push("team/a", blobOf(5, 60)))
}

func TestQuota_WhatIsThereCanBePushedAgain(t *testing.T) {
	onBackends(t, testQuotaWhatIsThereCanBePushedAgain)
}

func testQuotaWhatIsThereCanBePushedAgain(t *testing.T, b *quotaBed) {
	ctx := t.Context()
	data, text := blobOf(1, 30), blobOf(2, 30)
	b.must(b.push("other", data))
	b.must(b.push("team/a", data))
	_, err := b.PushManifest(ctx, "team/a", "v1", text, "text/plain")
	b.must(err)
	b.wantUsage("team/a", 60)

	b.must(b.push("team/a", data))
	_, err = b.MountBlob(ctx, "other", "team/a", digest.FromBytes(data))
	b.must(err)
	for _, ref := range []string{"v2", "", string(digest.FromBytes(text))} {
		_, err = b.PushManifest(ctx, "team/a", ref, text, "text/plain", "v3")
		b.must(err)
	}
	_, err = b.PushManifest(ctx, "team/a", string(digest.SHA512.FromBytes(text)), text, "text/plain")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied)) // is another manifest
	b.wantUsage("team/a", 60)
}

func TestQuota_WhatHasComeMeanwhileCanBeCommitted(t *testing.T) {
	onBackends(t, testQuotaWhatHasComeMeanwhileCanBeCommitted)
}

func testQuotaWhatHasComeMeanwhileCanBeCommitted(t *testing.T, b *quotaBed) {
	data := blobOf(1, 60)
	w, err := b.PushBlobChunked(t.Context(), "team/a", 0)
	b.must(err)
	_, err = w.Write(data)
	b.must(errors.Join(err, w.Close()))
	b.must(b.push("team/a", data))
	w, err = b.PushBlobChunkedResume(t.Context(), "team/a", w.ID(), -1, 0)
	b.must(err)
	_, err = w.Commit(digest.FromBytes(data))
	qt.Check(t, qt.IsNil(err))
	b.wantUsage("team", 60)
}

func TestQuota_AWriterThatHasFailedKeepsNoRoom(t *testing.T) {
	onBackends(t, testQuotaAWriterThatHasFailedKeepsNoRoom)
}

func testQuotaAWriterThatHasFailedKeepsNoRoom(t *testing.T, b *quotaBed) {
	first, err := b.PushBlobChunked(t.Context(), "team/a", 0)
	b.must(err)
	second, err := b.PushBlobChunkedResume(t.Context(), "team/a", first.ID(), -1, 0)
	b.must(err)
	_, err = first.Write(blobOf(1, 30))
	b.must(err)
	_, err = second.Write(blobOf(1, 30))
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	b.must(b.push("team/a", blobOf(2, 30)))
	qt.Check(t, qt.IsNil(second.Close()))
	qt.Check(t, qt.IsNil(first.Close()))
}

// slowRegistry returns from a push of a manifest some time after it has stored it.
type slowRegistry struct {
	*ocimem.Registry
	returns chan struct{}
}

func (r slowRegistry) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := r.Registry.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
	if ref == "slow" {
		<-r.returns
	}
	return desc, err
}

// What the registry counts already is not counted a second time as on its way.
func TestQuota_PushesWaitForThoseThatAreFinishing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := slowRegistry{ocimem.New(), make(chan struct{})}
		r, err := ocifilter.Quota(slow, []ocifilter.QuotaRule{{MaxBytes: 100}})
		qt.Assert(t, qt.IsNil(err))
		push := func(ctx context.Context, tag string, n int) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := r.PushManifest(ctx, "app", tag, blobOf(n, n), "text/plain")
				done <- err
			}()
			synctest.Wait()
			return done
		}
		first := push(t.Context(), "slow", 60)
		tooLarge := push(t.Context(), "large", 41)
		qt.Check(t, qt.ErrorIs(<-tooLarge, ociregistry.ErrDenied))
		ctx, cancel := context.WithCancel(t.Context())
		canceled := push(ctx, "canceled", 40)
		waiting := push(t.Context(), "waiting", 40)
		qt.Check(t, qt.HasLen(waiting, 0))
		cancel()
		qt.Check(t, qt.ErrorIs(<-canceled, context.Canceled))
		close(slow.returns)
		qt.Check(t, qt.IsNil(<-first))
		qt.Check(t, qt.IsNil(<-waiting))
	})
}

func TestQuota_MountsNeedASource(t *testing.T) { onBackends(t, testQuotaMountsNeedASource) }

func testQuotaMountsNeedASource(t *testing.T, b *quotaBed) {
	b.must(b.push("other", blobOf(1, 30)))
	_, err := b.MountBlob(t.Context(), "", "team/a", digest.FromBytes(blobOf(1, 30)))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
	_, err = b.MountBlob(t.Context(), "", "else", digest.FromBytes(blobOf(1, 30)))
	qt.Check(t, qt.IsNil(err))
	_, err = b.MountBlob(t.Context(), "other", "team/a", digest.FromBytes(blobOf(1, 30)))
	qt.Check(t, qt.IsNil(err))
	b.wantUsage("team", 30)
}

// Many clients push at once what fits only in part.
func TestQuota_ConcurrentPushesDoNotExceedItTogether(t *testing.T) {
	onBackends(t, testQuotaConcurrentPushes)
}

func testQuotaConcurrentPushes(t *testing.T, bed *quotaBed) {
	kinds := map[string]func(b *quotaBed, number int) error{
		"manifests": func(b *quotaBed, number int) error {
			_, err := b.PushManifest(b.t.Context(), "team/b", "", blobOf(number, 10), "text/plain")
			return err
		},
		"blobs": func(b *quotaBed, number int) error { return b.push("team/b", blobOf(number, 10)) },
		"sessions": func(b *quotaBed, number int) error {
			w, err := b.PushBlobChunked(b.t.Context(), "team/b", 0)
			if err != nil {
				return err
			}
			defer w.Close()
			for _, c := range blobOf(number, 10) {
				if _, err := w.Write([]byte{c}); err != nil {
					return err
				}
			}
			_, err = w.Commit(digest.FromBytes(blobOf(number, 10)))
			return err
		},
		"mounts": func(b *quotaBed, number int) error {
			_, err := b.MountBlob(b.t.Context(), "other", "team/b", digest.FromBytes(blobOf(number, 10)))
			return err
		},
	}
	for name, push := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 20 {
				b := newQuotaBed(t, bed.open)
				for i := range 30 {
					b.must(b.push("other", blobOf(i, 10)))
				}
				var wg sync.WaitGroup
				var succeeded atomic.Int64
				for i := range 30 {
					wg.Go(func() {
						switch err := push(b, i); {
						case err == nil:
							succeeded.Add(1)
						case !errors.Is(err, ociregistry.ErrDenied):
							t.Errorf("unexpected error: %v", err)
						}
						if used, err := b.below.Usage(t.Context(), "team"); err != nil || used > 100 {
							t.Errorf("usage is %d, error %v", used, err)
						}
					})
				}
				wg.Wait()
				b.wantUsage("team", 10*succeeded.Load())
				if name == "manifests" || name == "mounts" { // which wait for each other instead
					qt.Assert(t, qt.Equals(succeeded.Load(), 10))
				}
				for i := range 10 - succeeded.Load() {
					b.must(b.push("team/b", blobOf(100+int(i), 10)))
				}
			}
		})
	}
}

// A slow client keeps room for what it has sent, and not for what it has announced.
func TestQuota_ReservesWhatHasArrived(t *testing.T) { onBackends(t, testQuotaReservesWhatHasArrived) }

func testQuotaReservesWhatHasArrived(t *testing.T, b *quotaBed) {
	data := blobOf(1, 60)
	rd, wr := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := b.PushBlob(t.Context(), "team", ociregistry.Descriptor{Digest: digest.FromBytes(data), Size: 60}, rd)
		done <- err
	}()
	_, err := wr.Write(data[:30])
	b.must(err)
	_, err = wr.Write(nil) // the first bytes were taken
	b.must(err)
	b.must(b.push("team/b", blobOf(2, 70)))
	wr.Write(data[30:])
	qt.Check(t, qt.ErrorIs(<-done, ociregistry.ErrDenied))
	b.wantUsage("team", 70)
	b.must(b.push("team/b", blobOf(3, 30)))
}

func TestQuota_FailedPushesReserveNothing(t *testing.T) {
	onBackends(t, testQuotaFailedPushesReserveNothing)
}

func testQuotaFailedPushesReserveNothing(t *testing.T, b *quotaBed) {
	ctx := t.Context()
	for range 5 {
		_, err := b.PushBlob(ctx, "team/a", ociregistry.Descriptor{Digest: digest.FromString("other"), Size: 60}, bytes.NewReader(blobOf(1, 60)))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		_, err = b.PushManifest(ctx, "team/a", string(digest.FromString("other")), blobOf(1, 60), "text/plain")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		_, err = b.MountBlob(ctx, "other", "team/a", digest.FromString("other"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
		w, err := b.PushBlobChunked(ctx, "team/a", 0)
		b.must(err)
		_, err = w.Write(blobOf(1, 60))
		b.must(err)
		_, err = w.Commit(digest.FromString("other"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		w, err = b.PushBlobChunked(ctx, "team/a", 0)
		b.must(err)
		_, err = w.Write(blobOf(1, 60))
		b.must(errors.Join(err, w.Cancel()))
		w, err = b.PushBlobChunked(ctx, "team/a", 0)
		b.must(err)
		_, err = w.Write(blobOf(1, 60))
		b.must(errors.Join(err, w.Close()))
	}
	b.wantUsage("", 0)
	b.must(b.push("team/a", blobOf(2, 60)))
}

func TestQuota_RefusesWrongRules(t *testing.T) {
	t.Parallel()
	for _, rule := range []ocifilter.QuotaRule{{MaxBytes: 0}, {MaxBytes: -1}, {Prefix: "A", MaxBytes: 1}, {Prefix: "a/", MaxBytes: 1}} {
		_, err := ocifilter.Quota(ocimem.New(), []ocifilter.QuotaRule{rule})
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%+v", rule))
	}
	_, err := ocifilter.Quota(ocifilter.ReadOnly(ocimem.New()), nil)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
}

// Of two processes that serve one directory, each counts what the other has pushed, mounted,
// deleted and collected.
func TestQuota_OfADirectoryThatTwoProcessesServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(t *testing.T) backend { return openDir(t, dir) }
	b, other := newQuotaBed(t, open), newQuotaBed(t, open)
	large := blobOf(1, 60)
	b.must(b.push("team/a", large))
	for _, bed := range []*quotaBed{b, other} {
		err := bed.push("team/a", []byte("x"))
		qt.Check(t, qt.ErrorMatches(err, ".*: the quota of team/a is 60 bytes; 60 are used, and 1 more do not fit"))
	}
	other.must(other.push("team/b", blobOf(2, 30)))
	qt.Check(t, qt.ErrorIs(b.push("team/b", blobOf(3, 20)), ociregistry.ErrDenied))
	_, err := b.MountBlob(t.Context(), "team/a", "team/c", digest.FromBytes(large))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	other.must(other.DeleteBlob(t.Context(), "team/a", digest.FromBytes(large)))
	b.must(b.push("team/b", blobOf(3, 70)))
	qt.Check(t, qt.ErrorIs(other.push("team/c", []byte("x")), ociregistry.ErrDenied))
	_, err = other.below.GC(t.Context(), &ocigc.Options{Delay: -1})
	b.must(err)
	b.wantUsage("", 0)
	b.must(b.push("team/a", blobOf(4, 60)))
	other.wantUsage("team/a", 60)
}

// slowUsage takes its time to know the usage.
type slowUsage struct {
	*ocimem.Registry
	known chan struct{}
}

func (s *slowUsage) Usage(ctx context.Context, prefix string) (int64, error) {
	select {
	case <-s.known:
		return s.Registry.Usage(ctx, prefix)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestQuota_ACallEndsWithItsContextWhileAnotherOneAsksForTheUsage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := &slowUsage{ocimem.New(), make(chan struct{})}
		q, err := ocifilter.Quota(slow, []ocifilter.QuotaRule{{MaxBytes: 100}})
		qt.Assert(t, qt.IsNil(err))
		push := func(ctx context.Context, text string) error {
			desc := ociregistry.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}
			_, err := q.PushBlob(ctx, "app", desc, strings.NewReader(text))
			return err
		}
		first := make(chan error)
		go func() { first <- push(t.Context(), "first") }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		qt.Check(t, qt.ErrorIs(push(ctx, "second"), context.DeadlineExceeded))
		close(slow.known)
		qt.Check(t, qt.IsNil(<-first))
	})
}
