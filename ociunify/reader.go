package ociunify

import (
	"context"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// GetBlob implements [ociregistry.Reader.GetBlob].
func (u *union) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	if err := call.New("GetBlob", repo, string(digest)).CheckDigest(); err != nil {
		return nil, err
	}
	return u.open(ctx, false, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetBlob(ctx, repo, digest)
	})
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange].
func (u *union) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if err := call.New("GetBlobRange", repo, string(digest)).CheckDigest(); err != nil {
		return nil, err
	}
	return u.open(ctx, false, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetBlobRange(ctx, repo, digest, offset0, offset1)
	})
}

// GetManifest implements [ociregistry.Reader.GetManifest].
func (u *union) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	if err := call.New("GetManifest", repo, string(digest)).CheckDigest(); err != nil {
		return nil, err
	}
	return u.open(ctx, false, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetManifest(ctx, repo, digest)
	})
}

// GetTag implements [ociregistry.Reader.GetTag].
func (u *union) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	if err := call.New("GetTag", repo, tagName).CheckTag(); err != nil {
		return nil, err
	}
	return u.open(ctx, true, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetTag(ctx, repo, tagName)
	})
}

// ResolveBlob implements [ociregistry.Reader.ResolveBlob].
func (u *union) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	if err := call.New("ResolveBlob", repo, string(digest)).CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return u.resolve(ctx, false, func(ctx context.Context, r ociregistry.Interface) (ociregistry.Descriptor, error) {
		return r.ResolveBlob(ctx, repo, digest)
	})
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (u *union) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	if err := call.New("ResolveManifest", repo, string(digest)).CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return u.resolve(ctx, false, func(ctx context.Context, r ociregistry.Interface) (ociregistry.Descriptor, error) {
		return r.ResolveManifest(ctx, repo, digest)
	})
}

// ResolveTag implements [ociregistry.Reader.ResolveTag].
func (u *union) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	if err := call.New("ResolveTag", repo, tagName).CheckTag(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return u.resolve(ctx, true, func(ctx context.Context, r ociregistry.Interface) (ociregistry.Descriptor, error) {
		return r.ResolveTag(ctx, repo, tagName)
	})
}

// resolve asks for a descriptor according to the policy. If ordered is true, the answer
// of r0 takes precedence.
func (u *union) resolve(ctx context.Context, ordered bool, ask func(context.Context, ociregistry.Interface) (ociregistry.Descriptor, error)) (ociregistry.Descriptor, error) {
	if u.opts.ReadPolicy != ReadConcurrent {
		return sequential(ctx, u, ask)
	}
	q := newRace(ctx, u, ask, nil)
	desc, winner, err := q.finish(ctx, ordered)
	if err == nil {
		q.cancel[winner]()
	}
	return desc, err
}

// open asks for a reader according to the policy. If ordered is true, the answer of r0
// takes precedence.
func (u *union) open(ctx context.Context, ordered bool, ask func(context.Context, ociregistry.Interface) (ociregistry.BlobReader, error)) (ociregistry.BlobReader, error) {
	if u.opts.ReadPolicy != ReadConcurrent {
		return sequential(ctx, u, ask)
	}
	q := newRace(ctx, u, ask, func(rd ociregistry.BlobReader) { rd.Close() })
	rd, winner, err := q.finish(ctx, ordered)
	if err != nil {
		return nil, err
	}
	return onClose(rd, q.cancel[winner]), nil
}

// sequential asks r0, and r1 if r0 has no answer.
func sequential[T any](ctx context.Context, u *union, ask func(context.Context, ociregistry.Interface) (T, error)) (T, error) {
	v, err0 := ask(ctx, u.r[0])
	if err0 == nil || !notFound(err0) && !u.opts.Failover || ctx.Err() != nil {
		return v, err0
	}
	v, err1 := ask(ctx, u.r[1])
	if err1 == nil {
		return v, nil
	}
	return v, neither(err0, err1)
}
