package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
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
			do: func(c *client, i int) error { return push(c, blobs[i]) },
			hash: func(i int) {
				h := sha256.New()
				h.Write(blobs[i].shared)
				h.Write(blobs[i].stamp[:])
				h.Sum(nil)
			},
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
				size, err := c.get(blobURL(blobs[i%few]))
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
				size, err := c.head(blobURL(b))
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

// pageTags asks for a page of tags from the middle of all.
func pageTags(tags, page int) func(n int) work {
	first := tags / 2
	target := fmt.Sprintf("%stags/list?n=%d&last=%s", repoPath, page, tagName(first-1))
	return tagWork(tags, first, first+page, target, (*client).get)
}

// listTags asks for all tags, in as few pages as the server lets it.
func listTags(tags int) func(n int) work {
	return tagWork(tags, 0, tags, repoPath+"tags/list", (*client).list)
}

// tagWork asks a server that has many tags for those from first up to but not
// including end.
func tagWork(tags, first, end int, target string, fetch func(*client, string) (int64, error)) func(n int) work {
	return func(int) work {
		im := newImage()
		manifest := im.manifests(1)[0]
		var names []string
		for i := range tags {
			names = append(names, tagName(i))
		}
		want := tagList{Name: repoName, Tags: names[first:end]}
		var size int64 // what the server answers: it may like spaces
		return work{
			prepare: func(c *client, s server) error {
				if s.limit {
					page := must(json.Marshal(want))
					_, err := c.send("PUT", target, bytes.NewReader(page), int64(len(page)), http.StatusCreated)
					size = int64(len(page))
					return err
				}
				if err := im.push(c); err != nil {
					return err
				}
				for _, tag := range names {
					if err := c.putManifest(tag, manifest); err != nil {
						return err
					}
				}
				var pages bytes.Buffer
				c.tee = &pages
				var err error
				if size, err = fetch(c, target); err != nil {
					return err
				}
				return checkTags(&pages, want.Tags)
			},
			do: func(c *client, i int) error {
				n, err := fetch(c, target)
				return checkSize(n, err, size)
			},
		}
	}
}

func tagName(i int) string { return fmt.Sprintf("v%06d", i) }

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
	_, err := c.get(blobURL(b))
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

type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// checkTags reads the pages of a list and compares it.
func checkTags(pages io.Reader, want []string) error {
	var got []string
	for dec := json.NewDecoder(pages); ; {
		var page tagList
		err := dec.Decode(&page)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		got = append(got, page.Tags...)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("a list of %d other tags, not of the %d that it should be", len(got), len(want))
	}
	return nil
}
