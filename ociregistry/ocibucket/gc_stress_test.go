package ocibucket

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

var stressFor = flag.Duration("gc.stress", 4*time.Minute, "how long clients use a registry beside collections, by a clock that is not real")

func TestGC_DoesNoHarmWhileClientsUseTheRegistry(t *testing.T) {
	t.Parallel()
	const grace = 10 * time.Minute
	for _, delay := range []time.Duration{-1, time.Minute} {
		for _, processes := range []int{1, 3} {
			t.Run(fmt.Sprintf("%v,%d", delay, processes), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					store := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault {
						return memstore.Fault{Delay: time.Duration(rand.IntN(2000)) * time.Millisecond}
					}})
					p := new(pair)
					for range processes {
						r, err := open(t.Context(), store, nil, settings{grace: grace, promiseAge: defaultPromiseAge, retry: &objstore.RetryOptions{Attempts: 3}})
						qt.Assert(t, qt.IsNil(err))
						t.Cleanup(func() { r.Close() })
						p.registries = append(p.registries, r)
					}
					ocitest.StressGC(t, p, ocitest.StressOptions{Duration: *stressFor, Delay: delay, Rounds: 2})
				})
			})
		}
	}
}
