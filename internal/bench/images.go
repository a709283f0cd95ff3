package main

import (
	"crypto/sha256"
	"fmt"
)

// A small image, pushed into a repository of its own, is what load generators
// such as that of zot push in each operation.

const (
	configSize  = 1500 // bytes
	pulledFew   = 16   // images that are pulled in turn
	mixedPushes = 4    // one in so many operations is a push, the others pull
)

// ownImage is an image of one layer with a repository of its own.
type ownImage struct {
	image
	repo     string
	manifest []byte
}

// ownTag is the one tag of each image.
const ownTag = "latest"

// newOwnImages returns n images that share no content.
func newOwnImages(n int, layerSize int64) []ownImage {
	configs, layers := newBlobs(randomBytes(configSize), n), newBlobs(randomBytes(layerSize), n)
	images := make([]ownImage, n)
	for i := range images {
		im := image{[]blob{configs[i], layers[i]}}
		images[i] = ownImage{im, fmt.Sprintf("bench/image%06d", i), im.manifests(1)[0]}
	}
	return images
}

func (im *ownImage) push(c *client) error {
	if err := im.image.push(c.in(im.repo)); err != nil {
		return err
	}
	return c.putManifest(ownTag, im.manifest)
}

// patch is push by a client that uploads blobs as docker and crane do.
func (im *ownImage) patch(c *client) error {
	c.in(im.repo)
	for _, b := range im.blobs {
		if err := c.patchBlob(b); err != nil {
			return err
		}
	}
	return c.putManifest(ownTag, im.manifest)
}

// pull pulls the manifest by its tag, then the configuration and the layer.
func (im *ownImage) pull(c *client) error {
	size, err := c.in(im.repo).getManifest(ownTag)
	if err := checkSize(size, err, int64(len(im.manifest))); err != nil {
		return err
	}
	for _, b := range im.blobs {
		size, err := c.get(c.blobURL(b))
		if err := checkSize(size, err, b.size); err != nil {
			return err
		}
	}
	return nil
}

// check pulls the image and compares it.
func (im *ownImage) check(c *client) error {
	if err := checkManifest(c.in(im.repo), ownTag, im.manifest); err != nil {
		return err
	}
	for _, b := range im.blobs {
		if err := checkBlob(c, b); err != nil {
			return err
		}
	}
	return nil
}

func (im *ownImage) hash() {
	for _, b := range im.blobs {
		b.hash()
	}
	sha256.Sum256(im.manifest)
}

// pushChecked pushes images and checks the last one.
func pushChecked(c *client, images []ownImage) error {
	for i := range images {
		if err := images[i].push(c); err != nil {
			return err
		}
	}
	return images[len(images)-1].check(c)
}

// pushImages pushes a new image into a new repository in each operation.
func pushImages(layerSize int64, push func(*ownImage, *client) error) func(n int) work {
	return func(n int) work {
		images := newOwnImages(n+1, layerSize)
		return work{
			prepare: func(c *client, s server) error { return pushChecked(c, images[n:]) },
			do:      func(c *client, i int) error { return push(&images[i], c) },
			hash:    func(i int) { images[i].hash() },
		}
	}
}

// pullImages pulls a few images in turn.
func pullImages(layerSize int64) func(n int) work {
	return func(int) work {
		images := newOwnImages(pulledFew, layerSize)
		return work{
			prepare: func(c *client, s server) error { return pushChecked(c, images) },
			do:      func(c *client, i int) error { return images[i%pulledFew].pull(c) },
		}
	}
}

// mixImages pushes a new image into a new repository in some operations, and
// pulls one of a few in the others.
func mixImages(layerSize int64) func(n int) work {
	return func(n int) work {
		images := newOwnImages(n+pulledFew, layerSize)
		pulled := images[n:]
		return work{
			prepare: func(c *client, s server) error { return pushChecked(c, pulled) },
			do: func(c *client, i int) error {
				if i%mixedPushes == 0 {
					return images[i].push(c)
				}
				return pulled[i%pulledFew].pull(c)
			},
			hash: func(i int) {
				if i%mixedPushes == 0 {
					images[i].hash()
				}
			},
		}
	}
}
