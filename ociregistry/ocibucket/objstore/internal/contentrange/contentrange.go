// Package contentrange reads which part of an object an answer has.
package contentrange

import "fmt"

// Parse returns where the part begins, its length, and the size of the object, from the
// fields Content-Length and Content-Range (RFC 9110, 14.4) of an answer, nil for one that is
// missing. If they cannot be right, the size is -1, which objstore.Check refuses.
func Parse(contentLength *int64, contentRange *string) (offset, length, size int64) {
	if contentLength == nil {
		return 0, 0, -1
	}
	length, size = *contentLength, *contentLength
	if contentRange != nil {
		var last int64
		if _, err := fmt.Sscanf(*contentRange, "bytes %d-%d/%d", &offset, &last, &size); err != nil || last != offset+length-1 {
			size = -1
		}
	}
	return offset, length, size
}
