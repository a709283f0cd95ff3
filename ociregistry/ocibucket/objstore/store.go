package objstore

import (
	"context"
	"io"
	"time"
)

// A Store is one bucket of object storage. All methods are safe for concurrent
// use by many goroutines, and by many processes on one bucket. They return when
// the context ends, with an error that wraps the context's; a write is
// [ErrUnclear] then too.
//
// Errors wrap the sentinels of this package, and are an [*Error] where the store
// answered. Every method returns [ErrInvalid] without a request for an
// argument that no store takes, [ErrDenied] if the store refuses the caller,
// [ErrThrottled] if it asks for fewer requests, and [ErrBadAnswer] if the answer
// cannot be right. Reads return [ErrTemporary], and writes [ErrUnclear], for what
// may pass: a broken connection, a status of the 5xx.
//
// An implementation repeats no request on its own: see [Retry].
type Store interface {
	// Get returns an object, or a range of it. The caller closes Body. Errors:
	// ErrNotFound, ErrInvalidRange if the range begins at or beyond the end.
	Get(ctx context.Context, key string, r Range) (*Object, error)

	// Put writes an object. It keeps body until it returns. ErrPrecondition means that the
	// condition does not hold; ErrConflict, that another request is under way at this
	// key, and this one has to be made again. IfMatch of an absent key is
	// ErrPrecondition or ErrNotFound. The Info has the ETag and the Date, and
	// LastModified where the store tells it.
	Put(ctx context.Context, key string, body []byte, cond Condition) (Info, error)

	// Delete removes an object. Without a condition, an absent key is no error.
	// With IfMatch, it is ErrNotFound, ErrPrecondition or, on some stores, no error; stores without
	// Capabilities.DeleteIfMatch return ErrUnsupported. IfAbsent is ErrInvalid.
	// The time is the answer's Date.
	Delete(ctx context.Context, key string, cond Condition) (time.Time, error)

	// List returns a page of keys in byte order. A page may be empty and have a
	// Next. A prefix with nothing below it is an empty page, not an error.
	List(ctx context.Context, opts ListOptions) (*Page, error)

	// CreateMultipart begins an upload of parts, which becomes the object when it is
	// complete. A key should have at most one upload at a time: some stores keep
	// the parts of all of them in one place. An unclear answer may leave an upload that
	// only ListMultiparts shows.
	CreateMultipart(ctx context.Context, key string) (Multipart, error)

	// PutPart uploads the bytes of a part, whose number is from 1 to Capabilities.MaxParts. It
	// keeps body until it returns. A second part of a number replaces the first if
	// Capabilities.PartsReplace is set; else both stay, and Complete names one. ErrNotFound
	// means that there is no such upload; some stores find that out at Complete only.
	PutPart(ctx context.Context, up Multipart, number int, body []byte) (Part, error)

	// ListParts returns the parts that were put with a number above after, in order of their numbers.
	// ErrNotFound means that there is no such upload, or, on some stores, none with parts.
	ListParts(ctx context.Context, up Multipart, after int) (*PartPage, error)

	// CompleteMultipart makes the object of parts, whose numbers rise, in one step and under a
	// condition. ErrInvalidPart: a part is unknown, was replaced, or is smaller than
	// Capabilities.MinPartSize and not the last. ErrNotFound: there is no such
	// upload; it was aborted, or completed, by this very request even if
	// an earlier attempt got an unclear answer. After ErrPrecondition
	// and ErrConflict, the upload may or may not be there still.
	CompleteMultipart(ctx context.Context, up Multipart, parts []Part, cond Condition) (Info, error)

	// AbortMultipart ends an upload and frees its parts. A part that is being put meanwhile may stay:
	// who wants to be sure lists uploads later. ErrNotFound means that there is no such upload.
	// A store may answer success for an upload that it does not know.
	// The time is the answer's Date.
	AbortMultipart(ctx context.Context, up Multipart) (time.Time, error)

	// ListMultiparts returns a page of the uploads that are neither complete nor aborted, in order of
	// their keys. On some stores an upload without parts is not listed, and of several uploads of a
	// key only the first, until it has ended.
	ListMultiparts(ctx context.Context, opts MultipartOptions) (*MultipartPage, error)

	// Presign returns a URL at which anybody can GET the object for a time. It makes no
	// request, or one for a key to sign with; it does not look whether the object is there. The
	// URL's query is a secret. ErrUnsupported means that the store, or how the caller is known
	// to it, has no such URLs.
	Presign(ctx context.Context, key string, opts PresignOptions) (string, error)

	// Capabilities says where this store differs from others. It makes no request.
	Capabilities() Capabilities
}

