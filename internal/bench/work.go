package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// pushBlobs pushes a new blob in each operation.
func pushBlobs(data []byte, push func(*client, blob) error) func(n int) work {
	return func(n int) work {
		blobs := newBlobs(data, n)
		return work{
			prepare: func(c *client, s server) error {
				check := newBlobs(data[:100], 1)[0]
				if err := push(c, check); err != nil || s.limit {
					return err
				}
				return checkBlob(c, check)
			},
			do:   func(c *client, i int) error { return push(c, blobs[i]) },
			hash: func(i int) { blobs[i].hash() },
		}
	}
}

// pullBlobs pulls a few blobs in turn.
func pullBlobs(data []byte, few int) func(n int) work {
	return func(int) work {
		blobs := newBlobs(data, few)
		return work{
			prepare: func(c *client, s server) error {
				for _, b := range blobs {
					if err := c.pushBlob(b); err != nil {
						return err
					}
				}
				return checkBlob(c, blobs[few-1])
			},
			do: func(c *client, i int) error {
				size, err := c.get(c.blobURL(blobs[i%few]))
				return checkSize(size, err, int64(len(data)))
			},
		}
	}
}

// headBlob asks whether a blob is there.
func headBlob(data []byte) func(n int) work {
	return func(int) work {
		b := newBlobs(data, 1)[0]
		return work{
			prepare: func(c *client, s server) error { return c.pushBlob(b) },
			do: func(c *client, i int) error {
				size, err := c.head(c.blobURL(b))
				return checkSize(size, err, b.size)
			},
		}
	}
}

// putManifests pushes a new manifest, with a new tag, in each operation.
func putManifests(n int) work {
	im := newImage()
	manifests := im.manifests(n)
	return work{
		prepare: func(c *client, s server) error {
			if err := im.push(c); err != nil {
				return err
			}
			if err := c.putManifest("check", manifests[0]); err != nil {
				return err
			}
			return checkManifest(c, "check", manifests[0])
		},
		do:   func(c *client, i int) error { return c.putManifest(tagName(i), manifests[i]) },
		hash: func(i int) { sha256.Sum256(manifests[i]) },
	}
}

// getManifests pulls a few manifests in turn, by tag.
func getManifests(few int) func(n int) work {
	return func(int) work {
		im := newImage()
		manifests := im.manifests(few)
		return work{
			prepare: func(c *client, s server) error {
				if err := im.push(c); err != nil {
					return err
				}
				for i, m := range manifests {
					if err := c.putManifest(tagName(i), m); err != nil {
						return err
					}
				}
				return checkManifest(c, tagName(0), manifests[0])
			},
			do: func(c *client, i int) error {
				size, err := c.getManifest(tagName(i % few))
				return checkSize(size, err, int64(len(manifests[i%few])))
			},
		}
	}
}

// getManifestsBeside is getManifests while the server also has a few large blobs.
func getManifestsBeside(data []byte, blobs, few int) func(n int) work {
	return func(n int) work {
		w := getManifests(few)(n)
		prepare := w.prepare
		w.prepare = func(c *client, s server) error {
			for _, b := range newBlobs(data, blobs) {
				if err := c.pushBlob(b); err != nil {
					return err
				}
			}
			return prepare(c, s)
		}
		return w
	}
}

// checkSize says what was wrong with an answer.
func checkSize(got int64, err error, want int64) error {
	if err == nil && got != want {
		err = fmt.Errorf("%d bytes, not %d", got, want)
	}
	return err
}

// checkBlob pulls a blob and hashes it.
func checkBlob(c *client, b blob) error {
	h := sha256.New()
	c.tee = h
	_, err := c.get(c.blobURL(b))
	if got := digestOf(h); err == nil && got != b.digest {
		err = fmt.Errorf("pushed %s, pulled %s", b.digest, got)
	}
	return err
}

// checkManifest pulls a manifest and compares it.
func checkManifest(c *client, tag string, want []byte) error {
	var got bytes.Buffer
	c.tee = &got
	_, err := c.getManifest(tag)
	if err == nil && !bytes.Equal(got.Bytes(), want) {
		err = fmt.Errorf("pulled another manifest than was pushed: %.100q", got.Bytes())
	}
	return err
}
