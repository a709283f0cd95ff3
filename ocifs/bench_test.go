package ocifs_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

const testType = "application/vnd.example.thing"

func newBenchRegistry(b *testing.B, opts *ocifs.Options) *ocifs.Registry {
	r, err := ocifs.New(scratch.Kept(b), opts)
	qt.Assert(b, qt.IsNil(err))
	b.Cleanup(func() { qt.Check(b, qt.IsNil(r.Close())) })
	return r
}

// tagged returns a registry with a repository of n tags of the second of two
// manifests, so that the first round of pushes of the other moves each.
func tagged(b *testing.B, n int, opts *ocifs.Options) (*ocifs.Registry, [2][]byte) {
	ctx := context.Background()
	r := newBenchRegistry(b, opts)
	manifests := [2][]byte{[]byte(`{"one":1}`), []byte(`{"two":2}`)}
	tags := make([]string, 0, 1000)
	for i := range n {
		tags = append(tags, fmt.Sprintf("tag-%06d", i))
		if len(tags) == cap(tags) || i == n-1 {
			_, err := r.PushManifest(ctx, "repo", "", manifests[1], testType, tags...)
			qt.Assert(b, qt.IsNil(err))
			tags = tags[:0]
		}
	}
	return r, manifests
}

var tagCounts = []int{100, 100_000}

func BenchmarkPushTag(b *testing.B) {
	for _, durable := range []bool{true, false} {
		for _, n := range tagCounts {
			b.Run(fmt.Sprintf("durable=%v/tags=%d", durable, n), func(b *testing.B) {
				r, manifests := tagged(b, n, &ocifs.Options{NoSync: !durable})
				b.ResetTimer()
				for i := range b.N {
					_, err := r.PushManifest(b.Context(), "repo", fmt.Sprintf("tag-%06d", i%n), manifests[i/n%2], testType)
					qt.Assert(b, qt.IsNil(err))
				}
			})
		}
	}
}

func BenchmarkGetTag(b *testing.B) {
	for _, n := range tagCounts {
		b.Run(fmt.Sprintf("tags=%d", n), func(b *testing.B) {
			r, _ := tagged(b, n, &ocifs.Options{NoSync: true})
			b.ResetTimer()
			for i := range b.N {
				br, err := r.GetTag(b.Context(), "repo", fmt.Sprintf("tag-%06d", i%n))
				qt.Assert(b, qt.IsNil(err))
				br.Close()
			}
		})
	}
}

func BenchmarkGetManifest(b *testing.B) {
	for _, n := range tagCounts {
		b.Run(fmt.Sprintf("tags=%d", n), func(b *testing.B) {
			r, manifests := tagged(b, n, &ocifs.Options{NoSync: true})
			b.ResetTimer()
			for range b.N {
				br, err := r.GetManifest(b.Context(), "repo", digest.FromBytes(manifests[1]))
				qt.Assert(b, qt.IsNil(err))
				br.Close()
			}
		})
	}
}

func BenchmarkTags(b *testing.B) {
	for _, n := range tagCounts {
		b.Run(fmt.Sprintf("page=100/tags=%d", n), func(b *testing.B) {
			r, _ := tagged(b, n, &ocifs.Options{NoSync: true})
			b.ResetTimer()
			for range b.N {
				after := ""
				if first := rand.IntN(n - 99); first > 0 {
					after = fmt.Sprintf("tag-%06d", first-1)
				}
				seen := 0
				for _, err := range r.Tags(b.Context(), "repo", after) {
					if err != nil {
						b.Fatal(err)
					}
					if seen++; seen == 100 {
						break
					}
				}
			}
		})
	}
}

// BenchmarkPushSmall pushes blobs of 4 KiB and manifests, by one caller and by
// 64 at a time, durably.
func BenchmarkPushSmall(b *testing.B) {
	pushes := []struct {
		name string
		push func(r *ocifs.Registry, i int64) error
	}{
		{"Blob", func(r *ocifs.Registry, i int64) error {
			data := bytes.Repeat([]byte(fmt.Sprintf("%016x", i)), 256)
			_, err := r.PushBlob(context.Background(), "repo", ociregistry.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}, bytes.NewReader(data))
			return err
		}},
		{"Manifest", func(r *ocifs.Registry, i int64) error {
			_, err := r.PushManifest(context.Background(), "repo", fmt.Sprint("tag-", i), []byte(fmt.Sprint(i)), testType)
			return err
		}},
	}
	for _, p := range pushes {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", p.name, callers), func(b *testing.B) {
				r := newBenchRegistry(b, nil)
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							qt.Check(b, qt.IsNil(p.push(r, i)))
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
