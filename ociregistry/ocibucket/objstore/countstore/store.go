// Package countstore counts the requests of a store, by kind: what a call costs is known by them.
package countstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Counts has how often each method of a store made a request, by its name. Capabilities and Presign
// are no requests.
type Counts map[string]int

// Total returns the number of all requests.
func (c Counts) Total() int {
	n := 0
	for _, count := range c {
		n += count
	}
	return n
}

// String returns the counts in order of their names, as in "Get:2 Put:1".
func (c Counts) String() string {
	var list []string
	for _, op := range slices.Sorted(maps.Keys(c)) {
		list = append(list, fmt.Sprintf("%s:%d", op, c[op]))
	}
	return strings.Join(list, " ")
}

// A Store passes requests on and counts them. It counts attempts if it is below
// objstore.Retry, and calls if it is above.
type Store struct {
	objstore.Store
	// Log is called for each request, with the method's name and its key or prefix, before it is made.
	// It may be nil. Set it before the first request.
	Log func(op, key string)

	mu     sync.Mutex
	counts Counts
}

// New returns a Store over s.
func New(s objstore.Store) *Store { return &Store{Store: s, counts: Counts{}} }

// Counts returns what was counted since New, or the last Reset.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// Reset returns the counts, and begins anew at zero.
func (s *Store) Reset() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.counts
	s.counts = Counts{}
	return counts
}

func (s *Store) count(op, key string) {
	s.mu.Lock()
	s.counts[op]++
	s.mu.Unlock()
	if s.Log != nil {
		s.Log(op, key)
	}
}

// Get counts and passes on.
func (s *Store) Get(ctx context.Context, key string, r objstore.Range) (*objstore.Object, error) {
	s.count("Get", key)
	return s.Store.Get(ctx, key, r)
}

// Put counts and passes on.
func (s *Store) Put(ctx context.Context, key string, body []byte, cond objstore.Condition) (objstore.Info, error) {
	s.count("Put", key)
	return s.Store.Put(ctx, key, body, cond)
}

// Delete counts and passes on.
func (s *Store) Delete(ctx context.Context, key string, cond objstore.Condition) (time.Time, error) {
	s.count("Delete", key)
	return s.Store.Delete(ctx, key, cond)
}

// List counts and passes on.
func (s *Store) List(ctx context.Context, opts objstore.ListOptions) (*objstore.Page, error) {
	s.count("List", opts.Prefix)
	return s.Store.List(ctx, opts)
}

// CreateMultipart counts and passes on.
func (s *Store) CreateMultipart(ctx context.Context, key string) (objstore.Multipart, error) {
	s.count("CreateMultipart", key)
	return s.Store.CreateMultipart(ctx, key)
}

// PutPart counts and passes on.
func (s *Store) PutPart(ctx context.Context, up objstore.Multipart, number int, body []byte) (objstore.Part, error) {
	s.count("PutPart", up.Key)
	return s.Store.PutPart(ctx, up, number, body)
}

// ListParts counts and passes on.
func (s *Store) ListParts(ctx context.Context, up objstore.Multipart, after int) (*objstore.PartPage, error) {
	s.count("ListParts", up.Key)
	return s.Store.ListParts(ctx, up, after)
}

// CompleteMultipart counts and passes on.
func (s *Store) CompleteMultipart(ctx context.Context, up objstore.Multipart, parts []objstore.Part, cond objstore.Condition) (objstore.Info, error) {
	s.count("CompleteMultipart", up.Key)
	return s.Store.CompleteMultipart(ctx, up, parts, cond)
}

// AbortMultipart counts and passes on.
func (s *Store) AbortMultipart(ctx context.Context, up objstore.Multipart) (time.Time, error) {
	s.count("AbortMultipart", up.Key)
	return s.Store.AbortMultipart(ctx, up)
}

// ListMultiparts counts and passes on.
func (s *Store) ListMultiparts(ctx context.Context, opts objstore.MultipartOptions) (*objstore.MultipartPage, error) {
	s.count("ListMultiparts", opts.Prefix)
	return s.Store.ListMultiparts(ctx, opts)
}
