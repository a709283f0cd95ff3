package memstore

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

const maxParts = 10000

// An upload has the parts of an object to be, as S3 has them: the later part of a number
// replaces the earlier.
type upload struct {
	objstore.Multipart
	parts map[int]*object
}

func random() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (m *memory) create(key string) (objstore.Multipart, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	up := objstore.Multipart{Key: key, ID: random(), Created: m.date()}
	m.uploads[up.ID] = &upload{Multipart: up, parts: map[int]*object{}}
	return up, nil
}

func (m *memory) upload(op string, up objstore.Multipart) (*upload, error) {
	u, ok := m.uploads[up.ID]
	if !ok || u.Key != up.Key {
		return nil, m.fail(op, up.Key, objstore.ErrNotFound)
	}
	return u, nil
}

func (m *memory) putPart(up objstore.Multipart, number int, body []byte) (objstore.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, err := m.upload("PutPart", up)
	if err != nil {
		return objstore.Part{}, err
	}
	sum := md5.Sum(body)
	o := &object{body: body, etag: objstore.ETag(hex.EncodeToString(sum[:]))}
	u.parts[number] = o
	return objstore.Part{Number: number, ETag: o.etag, Size: int64(len(body)), Date: m.date()}, nil
}

func (m *memory) listParts(up objstore.Multipart, after int) (*objstore.PartPage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, err := m.upload("ListParts", up)
	if err != nil {
		return nil, err
	}
	page := &objstore.PartPage{Date: m.date()}
	for number := after + 1; number <= maxParts; number++ {
		o, ok := u.parts[number]
		if !ok {
			continue
		}
		if len(page.Parts) == m.opts.PageSize {
			page.More = true
			break
		}
		page.Parts = append(page.Parts, objstore.Part{Number: number, ETag: o.etag, Size: int64(len(o.body))})
	}
	return page, nil
}

func (m *memory) complete(up objstore.Multipart, parts []objstore.Part, cond objstore.Condition) (objstore.Info, error) {
	const op = "CompleteMultipart"
	m.mu.Lock()
	defer m.mu.Unlock()
	u, err := m.upload(op, up)
	if err != nil {
		return objstore.Info{}, err
	}
	if err := m.holds(op, up.Key, cond); err != nil {
		return objstore.Info{}, err
	}
	var body bytes.Buffer
	size := 0
	for _, p := range u.parts {
		size += len(p.body)
	}
	body.Grow(size)
	sums := md5.New()
	for i, p := range parts {
		o, ok := u.parts[p.Number]
		small := ok && i < len(parts)-1 && int64(len(o.body)) < m.opts.MinPartSize
		if !ok || o.etag != p.ETag || int64(len(o.body)) != p.Size || small {
			return objstore.Info{}, m.fail(op, up.Key, objstore.ErrInvalidPart)
		}
		body.Write(o.body)
		sums.Write([]byte(o.etag))
	}
	o := &object{body: body.Bytes(), etag: objstore.ETag(fmt.Sprintf("%x-%d", sums.Sum(nil), len(parts))), modified: u.Created}
	if m.opts.DatedByCompletion {
		o.modified = m.date()
	}
	m.objects[up.Key] = o
	delete(m.uploads, up.ID)
	return m.info(up.Key, o), nil
}

func (m *memory) abort(up objstore.Multipart) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.upload("AbortMultipart", up); err != nil {
		return time.Time{}, err
	}
	delete(m.uploads, up.ID)
	return m.date(), nil
}

func (m *memory) listUploads(opts objstore.MultipartOptions) (*objstore.MultipartPage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	limit := m.opts.PageSize
	if opts.Limit > 0 {
		limit = min(limit, opts.Limit)
	}
	// Uploads of one key are told apart by their IDs.
	byPlace := map[string]*upload{}
	for id, u := range m.uploads {
		byPlace[u.Key+"\x00"+id] = u
	}
	page := &objstore.MultipartPage{Date: m.date()}
	last := opts.Next
	for _, place := range sortedKeys(byPlace, opts.Prefix) {
		if place <= opts.Next {
			continue
		}
		if len(page.Uploads) == limit {
			page.Next = last
			break
		}
		page.Uploads = append(page.Uploads, byPlace[place].Multipart)
		last = place
	}
	return page, nil
}
