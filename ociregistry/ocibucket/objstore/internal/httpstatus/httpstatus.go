// Package httpstatus says what the answers of stores mean that speak HTTP.
package httpstatus

import (
	"net/http"
	"strconv"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Kind returns the sentinel error of an answer that has no error code which the store is known
// to send. A status of 0 means that no answer came. Write says whether the request was to change
// something.
func Kind(status int, write bool) error {
	switch {
	case status == http.StatusPreconditionFailed:
		return objstore.ErrPrecondition
	case status == http.StatusTooManyRequests:
		return objstore.ErrThrottled
	case status == http.StatusRequestedRangeNotSatisfiable:
		return objstore.ErrInvalidRange
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return objstore.ErrDenied
	case status == http.StatusRequestTimeout:
	case status == http.StatusNotFound:
		// It is not the store's, which says what was not found.
		return objstore.ErrBadAnswer
	case status >= 400 && status < 500:
		return objstore.ErrInvalid
	}
	if write {
		return objstore.ErrUnclear
	}
	return objstore.ErrTemporary
}

// Date returns the Date of an answer. It is zero if there is none.
func Date(h http.Header) time.Time {
	date, _ := http.ParseTime(h.Get("Date"))
	return date
}

// After returns how long an answer asks to wait, up to an hour. It is zero if the answer does
// not say.
func After(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return time.Duration(min(max(seconds, 0), 3600)) * time.Second
}
