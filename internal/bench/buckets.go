package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	objectservers "github.com/seed-40b21970/oci/internal/servers"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/s3store"
	"github.com/seed-40b21970/oci/ociserver"
)

// redirectHeader is the header by which a client asks a server over a bucket to
// send it to the store for blobs.
const redirectHeader = "X-Bench-Redirect"

const storeRegion = "us-east-1"

// redirecting serves with one of two handlers for the same content.
func redirecting(streams, redirects http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get(redirectHeader) != "" {
			redirects.ServeHTTP(w, req)
			return
		}
		streams.ServeHTTP(w, req)
	})
}

// bucketAt takes apart the URL of a bucket.
func bucketAt(place string) (endpoint, bucket string) {
	return strings.TrimSuffix(place, "/"+path.Base(place)), path.Base(place)
}

// openOcibucket opens ocibucket as its program does, with credentials from the
// environment.
func openOcibucket(place string) (http.Handler, func() error, error) {
	os.Setenv("AWS_ACCESS_KEY_ID", objectservers.S3Access)
	os.Setenv("AWS_SECRET_ACCESS_KEY", objectservers.S3Secret)
	ctx := context.Background()
	endpoint, bucket := bucketAt(place)
	st, err := s3store.New(ctx, s3store.Options{Bucket: bucket, Region: storeRegion, Endpoint: endpoint})
	if err != nil {
		return nil, nil, err
	}
	reg, err := ocibucket.New(ctx, st, nil)
	if err != nil {
		return nil, nil, err
	}
	redirect := func(ctx context.Context, repo string, digest digest.Digest) (string, time.Time, error) {
		const valid = 20 * time.Minute // as distribution's
		expires := time.Now().Add(valid)
		url, err := reg.BlobURL(ctx, repo, digest, valid)
		return url, expires, err
	}
	return redirecting(ociserver.New(reg, nil), ociserver.New(reg, &ociserver.Options{BlobRedirect: redirect})), reg.Close, nil
}

// openDistributionS3 returns an open function for distribution's registry with its
// S3 driver, configured as openDistribution does, with or without its cache. With
// it, it answers from memory which blobs there are, also when another process
// has deleted them.
func openDistributionS3(cache map[string]any) func(string) (http.Handler, func() error, error) {
	return func(place string) (http.Handler, func() error, error) {
		streams, redirects := newDistributionS3(place, cache, true), newDistributionS3(place, cache, false)
		end := func() error { return errors.Join(streams.Shutdown(), redirects.Shutdown()) }
		return redirecting(streams, redirects), end, nil
	}
}

func newDistributionS3(place string, cache map[string]any, streams bool) *handlers.App {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.ErrorLevel)
	endpoint, bucket := bucketAt(place)
	return handlers.NewApp(context.Background(), &configuration.Configuration{
		Storage: configuration.Storage{
			"s3": {
				"accesskey": objectservers.S3Access, "secretkey": objectservers.S3Secret,
				"region": storeRegion, "regionendpoint": endpoint, "forcepathstyle": true, "secure": false,
				"bucket": bucket,
			},
			"cache":       cache,
			"delete":      {"enabled": true},
			"redirect":    {"disable": streams},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
	})
}

// isBucketRow says whether a row is for servers over object storage.
func isBucketRow(name string) bool { return strings.HasPrefix(name, "Bucket") }

// storeDelays are how long requests to the store wait, where it is like one across a
// network and where it is not.
var storeDelays = []time.Duration{0, 20 * time.Millisecond}

