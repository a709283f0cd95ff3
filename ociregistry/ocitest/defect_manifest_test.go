package ocitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

// yield lets others do what they would do at the worst moment.
func yield() {
	for range rand.IntN(30) {
		runtime.Gosched()
	}
}

type next = func(manifestPush) (desc, error)

var manifestDefects = []defect{{
	name:     "PushManifest forgets the size",
	caughtBy: []string{"PushManifest/Stores", "PushManifest/ByDigest", "PushManifest/Again"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			got.Size = 0
			return got, err
		})
	},
}, {
	name:     "the digest of a manifest is not verified",
	caughtBy: []string{"PushManifest/VerifiesDigest", "Repository/NotByFailedCalls"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if strings.Contains(p.ref, "sha256:") {
				p.ref = ""
			}
			return next(p)
		})
	},
}, {
	name:     "any text is a media type",
	caughtBy: []string{"PushManifest/ParsesMediaType"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if ociregistry.CheckMediaType(p.mediaType) != nil {
				p.mediaType = "text/plain"
			}
			return next(p)
		})
	},
}, {
	name:     "manifests have SHA-256 digests",
	caughtBy: []string{"PushManifest/BySHA512Digest"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if p.ref == string(digest.SHA512.FromBytes(p.contents)) {
				p.ref = ""
			}
			return next(p)
		})
	},
}, {
	name:     "further tags are ignored",
	caughtBy: []string{"PushManifest/ByTags", "PushManifest/ByDigest", "Tag/OfSeveral"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			p.tags = nil
			return next(p)
		})
	},
}, {
	name:     "tags are set one by one",
	caughtBy: []string{"PushManifest/AllTagsOrNone", "Arguments/TagOfAPush"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (got desc, err error) {
			tags := p.tags
			p.tags = nil
			got, err = next(p)
			for _, p.ref = range tags {
				if err != nil {
					break
				}
				if p.ref == "" {
					return desc{}, ociregistry.ErrManifestInvalid
				}
				got, err = next(p)
			}
			return got, err
		})
	},
}, {
	name:     "what is there is left alone",
	caughtBy: []string{"PushManifest/Again", "PushManifest/LastMediaTypeWins", "Tag/MovesBack", "DeleteTag/PushedAgain", "Tag/Moves"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if got, err := f.ResolveManifest(p.ctx, p.repo, digest.FromBytes(p.contents)); err == nil {
				return got, nil
			}
			return next(p)
		})
	},
}, {
	name:     "manifests are compacted",
	caughtBy: []string{"PushManifest/ByteForByte"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			var b bytes.Buffer
			if json.Compact(&b, p.contents) == nil {
				p.contents = b.Bytes()
			}
			return next(p)
		})
	},
}, {
	name:     "only images and indexes are manifests",
	caughtBy: []string{"PushManifest/UnknownMediaType", "PushManifest/MissingSubject", "References/Present", "Referrers/ORASArtifact", "Repository/BeginsWithAManifest"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if !slices.Contains(knownMediaTypes[:4], p.mediaType) {
				return desc{}, ociregistry.ErrManifestInvalid
			}
			return next(p)
		})
	},
}, {
	name:     "manifests have to say what they are",
	caughtBy: []string{"PushManifest/WithoutMediaTypeField"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if slices.Contains(knownMediaTypes, p.mediaType) && !bytes.Contains(p.contents, []byte(`"mediaType":"`+p.mediaType)) {
				return desc{}, ociregistry.ErrManifestInvalid
			}
			return next(p)
		})
	},
}, {
	name:     "invalid manifests are stored",
	caughtBy: []string{"PushManifest/ChecksJSON", "PushManifest/ChecksMediaType", "References/Malformed", "Repository/NotByFailedCalls"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			if errors.Is(err, ociregistry.ErrManifestInvalid) {
				p.mediaType = "application/octet-stream"
				return next(p)
			}
			return got, err
		})
	},
}, {
	name:     "manifests are small",
	caughtBy: []string{"PushManifest/Large"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if len(p.contents) > 1<<20 {
				return desc{}, ociregistry.ErrManifestInvalid
			}
			return next(p)
		})
	},
}, {
	name:     "manifests are kept by reference",
	caughtBy: []string{"PushManifest/BuffersAreTheCallers"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		kept := make(map[dig][]byte)
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			mu.Lock()
			defer mu.Unlock()
			kept[got.Digest] = p.contents
			return got, err
		})
		get := f.GetManifest_
		f.GetManifest_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := get(ctx, repo, d)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && kept[d] != nil {
				return reader{BlobReader: r, read: bytes.NewReader(kept[d]).Read}, nil
			}
			return r, err
		}
	},
}, {
	name:     "errors quote the manifest",
	caughtBy: []string{"PushManifest/ErrorsCarryNoContent"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			if err != nil {
				err = errors.Join(err, errors.New(string(p.contents[:min(100, len(p.contents))])))
			}
			return got, err
		})
	},
}, {
	name:     "subjects have to be there",
	caughtBy: []string{"PushManifest/MissingSubject", "Referrers/SubjectPushedLater", "Referrers/SHA512Subject", "Referrers/OfReferrers"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			var m ocispec.Manifest
			json.Unmarshal(p.contents, &m)
			if m.Subject != nil {
				if _, err := f.ResolveManifest(p.ctx, p.repo, m.Subject.Digest); err != nil {
					return desc{}, ociregistry.ErrManifestBlobUnknown
				}
			}
			return next(p)
		})
	},
}, {
	name: "references are not checked",
	caughtBy: []string{
		"References/Missing", "References/MissingInNestedIndex", "References/OtherRepositoriesDoNotCount",
	},
	config: ocimem.Config{LaxChildReferences: true},
}, {
	name:     "sizes are not checked",
	caughtBy: []string{"References/Sizes", "References/SizesWhereMissingIsAllowed", "References/SizesOfExemptLayers"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			if err != nil && strings.Contains(err.Error(), "bytes") {
				return desc{}, nil
			}
			return got, err
		})
	},
}, {
	name:     "a manifest that lies about a blob hides it",
	caughtBy: []string{"References/SizesWhereMissingIsAllowed"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		sizes := make(map[dig]int64)
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			var m ocispec.Manifest
			json.Unmarshal(p.contents, &m)
			got, err := next(p)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				sizes[m.Config.Digest] = m.Config.Size
			}
			return got, err
		})
		resolve := f.ResolveBlob_
		f.ResolveBlob_ = func(ctx Ctx, repo string, d dig) (desc, error) {
			got, err := resolve(ctx, repo, d)
			mu.Lock()
			defer mu.Unlock()
			if size, ok := sizes[d]; err == nil && ok && size != got.Size {
				return desc{}, ociregistry.ErrBlobUnknown
			}
			return got, err
		}
	},
}, {
	name: "references are checked before the push",
	caughtBy: []string{
		"Concurrency/DeleteBlobAndPushManifest", "Concurrency/DeleteChildAndPushIndex",
	},
	config: ocimem.Config{LaxChildReferences: true},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			for _, d := range named(p.contents) {
				_, err1 := f.ResolveBlob(p.ctx, p.repo, d)
				_, err2 := f.ResolveManifest(p.ctx, p.repo, d)
				if err1 != nil && err2 != nil {
					return desc{}, ociregistry.ErrManifestBlobUnknown
				}
			}
			yield()
			return next(p)
		})
	},
}, {
	name:     "all layers have to be there",
	caughtBy: []string{"References/ExemptLayers"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			var m ocispec.Manifest
			json.Unmarshal(p.contents, &m)
			for _, layer := range m.Layers {
				if _, err := f.ResolveBlob(p.ctx, p.repo, layer.Digest); err != nil {
					return desc{}, ociregistry.ErrManifestBlobUnknown
				}
			}
			return next(p)
		})
	},
}, {
	name:     "a sparse registry is not",
	caughtBy: []string{"References/SparseAcceptsMissing", "References/SparseLetsGo"},
	opts:     Options{Sparse: true},
}, {
	name: "conditions are ignored",
	caughtBy: []string{
		"PushCondition/IfMatch", "PushCondition/IfMatchAny", "PushCondition/IfNoneMatch", "PushCondition/IfNoneMatchAny",
		"PushCondition/OfADigest", "PushCondition/AllTagsOrNone",
	},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			p.ctx = ociregistry.WithPushCondition(p.ctx, ociregistry.PushCondition{})
			return next(p)
		})
	},
}, {
	name:     "conditions are checked before the push",
	caughtBy: []string{"PushCondition/LosesNoUpdate", "PushCondition/OneCreator"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			current, _ := f.ResolveTag(p.ctx, p.repo, p.ref)
			if err := ociregistry.PushConditionFrom(p.ctx).Check(current.Digest); err != nil {
				return desc{}, err
			}
			yield()
			p.ctx = ociregistry.WithPushCondition(p.ctx, ociregistry.PushCondition{})
			return next(p)
		})
	},
}, {
	name:     "a manifest goes with its last tag",
	caughtBy: []string{"Tag/Moves", "DeleteTag/Deletes", "Repository/EndsWithItsLastManifest"},
	inject: func(f *ociregistry.Funcs) {
		remove, removeTag := f.DeleteManifest_, f.DeleteTag_
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			old, err := f.ResolveTag(p.ctx, p.repo, p.ref)
			got, pushErr := next(p)
			if err == nil && got.Digest != old.Digest {
				remove(p.ctx, p.repo, old.Digest)
			}
			return got, pushErr
		})
		f.DeleteTag_ = func(ctx Ctx, repo, tag string) error {
			if old, err := f.ResolveTag(ctx, repo, tag); err == nil && len(tagsOf(f, ctx, repo, old.Digest)) == 1 {
				return remove(ctx, repo, old.Digest)
			}
			return removeTag(ctx, repo, tag)
		}
	},
}, {
	name:     "the tags of a manifest move together",
	caughtBy: []string{"Tag/OfSeveral"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if old, err := f.ResolveTag(p.ctx, p.repo, p.ref); err == nil {
				p.tags = append(p.tags, tagsOf(f, p.ctx, p.repo, old.Digest)...)
			}
			return next(p)
		})
	},
}, {
	name:     "foo has what is pushed below it",
	caughtBy: []string{"Tag/OneRepositoryOnly"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			if strings.HasPrefix(p.repo, "foo/") {
				p.repo = "foo"
				next(p)
			}
			return got, err
		})
	},
}, {
	name:     "the case of tags does not matter",
	caughtBy: []string{"Tag/CaseMatters"},
	inject: func(f *ociregistry.Funcs) {
		get := f.GetTag_
		f.GetTag_ = func(ctx Ctx, repo, tag string) (ociregistry.BlobReader, error) {
			return get(ctx, repo, strings.ToLower(tag))
		}
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			p.ref = strings.ToLower(p.ref)
			return next(p)
		})
	},
}, {
	name:     "immutable tags can be moved",
	caughtBy: []string{"Tag/Stays", "Tag/StaysWithItsManifest"},
	opts:     Options{Denied: MoveTags},
}, {
	name:     "immutable tags stay but their manifests are replaced",
	caughtBy: []string{"Tag/Stays"},
	opts:     Options{Denied: MoveTags},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			for i, tag := range p.allTags() {
				if p.moves(f, tag) {
					p.ref, p.tags = "", p.allTags()[:i]
					next(p)
					return desc{}, ociregistry.ErrDenied
				}
			}
			return next(p)
		})
	},
}, {
	name:     "a tag is removed before it is moved",
	caughtBy: []string{"Concurrency/OneTag"},
	inject: func(f *ociregistry.Funcs) {
		remove := f.DeleteTag_
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			remove(p.ctx, p.repo, p.ref)
			yield()
			return next(p)
		})
	},
}, {
	name:     "a manifest is looked for after it was pushed",
	caughtBy: []string{"Concurrency/DeleteManifestAndPushTag"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			if err != nil {
				return got, err
			}
			yield()
			return f.ResolveManifest(p.ctx, p.repo, got.Digest)
		})
	},
}, {
	name:     "a tag is lost now and then",
	caughtBy: []string{"Concurrency/ManyOfEverything", "List/TagsMany"},
	inject: func(f *ociregistry.Funcs) {
		remove := f.DeleteTag_
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			got, err := next(p)
			if err == nil && slices.ContainsFunc(p.tags, func(tag string) bool { return strings.HasSuffix(tag, "17") }) {
				remove(p.ctx, p.repo, p.tags[0])
			}
			return got, err
		})
	},
}}

// named returns the digests of what an image or an index names.
func named(contents []byte) []dig {
	var m struct {
		Config                   *desc
		Layers, Manifests, Blobs []desc
	}
	json.Unmarshal(contents, &m)
	all := slices.Concat(m.Layers, m.Manifests, m.Blobs)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	var digests []dig
	for _, d := range all {
		digests = append(digests, d.Digest)
	}
	return digests
}

// tagsOf returns the tags that point at a manifest.
func tagsOf(f *ociregistry.Funcs, ctx Ctx, repo string, d dig) []string {
	var tags []string
	for tag, err := range f.Tags(ctx, repo, "") {
		if err != nil {
			break
		}
		if got, err := f.ResolveTag(ctx, repo, tag); err == nil && got.Digest == d {
			tags = append(tags, tag)
		}
	}
	return tags
}
