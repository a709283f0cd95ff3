package interop

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-40b21970/oci/internal/servers"
)

// bucketProgram builds the program that serves buckets, once.
var bucketProgram = sync.OnceValues(func() (string, error) {
	return buildProgram(filepath.Join("..", "..", "ociregistry", "ocibucket"), filepath.Join(filepath.Dir(ociserve), "bucket"))
})

// starter starts a server of a registry of its own, with more arguments, until the test ends. Its log must
// have no request that failed in a way that is not expected.
type starter func(t *testing.T, args []string, expected ...int) *server

// overBuckets runs a test with servers that send the bytes of a bucket themselves, and with servers that
// send clients to the bucket, in each of the servers of object storage. What is not installed
// (internal/servers/install.sh) is skipped, unless OCIBUCKET_SERVERS is set.
func overBuckets(t *testing.T, test func(t *testing.T, start starter)) {
	for name, open := range servers.Buckets {
		t.Run(name, func(t *testing.T) {
			bucket := open(t)
			program, err := bucketProgram()
			if err != nil {
				t.Fatal(err)
			}
			for how, flags := range map[string][]string{"served": nil, "redirected": {"-redirect", "10m"}} {
				t.Run(how, func(t *testing.T) { test(t, inBucket(bucket, how, program, flags)) })
			}
		})
	}
}

// inBucket returns what starts servers of the registries below a prefix.
func inBucket(bucket servers.Bucket, prefix, program string, flags []string) starter {
	var env []string
	for name, value := range bucket.Env {
		env = append(env, name+"="+value)
	}
	var count atomic.Int64
	return func(t *testing.T, args []string, expected ...int) *server {
		t.Helper()
		url := bucket.URL(fmt.Sprintf("%s/%d", prefix, count.Add(1)))
		s := launchProgram(t, program, env, slices.Concat([]string{"-bucket", url}, flags, args))
		s.redirects = flags != nil
		t.Cleanup(func() { s.checkRequests(t, expected...) })
		return s
	}
}

func TestEachReadsWhatEachWroteInABucket(t *testing.T) {
	overBuckets(t, func(t *testing.T, start starter) { testMatrix(t, start(t, nil)) })
}

func TestPodmanOverABucket(t *testing.T) {
	overBuckets(t, func(t *testing.T, start starter) { testPodman(t, start(t, nil)) })
}

func TestBuildahOverABucket(t *testing.T) {
	overBuckets(t, func(t *testing.T, start starter) { testBuildah(t, start(t, nil)) })
}

// TestCosignOverABucket has the origin, its copy and its cache in buckets.
func TestCosignOverABucket(t *testing.T) {
	overBuckets(t, func(t *testing.T, start starter) {
		testCosign(t, func(t *testing.T) *server { return start(t, nil) },
			func(t *testing.T, origin string) *server {
				return start(t, []string{"-cache", origin}, http.StatusBadGateway)
			})
	})
}
