package ociserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	defaultPageSize = 1000  // elements of a page when the client does not say
	maxPageSize     = 10000 // whatever the client says; the Link leads to the others

	// maxReferrersBytes is the approximate maximum size of a page of referrers in
	// bytes. Clients accept manifests of this size.
	maxReferrersBytes = 4 << 20
)

func (x *exchange) listRepositories() error {
	repos, err := x.page(x.backend.Repositories(x.ctx(), x.startAfter()), x.mayPull)
	if err != nil {
		return err
	}
	return x.writeJSON("application/json", struct {
		Repositories []string `json:"repositories"`
	}{repos})
}

func (x *exchange) listTags() error {
	tags, err := x.page(x.backend.Tags(x.ctx(), x.Repository, x.startAfter()), nil)
	if err != nil {
		return err
	}
	return x.writeJSON("application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{x.Repository, tags})
}

// startAfter returns the element that the list starts after.
func (x *exchange) startAfter() string {
	if x.opts.IgnorePagination {
		return ""
	}
	return x.ListLast
}

// page returns the requested page of the elements of a list for which visible returns
// true, or of all elements if visible is nil. It sets the Link to the next page, if there
// is one. To find out, it looks at one element after the page, which the Link does not
// name.
func (x *exchange) page(list iter.Seq2[string, error], visible func(string) bool) ([]string, error) {
	size, err := x.pageSize()
	if err != nil {
		return nil, err
	}
	items := make([]string, 0, 16) // never null
	for item, err := range list {
		if err != nil {
			return nil, err
		}
		if visible != nil && !visible(item) {
			continue
		}
		if size >= 0 && len(items) == size {
			if size > 0 {
				x.setNextLink(items[size-1])
			}
			break
		}
		items = append(items, item)
	}
	return items, nil
}

// pageSize returns the number of elements of a page, or -1 for all.
func (x *exchange) pageSize() (int, error) {
	n, limit := x.ListN, x.opts.MaxListPageSize
	switch {
	case x.opts.IgnorePagination:
		return -1, nil
	case limit > 0 && n > limit:
		return 0, ociregistry.NewError(fmt.Sprintf("query parameter n is too large (n=%d, max=%d)", n, limit), ociregistry.ErrUnsupported.Code(), nil)
	case x.opts.OmitLinkHeaderFromResponses:
		return n, nil
	case n >= 0:
		return min(n, maxPageSize), nil
	case limit > 0:
		return min(limit, defaultPageSize), nil
	}
	return defaultPageSize, nil
}

// setNextLink sets the Link to the page that starts after last.
func (x *exchange) setNextLink(last string) {
	if x.opts.OmitLinkHeaderFromResponses {
		return
	}
	next := x.Request
	next.ListLast = last
	x.header().Set("Link", wire.NextLink(x.location(next)))
}

// listReferrers answers with an image index of referrers. The backend may list the
// elements of earlier pages too; they are skipped.
func (x *exchange) listReferrers() error {
	if x.opts.DisableReferrersAPI {
		return wire.ErrNotFound
	}
	if x.opts.DisableReferrersFiltering {
		x.ArtifactType = ""
	}
	const head = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[`
	index := []byte(head)
	n, last := 0, ""
	ctx := ociregistry.WithReferrersAfter(x.ctx(), ociregistry.Digest(x.ListLast))
	for desc, err := range x.backend.Referrers(ctx, x.Repository, x.Digest, x.ArtifactType) {
		if errors.Is(err, ociregistry.ErrUnsupported) {
			return wire.ErrNotFound // so that clients maintain the lists themselves
		}
		if err != nil {
			return err
		}
		if string(desc.Digest) <= x.ListLast {
			continue
		}
		elem, err := json.Marshal(desc)
		if err != nil {
			return err
		}
		if n == x.opts.ReferrersPageSize || n > 0 && len(index)+len(elem) > maxReferrersBytes {
			x.setNextLink(last)
			break
		}
		if n > 0 {
			index = append(index, ',')
		}
		index = append(index, elem...)
		n, last = n+1, string(desc.Digest)
	}
	if x.ArtifactType != "" {
		x.header().Set("OCI-Filters-Applied", "artifactType")
	}
	x.write(ocispec.MediaTypeImageIndex, append(index, "]}"...))
	return nil
}

// writeJSON answers with v encoded as JSON.
func (x *exchange) writeJSON(mediaType string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	x.write(mediaType, data)
	return nil
}

// write answers with data.
func (x *exchange) write(mediaType string, data []byte) {
	values := []string{mediaType, strconv.Itoa(len(data))}
	x.header()["Content-Type"] = values[0:1:1]
	x.header()["Content-Length"] = values[1:2:2]
	if _, err := x.sendBy(http.StatusOK, int64(len(data)), bytes.NewReader(data).WriteTo); err != nil {
		panic(http.ErrAbortHandler)
	}
}
