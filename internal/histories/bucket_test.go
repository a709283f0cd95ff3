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
	storage := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(storage, "bucket"), 0o777)))
	var endpoints []string
	for range 2 {
		endpoints = append(endpoints, servers.Versitygw(t, storage))
	}
	program, err := build(t.Context(), filepath.Join("..", "..", "ociregistry", "ocibucket"), t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	t.Setenv("AWS_ACCESS_KEY_ID", servers.S3Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", servers.S3Secret)
	t.Setenv("AWS_REGION", "us-east-1")
	drive(t, Backend{
		Name: "bucket",
		Command: func(_ string, i int) []string {
			return []string{program, "-addr", "127.0.0.1:0", "-quiet", "-bucket", "s3://bucket?endpoint=" + endpoints[i%len(endpoints)]}
		},
		// A request that a dead process has sent is carried out soon.
		Linger: 2 * time.Second,
	}, 3, duration(t, "OCI_HISTORIES_BUCKET", 10*time.Second))
}
