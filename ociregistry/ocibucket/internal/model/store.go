package model

import (
	"slices"
	"strings"
)

type op int

const (
	get op = iota
	list
	put
	putIfAbsent
	putIfMatch
	del
	delIfMatch
	create // a multipart upload
	part
	complete
	abort
	wait // no request: goes on when until is true
)

var opNames = []string{"get", "list", "put", "putIfAbsent", "putIfMatch", "del", "delIfMatch", "create", "part", "complete", "abort", "wait"}

// A request is what a process asks of the bucket.
type request struct {
	op     op
	key    string // or a prefix
	body   body
	match  string // an ETag
	upload string
	number int
	parts  []partRef
	until  func() bool
}

func (r request) write() bool { return r.op >= put && r.op < wait }

type code int

const (
	none code = iota // no answer: unclear for a write
	ok
	notFound
	refused
	invalidPart
)

var codeNames = []string{"none", "ok", "notFound", "refused", "invalidPart"}

// An answer has the Date, which may be a second early.
type answer struct {
	code     code
	body     body
	version  string // the ETag
	modified int
	date     int
	entries  []entry
}

// An entry is what a list says of a key.
type entry struct {
	key      string
	modified int
	dead     bool // by its size
}

// A body is never changed once it is written. Equal bodies have equal ETags.
type body interface{ etag() string }

type text string

func (t text) etag() string { return string(t) }

type object struct {
	body     body
	modified int
}

// A partRef names a part as it was put.
type partRef struct {
	number  int
	content string
}

type upload struct {
	key     string
	created int
	parts   map[int]string
}

// A bucket carries out requests, each at once and as a whole.
type bucket struct {
	objects map[string]object
	uploads map[string]*upload
	created map[string]bool // IDs of uploads, of those that have ended too
}

func newBucket() *bucket {
	return &bucket{map[string]object{}, map[string]*upload{}, map[string]bool{}}
}

func (b *bucket) carryOut(r request, now int) answer {
	a := answer{code: ok, date: now, modified: now}
	o, there := b.objects[r.key]
	switch r.op {
	case get:
		if !there {
			a.code = notFound
			break
		}
		a.body, a.version, a.modified = o.body, o.body.etag(), o.modified
	case list:
		a.entries = b.list(r.key)
	case put, putIfAbsent, putIfMatch:
		if r.op == putIfAbsent && there || r.op == putIfMatch && (!there || o.body.etag() != r.match) {
			a.code = refused
			break
		}
		b.objects[r.key] = object{r.body, now}
		a.version = r.body.etag()
	case del, delIfMatch:
		if r.op == delIfMatch && (!there || o.body.etag() != r.match) {
			a.code = refused
			break
		}
		delete(b.objects, r.key)
	case create:
		b.create(r, now)
	default:
		a.code = b.multipart(r, there)
	}
	return a
}

// create makes an upload. The bucket gives IDs: a request that is repeated makes another upload, of
// which nobody knows.
func (b *bucket) create(r request, now int) {
	if !b.created[r.upload] {
		b.created[r.upload] = true
		b.uploads[r.upload] = &upload{key: r.key, created: now, parts: map[int]string{}}
	}
}

func (b *bucket) multipart(r request, there bool) code {
	u := b.uploads[r.upload]
	if u == nil {
		return notFound
	}
	switch r.op {
	case part:
		u.parts[r.number] = r.body.etag()
	case abort:
		delete(b.uploads, r.upload)
	case complete:
		if there {
			return refused
		}
		var content strings.Builder
		for _, p := range r.parts {
			if u.parts[p.number] != p.content {
				return invalidPart
			}
			content.WriteString(p.content)
		}
		// Last-Modified is that of the upload's creation.
		b.objects[u.key] = object{text(content.String()), u.created}
		delete(b.uploads, r.upload)
	}
	return ok
}

func (b *bucket) list(prefix string) (entries []entry) {
	for key, o := range b.objects {
		if strings.HasPrefix(key, prefix) {
			l, isLink := o.body.(link)
			entries = append(entries, entry{key, o.modified, isLink && l.status == dead})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return entries
}