// bucketRows are measured with each of the delays. Their operations are few,
// since some servers make a hundred requests for one.
func bucketRows(s scale) []row {
	blob := randomBytes(s.object)
	small, medium := blob[:s.small], blob[:min(s.object, 1<<20)]
	tagged := newTagged(s.bucketTags, s)
	tagged.shared = true
	patch := (*client).patchBlob
	byTag := func(im *ownImage) string { return ownTag }
	byDigest := func(im *ownImage) string { return string(digest.FromBytes(im.manifest)) }
	var rows []row
	for _, r := range []row{
		{name: "BucketImagePush/layer=" + size(s.layer), ops: 4, grows: true, work: pushImages(s.layer, (*ownImage).patch)},
		{name: "BucketBlobPush/size=" + size(s.small), ops: 8, grows: true, work: pushBlobs(small, patch)},
		{name: "BucketBlobPush/size=" + size(s.object), ops: 2, grows: true, work: pushBlobs(blob, patch)},
		{name: "BucketMount", ops: 8, grows: true, work: mountBlobs(small)},
		{name: "BucketBlobHead", ops: 40, work: headBlob(medium)},
		{name: "BucketBlobPull/size=" + size(int64(len(medium))), ops: 20, work: pullBlobs(medium, 1)},
		{name: "BucketBlobRedirect/size=" + size(int64(len(medium))), ops: 20, work: redirectBlob(medium)},
		{name: "BucketGet/by=tag", ops: 40, work: pullManifests(1, byTag)},
		{name: "BucketGet/by=digest", ops: 40, work: pullManifests(1, byDigest)},
		{name: "BucketGetFirst/by=tag", ops: 8, restart: true, work: pullManifests(8, byTag)},
		{name: "BucketGetFirst/by=digest", ops: 8, restart: true, work: pullManifests(8, byDigest)},
		{name: "BucketOpenGet/by=tag", ops: 1, restart: true, opening: true, work: pullManifests(1, byTag)},
		{name: "BucketTagDelete", ops: 8, grows: true, work: deleteTags},
		{name: tags("BucketTagPage", s.bucketTags), ops: 20, stock: tagged, work: tagged.list()},
	} {
		for _, delay := range s.delays {
			slow := r
			slow.name += fmt.Sprintf("/delay=%v", delay)
			slow.delay = delay
			rows = append(rows, slow)
		}
	}
	return rows
}

// mountBlobs mounts another blob from another repository in each operation.
func mountBlobs(data []byte) func(n int) work {
	const from = "bench/from"
	return func(n int) work {
		blobs := newBlobs(data, n)
		return work{
			prepare: func(c *client, s server) error {
				source := c.clone().in(from)
				for _, b := range blobs {
					if err := source.pushBlob(b); err != nil {
						return err
					}
				}
				return c.pushBlob(newBlobs(data[:100], 1)[0])
			},
			do: func(c *client, i int) error {
				_, err := c.send("POST", c.path+"blobs/uploads/?mount="+blobs[i].digest+"&from="+from, nil, 0, http.StatusCreated)
				return err
			},
		}
	}
}

// redirectBlob pulls a blob from the store, to which the server sends the client.
func redirectBlob(data []byte) func(n int) work {
	return func(int) work {
		b := newBlobs(data, 1)[0]
		pull := func(c *client) (*http.Response, error) {
			return c.do("GET", c.blobURL(b), nil, 0, http.StatusOK, redirectHeader, "yes")
		}
		return work{
			prepare: func(c *client, s server) error {
				if err := c.pushBlob(b); err != nil {
					return err
				}
				resp, err := pull(c)
				if err != nil {
					return err
				}
				if strings.HasPrefix(c.base, "http://"+resp.Request.URL.Host) {
					resp.Body.Close()
					return fmt.Errorf("%s was not redirected", resp.Request.URL.Path)
				}
				_, err = c.drain(resp)
				return err
			},
			do: func(c *client, i int) error {
				resp, err := pull(c)
				if err != nil {
					return err
				}
				n, err := c.drain(resp)
				return checkSize(n, err, b.size)
			},
		}
	}
}

// pullManifests pulls the manifests of some repositories in turn.
func pullManifests(repos int, by func(*ownImage) string) func(n int) work {
	return func(int) work {
		images := newOwnImages(repos, configSize)
		return work{
			prepare: func(c *client, s server) error { return pushChecked(c, images) },
			do: func(c *client, i int) error {
				im := &images[i%repos]
				n, err := c.in(im.repo).getManifest(by(im))
				return checkSize(n, err, int64(len(im.manifest)))
			},
		}
	}
}

// deleteTags deletes another tag of a manifest in each operation.
func deleteTags(n int) work {
	im := newOwnImages(1, configSize)[0]
	return work{
		prepare: func(c *client, s server) error {
			if err := im.push(c); err != nil {
				return err
			}
			for i := range n {
				if err := c.putManifest(tagName(i), im.manifest); err != nil {
					return err
				}
			}
			return nil
		},
		do: func(c *client, i int) error {
			_, err := c.in(im.repo).send("DELETE", c.manifestURL(tagName(i)), nil, 0, http.StatusAccepted)
			return err
		},
	}
}
