package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// faulty is the memory behind requests that fail.
type faulty struct{ mem *memory }

func (s *faulty) Capabilities() objstore.Capabilities {
	return objstore.Capabilities{
		DeleteIfMatch: !s.mem.opts.NoDeleteIfMatch,
		StartAfter:    true,
		PartsReplace:  true,
		Presign:       s.mem.opts.URL != "",
		MinPartSize:   s.mem.opts.MinPartSize,
		MaxPartSize:   5 << 30,
		MaxParts:      maxParts,
	}
}

func (s *faulty) Get(ctx context.Context, key string, r objstore.Range) (*objstore.Object, error) {
	req := Request{Op: "Get", Key: key}
	f := s.mem.fault(req)
	o, err := carryOut(ctx, s.mem, f, req, func(objstore.Condition) (*objstore.Object, error) { return s.mem.get(key, r) })
	if err != nil {
		return nil, err
	}
	o.Body = &body{ctx: ctx, rc: o.Body, breaks: f.Break, left: f.BreakAfter}
	return o, nil
}

func (s *faulty) Put(ctx context.Context, key string, body []byte, cond objstore.Condition) (objstore.Info, error) {
	req := Request{Op: "Put", Key: key, Write: true, Condition: cond}
	body = slices.Clone(body) // also for a late write
	return request(ctx, s.mem, req, func(cond objstore.Condition) (objstore.Info, error) { return s.mem.put(key, body, cond) })
}

func (s *faulty) Delete(ctx context.Context, key string, cond objstore.Condition) (time.Time, error) {
	req := Request{Op: "Delete", Key: key, Write: true, Condition: cond}
	return request(ctx, s.mem, req, func(cond objstore.Condition) (time.Time, error) { return s.mem.delete(key, cond) })
}

func (s *faulty) List(ctx context.Context, opts objstore.ListOptions) (*objstore.Page, error) {
	return request(ctx, s.mem, Request{Op: "List", Key: opts.Prefix}, func(objstore.Condition) (*objstore.Page, error) { return s.mem.list(opts) })
}

func (s *faulty) CreateMultipart(ctx context.Context, key string) (objstore.Multipart, error) {
	req := Request{Op: "CreateMultipart", Key: key, Write: true}
	return request(ctx, s.mem, req, func(objstore.Condition) (objstore.Multipart, error) { return s.mem.create(key) })
}

func (s *faulty) PutPart(ctx context.Context, up objstore.Multipart, number int, body []byte) (objstore.Part, error) {
	req := Request{Op: "PutPart", Key: up.Key, Write: true}
	body = slices.Clone(body) // also for a late write
	return request(ctx, s.mem, req, func(objstore.Condition) (objstore.Part, error) { return s.mem.putPart(up, number, body) })
}

func (s *faulty) ListParts(ctx context.Context, up objstore.Multipart, after int) (*objstore.PartPage, error) {
	req := Request{Op: "ListParts", Key: up.Key}
	return request(ctx, s.mem, req, func(objstore.Condition) (*objstore.PartPage, error) { return s.mem.listParts(up, after) })
}

func (s *faulty) CompleteMultipart(ctx context.Context, up objstore.Multipart, parts []objstore.Part, cond objstore.Condition) (objstore.Info, error) {
	req := Request{Op: "CompleteMultipart", Key: up.Key, Write: true, Condition: cond}
	return request(ctx, s.mem, req, func(cond objstore.Condition) (objstore.Info, error) { return s.mem.complete(up, parts, cond) })
}

func (s *faulty) AbortMultipart(ctx context.Context, up objstore.Multipart) (time.Time, error) {
	req := Request{Op: "AbortMultipart", Key: up.Key, Write: true}
	return request(ctx, s.mem, req, func(objstore.Condition) (time.Time, error) { return s.mem.abort(up) })
}

func (s *faulty) ListMultiparts(ctx context.Context, opts objstore.MultipartOptions) (*objstore.MultipartPage, error) {
	req := Request{Op: "ListMultiparts", Key: opts.Prefix}
	return request(ctx, s.mem, req, func(objstore.Condition) (*objstore.MultipartPage, error) { return s.mem.listUploads(opts) })
}
