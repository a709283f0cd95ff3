// Package window has the arithmetic of readers that show a part of some content:
// where the part ends, and how to seek in it.
package window

import (
	"errors"
	"fmt"
	"io"

	"github.com/seed-40b21970/oci/ociregistry"
)

// End returns where the bytes end that GetBlobRange was asked for, of a blob of size
// bytes. A negative offset1, or one beyond the blob's end, stands for that.
//
// Errors: [ociregistry.ErrRangeInvalid].
func End(size, offset0, offset1 int64) (int64, error) {
	switch {
	case offset0 < 0 || offset0 > size || offset1 >= 0 && offset1 < offset0:
		return 0, fmt.Errorf("%w: there are %d bytes", ociregistry.ErrRangeInvalid, size)
	case offset1 < 0 || offset1 > size:
		return size, nil
	}
	return offset1, nil
}

// Seek returns the position that [io.Seeker.Seek] leads to, from position at of a
// window of size bytes. It may be beyond the end.
func Seek(at, size, offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += at
	case io.SeekEnd:
		offset += size
	default:
		return 0, errors.New("Seek: invalid whence")
	}
	if offset < 0 {
		return 0, errors.New("Seek: negative position")
	}
	return offset, nil
}
