package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// manyRepos are repositories, of which each has an index that names nothing.
type manyRepos struct {
	repos int
	limit time.Duration // for pushing them
}

const (
	indexType  = "application/vnd.oci.image.index.v1+json"
	emptyIndex = `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]}`
)

// once is true, since to push them takes long.
func (r *manyRepos) once() bool { return true }

func repoNameOf(i int) string { return fmt.Sprintf("bench/repo%06d", i) }

// push pushes the repositories, by many clients at a time. It fails with
// errTooSlow if that takes too long.
func (r *manyRepos) push(c *client) error {
	clients := make([]*client, pushers)
	for i := range clients {
		clients[i] = c.clone()
	}
	start := time.Now()
	_, err := inParallel(pushers, r.repos, func(worker, i int) error {
		if time.Since(start) > r.limit {
			return fmt.Errorf("%w: %d of %d repositories in %v", errTooSlow, i, r.repos, r.limit)
		}
		c := clients[worker].in(repoNameOf(i))
		_, err := c.send("PUT", c.manifestURL(ownTag), bytes.NewReader([]byte(emptyIndex)), int64(len(emptyIndex)), http.StatusCreated,
			"Content-Type", indexType)
		return err
	})
	return err
}

// page asks for a page of repositories from the middle of all.
func (r *manyRepos) page(n int) func(int) work {
	first := r.repos / 2
	target := fmt.Sprintf("/v2/_catalog?n=%d&last=%s", n, repoNameOf(first-1))
	var want []string
	for i := first; i < min(first+n, r.repos); i++ {
		want = append(want, repoNameOf(i))
	}
	return func(int) work {
		var size int64
		return work{
			prepare: func(c *client, s server) error {
				if s.limit {
					list := must(json.Marshal(catalog{want}))
					size = int64(len(list))
					_, err := c.send("PUT", target, bytes.NewReader(list), size, http.StatusCreated)
					return err
				}
				var page bytes.Buffer
				c.tee = &page
				var err error
				if size, err = c.get(target); err != nil {
					return err
				}
				return checkCatalog(&page, want)
			},
			do: func(c *client, i int) error {
				n, err := c.get(target)
				return checkSize(n, err, size)
			},
		}
	}
}

type catalog struct {
	Repositories []string `json:"repositories"`
}

// checkCatalog reads a page of repositories and compares it.
func checkCatalog(page io.Reader, want []string) error {
	var got catalog
	if err := json.NewDecoder(page).Decode(&got); err != nil {
		return err
	}
	if !slices.Equal(got.Repositories, want) {
		return fmt.Errorf("a page of %d other repositories, not of the %d that it should have", len(got.Repositories), len(want))
	}
	return nil
}
