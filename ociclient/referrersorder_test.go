package ociclient_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// someReferrers returns n referrers, in the order of their digests.
func someReferrers(n int) []ociregistry.Descriptor {
	var list []ociregistry.Descriptor
	for i := range n {
		list = append(list, referrer(fmt.Sprint(i), signature))
	}
	return tidy(list)
}

// tidy returns a list in order.
func tidy(list []ociregistry.Descriptor) []ociregistry.Descriptor {
	return slices.SortedFunc(slices.Values(list), func(a, b ociregistry.Descriptor) int {
		return strings.Compare(string(a.Digest), string(b.Digest))
	})
}

// pager serves a list of referrers in its own order, n on a page. Its links have page
// numbers or the last digest.
type pager struct {
	list      []ociregistry.Descriptor
	n         int
	namesLast bool
	asked     atomic.Int64
}

func (p *pager) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p.asked.Add(1)
	start := 0
	if last := req.URL.Query().Get("last"); p.namesLast {
		start = 1 + slices.IndexFunc(p.list, func(d ociregistry.Descriptor) bool { return string(d.Digest) == last })
	} else {
		fmt.Sscan(last, &start)
	}
	end := min(start+p.n, len(p.list))
	if end < len(p.list) {
		last := fmt.Sprint(end)
		if p.namesLast {
			last = string(p.list[end-1].Digest)
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s?last=%s>; rel="next"`, req.URL.Path, last))
	}
	w.Header().Set("Content-Type", imageIndex)
	json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "manifests": p.list[start:end]})
}

// proxied returns reg behind a server with pages of n referrers.
func proxied(t *testing.T, reg ociregistry.Interface, n int) ociregistry.Interface {
	srv := faultserver.New(t, ociserver.New(reg, &ociserver.Options{ReferrersPageSize: n}))
	return clientOf(t, srv, ociclient.Options{}, newClock())
}

// A registry may list referrers in any order, such as the latest first.
func TestReferrersOfAnyOrderAreListedInOrder(t *testing.T) {
	t.Parallel()
	want := someReferrers(10)
	latestFirst := slices.Clone(want)
	slices.Reverse(latestFirst)
	mixed := append(slices.Clone(want[7:]), want[:7]...)
	for name, list := range map[string][]ociregistry.Descriptor{"in order": want, "latest first": latestFirst, "mixed": mixed, "twice": append(slices.Clone(mixed), want...)} {
		for _, n := range []int{2, 3, 100} {
			t.Run(fmt.Sprintf("%s by %d", name, n), func(t *testing.T) {
				t.Parallel()
				reg := clientOf(t, faultserver.New(t, &pager{list: list, n: n}), ociclient.Options{}, newClock())
				cache := ociunify.NewCache(ocimem.New(), reg, nil)
				t.Cleanup(func() { cache.Close() })
				for name, r := range map[string]ociregistry.Interface{
					"client": reg, "proxy": proxied(t, reg, 2), "proxy of a proxy": proxied(t, proxied(t, reg, 3), 2),
					"cache": proxied(t, cache, 2), "unified": ociunify.New(reg, proxied(t, reg, 4), nil),
				} {
					for _, typ := range []string{"", signature} {
						got, err := ociregistry.All(r.Referrers(t.Context(), "foo", contentDigest, typ))
						qt.Check(t, qt.IsNil(err))
						qt.Check(t, qt.DeepEquals(names(got), names(want)), qt.Commentf("%s", name))
					}
				}
			})
		}
	}
}

// A referrer that comes later than its page's link promised is not dropped silently.
func TestReferrersThatBreakTheirOrderAreAnError(t *testing.T) {
	t.Parallel()
	want := someReferrers(6)
	list := append(slices.Clone(want[2:]), want[:2]...)
	reg := clientOf(t, faultserver.New(t, &pager{list: list, n: 2, namesLast: true}), ociclient.Options{}, newClock())
	got, err := ociregistry.All(reg.Referrers(t.Context(), "foo", contentDigest, ""))
	qt.Check(t, qt.ErrorMatches(err, ".*not in the order.*"))
	qt.Check(t, qt.HasLen(got, 4)) // those in order
}

// A page of a proxy costs its origin a page or two, wherever it begins.
func TestReferrersPageOfAProxyBeginsWhereItIsAsked(t *testing.T) {
	t.Parallel()
	want := someReferrers(100)
	origin := &pager{list: want, n: 5, namesLast: true}
	reg := clientOf(t, faultserver.New(t, origin), ociclient.Options{}, newClock())
	got, err := ociregistry.All(proxied(t, reg, 5).Referrers(t.Context(), "foo", contentDigest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names(got), names(want)))
	qt.Check(t, qt.IsTrue(origin.asked.Load() <= 3*20), qt.Commentf("%d", origin.asked.Load()))

	// An invalid digest is not passed on to another registry.
	for _, after := range []ociregistry.Digest{"~", "sha256:", want[50].Digest[:20]} {
		got, err := ociregistry.All(reg.Referrers(ociregistry.WithReferrersAfter(t.Context(), after), "foo", contentDigest, ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(got, 100))
	}
	after := ociregistry.WithReferrersAfter(t.Context(), digest.Digest(want[98].Digest))
	got, err = ociregistry.All(reg.Referrers(after, "foo", contentDigest, ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names(got), names(append(slices.Clone(want[:5]), want[99]))))
}
