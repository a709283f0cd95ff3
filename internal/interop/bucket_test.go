package interop

import (
	"path/filepath"
	"testing"

	"github.com/seed-40b21970/oci/internal/servers"
)

// TestEachReadsWhatEachWroteInABucket does it at a server of a bucket, which sends the bytes itself, and at
// one that sends the clients to the bucket. It is skipped if versitygw is not installed
// (internal/servers/install.sh), unless OCIBUCKET_SERVERS is set.
func TestEachReadsWhatEachWroteInABucket(t *testing.T) {
	endpoint := servers.S3(t, "bucket")
	program, err := buildProgram(filepath.Join("..", "..", "ociregistry", "ocibucket"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"served": nil, "redirected": {"-redirect", "10m"}} {
		t.Run(name, func(t *testing.T) {
			env := []string{"AWS_ACCESS_KEY_ID=" + servers.S3Access, "AWS_SECRET_ACCESS_KEY=" + servers.S3Secret, "AWS_REGION=us-east-1"}
			args := append([]string{"-bucket", "s3://bucket/" + name + "?endpoint=" + endpoint}, flags...)
			s := launchProgram(t, program, env, args)
			s.redirects = flags != nil
			t.Cleanup(func() { s.checkRequests(t) })
			testMatrix(t, s)
		})
	}
}