// An ETag is the store's opaque name of an object's content, without quotes. Writes
// of different bytes give different ETags. Writes of equal bytes may give equal ones.
type ETag string

// A Range is a part of an object. The zero Range is the whole object.
type Range struct {
	// Offset is the first byte.
	Offset int64
	// Length is the maximum number of bytes. Zero means to the end.
	Length int64
}

// A Condition says when a write is to be carried out. The zero Condition
// means always. At most one field is set.
type Condition struct {
	// IfAbsent: there is no object at the key.
	IfAbsent bool
	// IfMatch: there is an object at the key, with this ETag.
	IfMatch ETag
}

// Info is what a store says of an object.
type Info struct {
	// Key is the object's key.
	Key string
	// Size is its length in bytes.
	Size int64
	// ETag names its content.
	ETag ETag
	// LastModified is when it was written, by the store's clock: for an object of
	// parts, when the upload was created or completed. It is zero in the answer of a
	// write where the store does not say it.
	LastModified time.Time
	// Date is when the store answered, by its clock.
	Date time.Time
}

// An Object is an object that is being read.
type Object struct {
	Info
	// Offset and Length say which bytes Body has.
	Offset, Length int64
	// Body has exactly Length bytes. It returns ErrTemporary if they do not come, and when the
	// context of the Get has ended.
	Body io.ReadCloser
}

// ListOptions are options for List.
type ListOptions struct {
	// Prefix is what the keys begin with. It may be empty.
	Prefix string
	// StartAfter is the key, or common prefix, after which to begin. It may be
	// empty or any string.
	StartAfter string
	// Delimiter is empty or "/". Keys that have it after Prefix are rolled up: the
	// page has their beginning, up to and with the delimiter, once, in Prefixes.
	Delimiter string
	// Limit is the maximum number of keys and prefixes of the page. Zero means the
	// store's maximum, which also bounds it.
	Limit int
	// Next is Next of the page before, or empty. All other fields must be the same.
	Next string
}

// A Page is a part of a list.
type Page struct {
	// Objects are in byte order of their keys.
	Objects []Info
	// Prefixes are in byte order.
	Prefixes []string
	// Next is for the next page. It is empty on the last one.
	Next string
	// Date is when the store answered.
	Date time.Time
}

// A Multipart is an upload of parts.
type Multipart struct {
	// Key is that of the object to be.
	Key string
	// ID is the store's name of the upload.
	ID string
	// Created is when it began, by the store's clock. Requests ignore it.
	Created time.Time
}

// A Part is an uploaded part.
type Part struct {
	// Number is its place in the object.
	Number int
	// ETag names its content.
	ETag ETag
	// Size is its length in bytes.
	Size int64
	// Date is when the store answered its PutPart. It is zero in lists, and requests ignore it.
	Date time.Time
}

// A PartPage is a part of a list of parts.
type PartPage struct {
	// Parts are in order of their numbers. Without Capabilities.PartsReplace, a number may be there
	// several times.
	Parts []Part
	// More says that there are more, after the last number.
	More bool
	// Date is when the store answered.
	Date time.Time
}

// MultipartOptions are options for ListMultiparts.
type MultipartOptions struct {
	// Prefix is what the keys begin with. It may be empty.
	Prefix string
	// Limit is the maximum number of uploads. Zero means the store's maximum, which
	// also bounds it.
	Limit int
	// Next is Next of the page before, or empty.
	Next string
}

// A MultipartPage is a part of a list of uploads.
type MultipartPage struct {
	// Uploads are in byte order of their keys.
	Uploads []Multipart
	// Next is for the next page. It is empty on the last one.
	Next string
	// Date is when the store answered.
	Date time.Time
}

// PresignOptions are options for Presign.
type PresignOptions struct {
	// Expires is how long the URL is valid: a second to [MaxPresign].
	Expires time.Duration
	// ContentType is that of the answer. Empty means the store's default.
	ContentType string
}

// Capabilities says where stores differ.
type Capabilities struct {
	// DeleteIfMatch: Delete takes IfMatch.
	DeleteIfMatch bool
	// StartAfter: ListOptions.StartAfter costs nothing. Else keys before it are read and left out.
	StartAfter bool
	// PartsReplace: a part replaces one of the same number.
	PartsReplace bool
	// Presign: the store has presigned URLs.
	Presign bool
	// MinPartSize is the minimum size of a part but the last, in bytes.
	MinPartSize int64
	// MaxPartSize is the maximum size of a part, and of what Put takes, in bytes.
	MaxPartSize int64
	// MaxParts is the maximum number of a part.
	MaxParts int
}
