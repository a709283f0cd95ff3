package ocicopy

import (
	"context"
	"iter"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// OnDemand returns a read-only registry for each source of the mirror, in their order.
// It has what the rules choose, under the names of the destination, as if all of it
// had been mirrored. With it, a cache can serve what no pass has copied yet;
// ociunify.Origins combines several of them.
//
// A repository to which no rule leads is [ociregistry.ErrNameUnknown]. Tags that the
// rule does not choose, without regard to Newest, are unknown. A manifest that
// OnlySigned or Validate excludes is [ErrUnsigned] or [ErrRefused]. The same holds for
// a manifest by digest, unless an index that was admitted names it or it refers to
// another manifest. Blobs are not checked. Platforms have no effect, except with
// DropOthers: a tag then points at the index that the mirror makes, which can also be
// read by its digest once the tag has been read. Repositories and all changes fail
// with [ociregistry.ErrUnsupported].
func (m *Mirror) OnDemand() []ociregistry.Interface {
	var all []ociregistry.Interface
	for _, src := range m.sources {
		all = append(all, &onDemand{mirror: m, source: src.Name})
	}
	return all
}

// onDemand shows a source under the names of the destination.
type onDemand struct {
	*ociregistry.Funcs
	mirror *Mirror
	source string

	admitted admissions
	indexes  indexCache
}

// ask returns the answer of the first repository of the source that is mirrored to repo
// and has the content.
func ask[T any](v *onDemand, op, repo, ref string, get func(Origin) (T, error)) (answer T, err error) {
	at := call.New(op, repo, ref)
	if err := at.CheckRepository(); err != nil {
		return answer, err
	}
	err = at.Wrap(ociregistry.ErrNameUnknown)
	for _, o := range v.mirror.Origins(repo) {
		if o.Source != v.source {
			continue
		}
		answer, err = get(o)
		if !absent(err) {
			return answer, err
		}
	}
	return answer, err
}

func (v *onDemand) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return ask(v, "GetBlob", repo, string(digest), func(o Origin) (ociregistry.BlobReader, error) {
		return o.Registry.GetBlob(ctx, o.Repository, digest)
	})
}

func (v *onDemand) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	return ask(v, "GetBlobRange", repo, string(digest), func(o Origin) (ociregistry.BlobReader, error) {
		return o.Registry.GetBlobRange(ctx, o.Repository, digest, offset0, offset1)
	})
}

func (v *onDemand) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return ask(v, "ResolveBlob", repo, string(digest), func(o Origin) (ociregistry.Descriptor, error) {
		return o.Registry.ResolveBlob(ctx, o.Repository, digest)
	})
}

func (v *onDemand) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return ask(v, "GetManifest", repo, string(digest), func(o Origin) (ociregistry.BlobReader, error) {
		if n := v.indexes.lookup(indexKey{o.Repository, digest}); n != nil && n.digest == digest {
			return n.reader(), nil
		}
		return v.admitRead(ctx, o, "", func() (ociregistry.BlobReader, error) {
			return o.Registry.GetManifest(ctx, o.Repository, digest)
		})
	})
}

func (v *onDemand) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return ask(v, "ResolveManifest", repo, string(digest), func(o Origin) (ociregistry.Descriptor, error) {
		if n := v.indexes.lookup(indexKey{o.Repository, digest}); n != nil && n.digest == digest {
			return n.descriptor(), nil
		}
		desc, err := o.Registry.ResolveManifest(ctx, o.Repository, digest)
		if err == nil {
			err = v.admit(ctx, o, "", desc)
		}
		return desc, err
	})
}

func (v *onDemand) GetTag(ctx context.Context, repo string, tag string) (ociregistry.BlobReader, error) {
	return ask(v, "GetTag", repo, tag, func(o Origin) (ociregistry.BlobReader, error) {
		if err := o.checkTag("GetTag", repo, tag); err != nil {
			return nil, err
		}
		if o.rule.rule.DropOthers {
			return v.getTag(ctx, o, tag)
		}
		return v.admitRead(ctx, o, tag, func() (ociregistry.BlobReader, error) {
			return o.Registry.GetTag(ctx, o.Repository, tag)
		})
	})
}

func (v *onDemand) ResolveTag(ctx context.Context, repo string, tag string) (ociregistry.Descriptor, error) {
	return ask(v, "ResolveTag", repo, tag, func(o Origin) (ociregistry.Descriptor, error) {
		if err := o.checkTag("ResolveTag", repo, tag); err != nil {
			return ociregistry.Descriptor{}, err
		}
		desc, err := o.Registry.ResolveTag(ctx, o.Repository, tag)
		if err == nil {
			err = v.admit(ctx, o, tag, desc)
		}
		if err != nil || !o.makesIndex(desc) {
			return desc, err
		}
		n, err := v.newIndex(ctx, o, desc)
		if err != nil {
			return ociregistry.Descriptor{}, err
		}
		return n.descriptor(), nil
	})
}

// getTag is GetTag for a rule that may make a new index.
func (v *onDemand) getTag(ctx context.Context, o Origin, tag string) (ociregistry.BlobReader, error) {
	desc, err := o.Registry.ResolveTag(ctx, o.Repository, tag)
	if err == nil {
		err = v.admit(ctx, o, tag, desc)
	}
	switch {
	case err != nil:
		return nil, err
	case !o.makesIndex(desc):
		return o.Registry.GetManifest(ctx, o.Repository, desc.Digest)
	}
	n, err := v.newIndex(ctx, o, desc)
	if err != nil {
		return nil, err
	}
	return n.reader(), nil
}

// checkTag returns [ociregistry.ErrManifestUnknown] for a tag that the rule does not
// mirror.
func (o Origin) checkTag(op, repo, tag string) error {
	if ociref.IsValidTag(tag) && o.rule.brings(tag) {
		return nil
	}
	return call.New(op, repo, tag).Wrap(ociregistry.ErrManifestUnknown)
}

func (v *onDemand) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	return firstSeq(v, "Tags", repo, "", func(o Origin) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for tag, err := range o.Registry.Tags(ctx, o.Repository, startAfter) {
				if (err != nil || o.rule.brings(tag)) && !yield(tag, err) {
					return
				}
			}
		}
	})
}

func (v *onDemand) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return firstSeq(v, "Referrers", repo, string(digest), func(o Origin) iter.Seq2[ociregistry.Descriptor, error] {
		if o.rule.rule.WithoutReferrers {
			return func(func(ociregistry.Descriptor, error) bool) {}
		}
		return o.Registry.Referrers(ctx, o.Repository, digest, artifactType)
	})
}

// firstSeq is ask for lists. It yields the first list that does not begin with an error
// which says that the content does not exist.
func firstSeq[T any](v *onDemand, op, repo, ref string, list func(Origin) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		_, err := ask(v, op, repo, ref, func(o Origin) (struct{}, error) {
			begun := false
			for x, err := range list(o) {
				if err != nil && !begun {
					return struct{}{}, err
				}
				if begun = true; !yield(x, err) || err != nil {
					break
				}
			}
			return struct{}{}, nil
		})
		if err != nil {
			yield(zero, err)
		}
	}
}

// admitRead returns the reader of a manifest if the manifest is admitted.
func (v *onDemand) admitRead(ctx context.Context, o Origin, tag string, open func() (ociregistry.BlobReader, error)) (ociregistry.BlobReader, error) {
	rd, err := open()
	if err != nil {
		return nil, err
	}
	if err := v.admit(ctx, o, tag, rd.Descriptor()); err != nil {
		rd.Close()
		return nil, err
	}
	return rd, nil
}
