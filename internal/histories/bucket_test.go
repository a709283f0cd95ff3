package histories

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/servers"
)

// TestProcessesOverABucketAreLinearizable drives processes whose registry is in a bucket, to which each of
// two servers of object storage leads. It lasts for OCI_HISTORIES_BUCKET, or for some seconds.
func TestProcessesOverABucketAreLinearizable(t *testing.T) {
	drive(t, inBucket(t).Backend, 3, duration(t, "OCI_HISTORIES_BUCKET", 10*time.Second))
}

// bucketBackend is a registry in a bucket.
type bucketBackend struct {
	Backend
	program string
	urls    []string // of the bucket, by each server of object storage
}

// inBucket returns a registry in a new bucket, to which two servers of object storage lead.
func inBucket(t *testing.T) *bucketBackend {
	storage := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(storage, "bucket"), 0o777)))
	b := new(bucketBackend)
	for range 2 {
		b.urls = append(b.urls, "s3://bucket?endpoint="+servers.Versitygw(t, storage))
	}
	var err error
	b.program, err = build(t.Context(), filepath.Join("..", "..", "ociregistry", "ocibucket"), t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	t.Setenv("AWS_ACCESS_KEY_ID", servers.S3Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", servers.S3Secret)
	t.Setenv("AWS_REGION", "us-east-1")
	b.Backend = Backend{
		Name: "bucket",
		Command: func(_ string, i int) []string {
			return []string{b.program, "-addr", "127.0.0.1:0", "-quiet", "-bucket", b.urls[i%len(b.urls)]}
		},
		Lingers: true,
	}
	return b
}
