package objstore

import (
	"errors"
	"fmt"
	"time"
)

// The sentinel errors. Errors of a [Store] wrap one of them, or several: a write
// that ends with its context is ErrUnclear and context.Canceled.
var (
	// ErrNotFound: there is no such object, or no such upload.
	ErrNotFound = errors.New("not found")
	// ErrPrecondition: the condition does not hold. Nothing was done.
	ErrPrecondition = errors.New("precondition failed")
	// ErrConflict: another request is under way at the same key. Nothing was done; the
	// same request can be made again.
	ErrConflict = errors.New("conflict, to be tried again")
	// ErrThrottled: the store asks for fewer requests. Nothing was done; the same
	// request can be made again, later.
	ErrThrottled = errors.New("throttled")
	// ErrTemporary: a read failed, and may succeed when it is tried again.
	ErrTemporary = errors.New("temporary error")
	// ErrUnclear: a write may have been carried out, or may be later.
	ErrUnclear = errors.New("unclear whether it was done")
	// ErrInvalidRange: a range begins at or beyond the end of the object.
	ErrInvalidRange = errors.New("invalid range")
	// ErrInvalidPart: a part of a Complete is not as it was put, or too small.
	ErrInvalidPart = errors.New("invalid part")
	// ErrTooLarge: an object is larger than the caller takes.
	ErrTooLarge = errors.New("too large")
	// ErrDenied: the store refuses the caller, for want of credentials or of rights.
	ErrDenied = errors.New("access denied")
	// ErrUnsupported: the store has no such operation.
	ErrUnsupported = errors.New("unsupported")
	// ErrInvalid: an argument is one that no store takes, or the store takes it for invalid.
	// Nothing was done.
	ErrInvalid = errors.New("invalid argument")
	// ErrBadAnswer: the store's answer cannot be right. A write may have been carried out.
	ErrBadAnswer = errors.New("bad answer")
	// ErrConditions: the store does not keep conditions. [Probe] returns it.
	ErrConditions = errors.New("the store does not keep conditions")
)

// notDone are the errors after which a write was not carried out and will not be.
var notDone = []error{
	ErrNotFound, ErrPrecondition, ErrConflict, ErrThrottled, ErrInvalidPart,
	ErrDenied, ErrUnsupported, ErrInvalid,
}

// Unclear reports whether a write that returned err may have been carried out,
// or may be carried out later.
func Unclear(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrUnclear) {
		return true
	}
	for _, e := range notDone {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

// An Error is an error of a request.
type Error struct {
	// Op is the method's name.
	Op string
	// Key is the object's key, or the prefix of a list.
	Key string
	// Kind is one of the sentinel errors.
	Kind error
	// Date is when the store answered, by its clock. It is zero if no answer came.
	Date time.Time
	// After is how long the store asks to wait before the next attempt. It is zero if it does not say.
	After time.Duration
	// Err is the cause. It may be nil.
	Err error
}

// Error returns operation, key, kind and cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s %q: %v", e.Op, e.Key, e.Kind)
	}
	return fmt.Sprintf("%s %q: %v: %v", e.Op, e.Key, e.Kind, e.Err)
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Date returns when the store gave the answer that err is, by its clock. It is
// zero if there was none: a connection broke, an argument was invalid.
func Date(err error) time.Time {
	var e *Error
	if errors.As(err, &e) {
		return e.Date
	}
	return time.Time{}
}
