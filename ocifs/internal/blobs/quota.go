package blobs

import (
	"fmt"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Quota accounts for bytes that are stored or about to be, and limits them. The bytes
// of a blob count once, however many layouts hold it. The zero value has no limit. A
// Quota is safe for concurrent use.
type Quota struct {
	Max int64 // maximum number of bytes. Zero means no limit.

	used atomic.Int64
}

// Reserve accounts for n more bytes, unless that would exceed the limit.
//
// Errors: [ociregistry.ErrDenied].
func (q *Quota) Reserve(n int64) error {
	if n == 0 {
		return nil
	}
	for {
		// Refused bytes must not be counted even for a moment: others that fit
		// would be refused, too.
		used := q.used.Load()
		if q.Max > 0 && n > q.Max-used {
			return fmt.Errorf("%w: the registry's limit of %d bytes is reached", ociregistry.ErrDenied, q.Max)
		}
		if q.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

// Add accounts for n bytes that are stored already, even beyond the limit.
func (q *Quota) Add(n int64) { q.used.Add(n) }

// Release accounts for the removal of n bytes.
func (q *Quota) Release(n int64) { q.used.Add(-n) }

// Used returns the number of bytes that are accounted for.
func (q *Quota) Used() int64 { return q.used.Load() }

// A Share is the bytes of a [Quota] that are reserved for one content which is not stored
// yet. The zero Share has none, and can get none. It is not safe for concurrent use.
type Share struct {
	quota *Quota
	n     int64
}

// NewShare returns a share that has n bytes, which are accounted for already.
func (q *Quota) NewShare(n int64) Share { return Share{q, n} }

// Size returns the number of bytes that are reserved.
func (s *Share) Size() int64 { return s.n }

// Reserve reserves n more bytes.
//
// Errors: [ociregistry.ErrDenied].
func (s *Share) Reserve(n int64) error {
	err := s.quota.Reserve(n)
	if err == nil {
		s.n += n
	}
	return err
}

// Release gives back n of the bytes.
func (s *Share) Release(n int64) {
	s.quota.Release(n)
	s.n -= n
}

// HandOver gives all of the bytes to what is stored now. The share is empty then.
func (s *Share) HandOver() { s.n = 0 }

// Free gives back all of the bytes that were not handed over.
func (s *Share) Free() {
	if s.n != 0 {
		s.Release(s.n)
	}
}
