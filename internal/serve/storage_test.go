package serve

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// shelf is a kind of storage whose registries are in memory, by name.
type shelf struct {
	registries map[string]*ocimem.Registry
	redirect   string   // the value of its own flag
	problems   []string // that Verify finds, if it is not nil
	opened     []Settings
}

func (s *shelf) storage() Storage {
	return Storage{
		Flag: "shelf", Usage: "serve the shelf `name`",
		Define: func(flags *flag.FlagSet) { flags.StringVar(&s.redirect, "redirect", "", "send clients to `url`") },
		Open: func(_ context.Context, value string, settings Settings) (*Opened, error) {
			s.opened = append(s.opened, settings)
			name, _, _ := strings.Cut(value, "?")
			r := s.registries[name]
			if r == nil {
				return nil, errors.New("no such shelf")
			}
			opened := &Opened{Registry: memory{r}}
			if s.problems != nil {
				opened.Verify = func(context.Context) iter.Seq2[fmt.Stringer, error] {
					return func(yield func(fmt.Stringer, error) bool) {
						for _, p := range s.problems {
							if !yield(text(p), nil) {
								return
							}
						}
					}
				}
			}
			if s.redirect != "" {
				opened.Redirect = func(_ context.Context, repo string, digest ociregistry.Digest) (string, time.Time, error) {
					return s.redirect + repo + "/" + string(digest), time.Time{}, nil
				}
			}
			return opened, nil
		},
	}
}

// text is a text as a fmt.Stringer.
type text string

func (t text) String() string { return string(t) }

func newShelf(t *testing.T) (*shelf, *ocitest.Artifact) {
	r := ocimem.New()
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10}})
	qt.Assert(t, qt.IsNil(image.Push(t.Context(), r, "app")))
	return &shelf{registries: map[string]*ocimem.Registry{"top": r}}, image
}

func TestStorage_IsServed(t *testing.T) {
	t.Parallel()
	s, image := newShelf(t)
	url, log, stop := startWith(t, Program{Storages: []Storage{s.storage()}}, "-shelf", "top?key=secret", "-redirect", "http://elsewhere/", "-immutable", "-sparse", "-max-uploads", "7")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	digest := string(image.Blobs[0].Descriptor.Digest)
	resp, err := client.Get(url + "/app/blobs/" + digest)
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusTemporaryRedirect))
	qt.Check(t, qt.Equals(resp.Header.Get("Location"), "http://elsewhere/app/"+digest))
	qt.Check(t, qt.Equals(stop(), 0))
	qt.Assert(t, qt.HasLen(s.opened, 1))
	qt.Check(t, qt.IsTrue(s.opened[0].ImmutableTags && s.opened[0].Sparse && !s.opened[0].ReadOnly && s.opened[0].MaxUploads == 7 && s.opened[0].Logger != nil))
	qt.Check(t, qt.Not(qt.StringContains(log.String(), "secret")))
}

func TestStorage_IsCollected(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t)
	var out, errs bytes.Buffer
	status := Program{Storages: []Storage{s.storage()}}.Run(t.Context(), []string{"gc", "-shelf", "top", "-delay", "0", "-untagged", "-immutable"}, &out, &errs)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs.String()))
	qt.Check(t, qt.StringContains(out.String(), "Removed 1 manifest and 2 blobs"))
	qt.Check(t, qt.IsTrue(s.opened[0].ImmutableTags))
}

func TestStorage_IsVerified(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		problems []string
		status   int
		out, err string
	}{
		{nil, 1, "", "ociserve verify: the shelf top cannot be verified\n"},
		{[]string{}, 0, "Nothing is wrong.\n", ""},
		{[]string{"app: x", "app: y"}, 1, "app: x\napp: y\n2 found.\n", ""},
	} {
		s, _ := newShelf(t)
		s.problems = test.problems
		var out, errs bytes.Buffer
		status := Program{Storages: []Storage{s.storage()}}.Run(t.Context(), []string{"verify", "-shelf", "top", "-immutable", "-sparse"}, &out, &errs)
		qt.Check(t, qt.Equals(status, test.status))
		qt.Check(t, qt.Equals(out.String(), test.out))
		qt.Check(t, qt.Equals(errs.String(), test.err))
		qt.Check(t, qt.IsTrue(s.opened[0].ReadOnly && s.opened[0].ImmutableTags && s.opened[0].Sparse))
	}
}

func TestStorage_IsACache(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t)
	origin := startOrigin(t, http.NotFoundHandler())
	cfg, err := Program{Storages: []Storage{s.storage()}}.parseFlags([]string{"-cache", origin.URL, "-shelf", "top?x", "-max-bytes", "10"}, io.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Matches(cfg.what(), "a cache of .* in the shelf top"))
	opened, err := cfg.open(t.Context(), nil, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(opened.Close()))
	qt.Check(t, qt.IsTrue(s.opened[0].Sparse))
}

func TestStorage_RefusesNonsense(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t)
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"-redirect x", 2, "-redirect is for -shelf"},
		{"-shelf top -dir x", 2, "-shelf excludes -dir, -layout and -proxy"},
		{"-shelf top -proxy x.example", 2, "-shelf excludes -dir, -layout and -proxy"},
		{"-shelf top -max-bytes 1", 2, "-max-bytes is not for -shelf"},
		{"-shelf top -no-sync", 2, "-no-sync is for"},
		{"-shelf top -verify-reads", 2, "-verify-reads is for"},
		{"-addr 127.0.0.1:0 -shelf other", 1, "no such shelf"},
		{"gc -shelf top dir", 2, "-shelf excludes a directory"},
		{"verify -shelf top dir", 2, "-shelf excludes a directory"},
		{"verify -shelf top -repair", 2, "-repair is for a directory"},
		{"verify -redirect x dir", 2, "-redirect is for -shelf"},
		{"verify -shelf other", 1, "no such shelf"},
		{"gc -redirect x dir", 2, "-redirect is for -shelf"},
		{"gc -shelf other", 1, "no such shelf"},
	} {
		var errs bytes.Buffer
		status := Program{Storages: []Storage{s.storage()}}.Run(t.Context(), strings.Fields(test.args), io.Discard, &errs)
		qt.Check(t, qt.Equals(status, test.status), qt.Commentf(test.args))
		qt.Check(t, qt.StringContains(errs.String(), test.want), qt.Commentf(test.args))
	}
}
