package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// pushers is how many clients push the tags of a repository.
const pushers = 64

// errTooSlow says that a server did not get ready in time.
var errTooSlow = errors.New("too slow to prepare")

// tagged is a repository that has many tags, all of one manifest.
type tagged struct {
	tags     int
	limit    time.Duration // for pushing them
	image    image
	manifest []byte

	shared bool // by all rows that have it
}

func (t *tagged) once() bool { return t.shared }

func newTagged(tags int, s scale) *tagged {
	im := newImage()
	return &tagged{tags: tags, limit: s.prepare, image: im, manifest: im.manifests(1)[0]}
}

func tagName(i int) string { return fmt.Sprintf("v%06d", i) }

// push pushes the repository, by many clients at a time. It fails with
// errTooSlow if that takes too long.
func (t *tagged) push(c *client) error {
	if err := t.image.push(c); err != nil {
		return err
	}
	clients := make([]*client, pushers)
	for i := range clients {
		clients[i] = c.clone()
	}
	start := time.Now()
	_, err := inParallel(pushers, t.tags, func(worker, i int) error {
		if time.Since(start) > t.limit {
			return fmt.Errorf("%w: %d of %d tags in %v", errTooSlow, i, t.tags, t.limit)
		}
		return clients[worker].putManifest(tagName(i), t.manifest)
	})
	return err
}

// put pushes a new tag in each operation.
func (t *tagged) put(int) work {
	return work{
		prepare: func(c *client, s server) error {
			if err := c.putManifest("check", t.manifest); err != nil {
				return err
			}
			return checkManifest(c, "check", t.manifest)
		},
		do:   func(c *client, i int) error { return c.putManifest(fmt.Sprintf("new%06d", i), t.manifest) },
		hash: func(int) { sha256.Sum256(t.manifest) },
	}
}

// get pulls a few manifests in turn, by tags from everywhere in the repository.
func (t *tagged) get(few int) func(n int) work {
	few = min(few, t.tags)
	tag := func(i int) string { return tagName(i % few * (t.tags / few)) }
	return func(int) work {
		return work{
			prepare: func(c *client, s server) error {
				for i := range few {
					if !s.limit {
						break
					}
					if err := c.putManifest(tag(i), t.manifest); err != nil {
						return err
					}
				}
				return checkManifest(c, tag(few-1), t.manifest)
			},
			do: func(c *client, i int) error {
				size, err := c.getManifest(tag(i))
				return checkSize(size, err, int64(len(t.manifest)))
			},
		}
	}
}

// page asks for a page of tags from the middle of all.
func (t *tagged) page(size int) func(n int) work {
	first := t.tags / 2
	target := fmt.Sprintf("%stags/list?n=%d&last=%s", repoPath, size, tagName(first-1))
	return t.ask(first, min(first+size, t.tags), target, (*client).get)
}

// list asks for all tags, in as few pages as the server lets it.
func (t *tagged) list() func(n int) work {
	return t.ask(0, t.tags, repoPath+"tags/list", (*client).list)
}

// ask asks for the tags from first up to but not including end.
func (t *tagged) ask(first, end int, target string, fetch func(*client, string) (int64, error)) func(n int) work {
	return func(int) work {
		want := tagList{Name: repoName}
		for i := first; i < end; i++ {
			want.Tags = append(want.Tags, tagName(i))
		}
		var size int64 // what the server answers: it may like spaces
		return work{
			prepare: func(c *client, s server) error {
				if s.limit {
					page := must(json.Marshal(want))
					_, err := c.send("PUT", target, bytes.NewReader(page), int64(len(page)), http.StatusCreated)
					size = int64(len(page))
					return err
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
