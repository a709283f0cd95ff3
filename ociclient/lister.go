package ociclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/http"
	"net/url"
	"slices"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

func (c *client) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	r := wire.Request{Kind: wire.Catalog, ListN: c.opts.ListPageSize, ListLast: startAfter}
	return c.list(ctx, c.about("Repositories", "", ""), r, "repositories", ociref.IsValidRepository)
}

func (c *client) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	r := wire.Request{Kind: wire.TagsList, Repository: repo, ListN: c.opts.ListPageSize, ListLast: startAfter}
	return c.list(ctx, c.about("Tags", repo, ""), r, "tags", ociref.IsValidTag)
}

// list lists the names in a field of the responses. It omits invalid names, which no
// method accepts.
func (c *client) list(ctx context.Context, about target, r wire.Request, field string, valid func(string) bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := r.Check(); err != nil {
			yield("", about.wrap(err))
			return
		}
		for page, err := range c.namePages(ctx, r, field) {
			if err != nil {
				yield("", about.wrap(err))
				return
			}
			slices.Sort(page) // registries differ in their order
			for _, name := range page {
				if name > r.ListLast && valid(name) && !yield(name, nil) {
					return
				}
			}
		}
	}
}

// namePages gets the pages of a list by their Link headers, or, without these, by the
// parameter last.
func (c *client) namePages(ctx context.Context, r wire.Request, field string) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		var before []string // the previous page, if it had no Link to this one
		for r := r; ; {
			var last []string
			for p, err := range c.sizedPages(ctx, r) {
				if err != nil {
					yield(nil, err)
					return
				}
				names, err := readNames(p, field)
				if err != nil {
					yield(nil, fmt.Errorf("the answer is not a list: %w", err))
					return
				}
				if before != nil && repeats(names, before) {
					return // the registry does not know the parameter
				}
				before = nil
				last = nil
				if p.next == nil && len(names) == r.ListN {
					last = slices.Clone(names)
				}
				if !yield(names, nil) {
					return
				}
			}
			// A registry that sends more than was asked for has sent all.
			if last == nil {
				return
			}
			before, r.ListLast = last, last[len(last)-1]
		}
	}
}

// readNames reads a field of a response with a list. A JSON object that has neither that
// field nor a name is not a list.
func readNames(p page, field string) ([]string, error) {
	names, err := manifest.ReadNames(string(p.data), field)
	if err != nil || len(names) > 0 {
		return names, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(p.data, &object); err != nil {
		return nil, err
	}
	if object[field] == nil && object["name"] == nil {
		return nil, fmt.Errorf("it has no field %s", field)
	}
	return nil, nil
}

// sizedPages gets the pages of a list. If the registry refuses pages of the size asked
// for, it lets the registry choose the size.
func (c *client) sizedPages(ctx context.Context, r wire.Request) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		first := true
		for p, err := range c.pages(ctx, c.newCall(r)) {
			if first && errors.Is(err, errPageSize) {
				r.ListN = -1
				c.pages(ctx, c.newCall(r))(yield)
				return
			}
			first = false
			if !yield(p, err) {
				return
			}
		}
	}
}

// errPageSize matches the error of the distribution registry for pages that are too large.
var errPageSize error = ociregistry.NewError("page too large", "PAGINATION_NUMBER_INVALID", nil)

// repeats reports whether a page and the previous one have a name in common.
func repeats(page, before []string) bool {
	listed := make(map[string]bool, len(before))
	for _, name := range before {
		listed[name] = true
	}
	return slices.ContainsFunc(page, func(name string) bool { return listed[name] })
}

// A page is a response with a part of a list.
type page struct {
	resp *http.Response
	data []byte
	next *url.URL // nil if there is no link
}

// pages follows the links from one page of a list to the next (specification,
// section "Listing Tags"; RFC 8288).
func (c *client) pages(ctx context.Context, cl *call) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		cl.set("Accept-Encoding", "identity")
		seen := make(map[uint64]bool) // hashes of URLs, to save memory: a list may have any number of pages
		for {
			seen[hashURL(cl.url)] = true
			resp, data, err := c.read(ctx, cl)
			if err != nil {
				yield(page{}, err)
				return
			}
			next, err := nextPage(resp)
			if err == nil && next != nil && seen[hashURL(next)] {
				err = errors.New("the list's Link headers form a loop")
			}
			if err != nil {
				yield(page{}, err)
				return
			}
			if !yield(page{resp, data, next}, nil) || next == nil {
				return
			}
			cl.url = next
		}
	}
}

var urlSeed = maphash.MakeSeed()

func hashURL(u *url.URL) uint64 { return maphash.String(urlSeed, u.String()) }

// nextPage returns the URL of the next page, or nil. It must have the same origin: a list
// must not make the client look elsewhere.
func nextPage(resp *http.Response) (*url.URL, error) {
	target, ok := wire.ParseNextLink(resp.Header["Link"])
	if !ok {
		return nil, nil
	}
	asked := resp.Request.URL
	next, err := resolve(asked, target)
	if err != nil {
		return nil, errors.New("the list's Link header is not a URL")
	}
	if !wire.SameOrigin(next, asked) {
		return nil, errors.New("the list's Link header leads to another host")
	}
	return next, nil
}
