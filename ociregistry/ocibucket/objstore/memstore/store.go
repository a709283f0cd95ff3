// Package memstore keeps objects in memory, and injects the faults of object storage: it is the test
// bed for what is built on it.
package memstore

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Options are options for New. Nil and the zero Options are the same.
type Options struct {
	// Now is the store's clock. Nil means time.Now. Dates of answers are cut to seconds, as
	// those of services are.
	Now func() time.Time
	// Fault decides what happens to each request. Nil means that nothing does. It
	// may be called by many goroutines at once.
	Fault func(Request) Fault
	// PageSize is the maximum number of keys, parts and uploads of a page. Zero
	// means objstore.MaxList, which also bounds it.
	PageSize int
	// MinPartSize is the minimum size of a part but the last. Zero means no limit.
	MinPartSize int64
	// NoDeleteIfMatch: Delete takes no condition, as in some services.
	NoDeleteIfMatch bool
	// DatedByCompletion dates an object of parts by its completion, not by the creation of its upload.
	DatedByCompletion bool
	// URL is where the Store is served as an http.Handler, without a slash at the end.
	// Presigned URLs begin with it. Empty means that there are none.
	URL string
}

// A Store is an objstore.Store in memory. It is also an http.Handler that answers
// GET of the URLs that Presign returns.
type Store struct {
	objstore.Store
	mem *memory
}

// New returns an empty store.
func New(opts *Options) *Store {
	m := &memory{objects: map[string]*object{}, uploads: map[string]*upload{}, secret: random()}
	if opts != nil {
		m.opts = *opts
	}
	if m.opts.Now == nil {
		m.opts.Now = time.Now
	}
	if m.opts.PageSize <= 0 || m.opts.PageSize > objstore.MaxList {
		m.opts.PageSize = objstore.MaxList
	}
	return &Store{Store: objstore.Check(&faulty{mem: m}), mem: m}
}

// Keys returns the keys of all objects, in byte order.
func (s *Store) Keys() []string {
	s.mem.mu.Lock()
	defer s.mem.mu.Unlock()
	return sortedKeys(s.mem.objects, "")
}

// memory has the objects. Its methods are the requests as they are carried out: without faults,
// contexts and checks of arguments.
type memory struct {
	opts   Options
	secret string

	mu      sync.Mutex
	objects map[string]*object
	uploads map[string]*upload // by ID
	late    []lateWrite
}

// An object is never changed, but replaced.
type object struct {
	body     []byte
	etag     objstore.ETag
	modified time.Time
}

func (m *memory) date() time.Time { return m.opts.Now().Truncate(time.Second) }

// fail returns an error that the store answers.
func (m *memory) fail(op, key string, kind error) error {
	return &objstore.Error{Op: op, Key: key, Kind: kind, Date: m.date()}
}

func (m *memory) get(key string, r objstore.Range) (*objstore.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return nil, m.fail("Get", key, objstore.ErrNotFound)
	}
	size := int64(len(o.body))
	end := size
	if r.Length > 0 {
		end = min(end, r.Offset+r.Length)
	}
	if r.Offset >= size && r != (objstore.Range{}) {
		return nil, m.fail("Get", key, objstore.ErrInvalidRange)
	}
	return &objstore.Object{Info: m.info(key, o), Offset: r.Offset, Length: end - r.Offset, Body: io.NopCloser(bytes.NewReader(o.body[r.Offset:end]))}, nil
}

func (m *memory) info(key string, o *object) objstore.Info {
	return objstore.Info{Key: key, Size: int64(len(o.body)), ETag: o.etag, LastModified: o.modified, Date: m.date()}
}

// holds returns an error if the condition of a write does not hold.
func (m *memory) holds(op, key string, cond objstore.Condition) error {
	o, ok := m.objects[key]
	switch {
	case cond.IfAbsent && ok, cond.IfMatch != "" && ok && o.etag != cond.IfMatch:
		return m.fail(op, key, objstore.ErrPrecondition)
	case cond.IfMatch != "" && !ok:
		return m.fail(op, key, objstore.ErrNotFound)
	}
	return nil
}

func (m *memory) put(key string, body []byte, cond objstore.Condition) (objstore.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.holds("Put", key, cond); err != nil {
		return objstore.Info{}, err
	}
	// As of many services, equal bytes have equal ETags.
	sum := md5.Sum(body)
	o := &object{body: body, etag: objstore.ETag(hex.EncodeToString(sum[:])), modified: m.date()}
	m.objects[key] = o
	return m.info(key, o), nil
}

func (m *memory) delete(key string, cond objstore.Condition) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.holds("Delete", key, cond); err != nil {
		return time.Time{}, err
	}
	delete(m.objects, key)
	return m.date(), nil
}

func (m *memory) list(opts objstore.ListOptions) (*objstore.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	limit := m.opts.PageSize
	if opts.Limit > 0 {
		limit = min(limit, opts.Limit)
	}
	after := max(opts.StartAfter, opts.Next)
	page := &objstore.Page{Date: m.date()}
	for _, key := range sortedKeys(m.objects, opts.Prefix) {
		name, rolled := rollUp(key, opts)
		if name <= after {
			continue
		}
		if len(page.Objects)+len(page.Prefixes) == limit {
			page.Next = after
			break
		}
		after = name
		if rolled {
			page.Prefixes = append(page.Prefixes, name)
		} else {
			page.Objects = append(page.Objects, m.info(key, m.objects[key]))
		}
	}
	return page, nil
}

// rollUp returns what a list shows for a key: the key, or a common prefix.
func rollUp(key string, opts objstore.ListOptions) (name string, rolled bool) {
	if opts.Delimiter == "" {
		return key, false
	}
	rest := key[len(opts.Prefix):]
	i := strings.Index(rest, opts.Delimiter)
	if i < 0 {
		return key, false
	}
	return key[:len(opts.Prefix)+i+len(opts.Delimiter)], true
}

func sortedKeys[V any](m map[string]V, prefix string) []string {
	var keys []string
	for key := range m {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
