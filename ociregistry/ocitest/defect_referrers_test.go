package ocitest

import (
	"errors"
	"iter"
	"slices"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// wrapReferrers makes Referrers return what edit makes of it.
func wrapReferrers(f *ociregistry.Funcs, edit func([]desc) []desc) {
	next := f.Referrers_
	f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
		return func(yield func(desc, error) bool) {
			all, err := ociregistry.All(next(ctx, repo, d, artifactType))
			for _, d := range edit(all) {
				if !yield(d, nil) {
					return
				}
			}
			if err != nil {
				yield(desc{}, err)
			}
		}
	}
}

// drop makes Referrers leave out some.
func drop(which func(desc) bool) func(*ociregistry.Funcs) {
	return func(f *ociregistry.Funcs) {
		wrapReferrers(f, func(all []desc) []desc { return slices.DeleteFunc(all, which) })
	}
}

// change makes Referrers describe them otherwise.
func change(how func(*desc)) func(*ociregistry.Funcs) {
	return func(f *ociregistry.Funcs) {
		wrapReferrers(f, func(all []desc) []desc {
			for i := range all {
				how(&all[i])
			}
			return all
		})
	}
}

var referrersDefects = []defect{{
	name:     "an unknown repository has no referrers API",
	caughtBy: []string{"Referrers/NoneAtFirst"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			if _, err := f.ResolveBlob(ctx, repo, other); errors.Is(err, ociregistry.ErrNameUnknown) {
				return ociregistry.ErrorSeq[desc](err)
			}
			return next(ctx, repo, d, artifactType)
		}
	},
}, {
	name:     "referrers have no size",
	caughtBy: []string{"Referrers/Image", "Referrers/Index", "Referrers/ORASArtifact"},
	inject:   change(func(d *desc) { d.Size = 0 }),
}, {
	name:     "configs have no artifact type",
	caughtBy: []string{"Referrers/ConfigMediaTypeIsArtifactType"},
	inject: change(func(d *desc) {
		if d.ArtifactType == "application/vnd.example.config+json" {
			d.ArtifactType = ""
		}
	}),
}, {
	name:     "indexes are no referrers",
	caughtBy: []string{"Referrers/Index"},
	inject:   drop(func(d desc) bool { return d.MediaType == ocispec.MediaTypeImageIndex }),
}, {
	name:     "ORAS artifacts are no referrers",
	caughtBy: []string{"Referrers/ORASArtifact"},
	inject:   drop(func(d desc) bool { return d.MediaType == mediaTypeORASArtifact }),
}, {
	name:     "referrers have no annotations",
	caughtBy: []string{"Referrers/Annotations"},
	inject:   change(func(d *desc) { d.Annotations = nil }),
}, {
	name:     "referrers are not filtered",
	caughtBy: []string{"Referrers/Filter"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			return next(ctx, repo, d, "")
		}
	},
}, {
	name:     "referrers are in reverse",
	caughtBy: []string{"Referrers/InByteOrder"},
	inject: func(f *ociregistry.Funcs) {
		wrapReferrers(f, func(all []desc) []desc { slices.Reverse(all); return all })
	},
}, {
	name:     "referrers after a digest begin one too late",
	caughtBy: []string{"Referrers/AfterADigest"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			after := ociregistry.ReferrersAfter(ctx)
			all, err := ociregistry.All(next(ociregistry.WithReferrersAfter(ctx, ""), repo, d, artifactType))
			if err != nil {
				return ociregistry.ErrorSeq[desc](err)
			}
			i := slices.IndexFunc(all, func(d desc) bool { return d.Digest > after })
			if after != "" && i >= 0 {
				all = all[i+1:]
			}
			return ociregistry.SliceSeq(all)
		}
	},
}, {
	name:     "only what exists has referrers",
	caughtBy: []string{"Referrers/SubjectPushedLater", "Referrers/SHA512Subject", "Referrers/DeletedSubject"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			if _, err := f.ResolveManifest(ctx, repo, d); errors.Is(err, ociregistry.ErrManifestUnknown) {
				return ociregistry.SliceSeq[desc](nil)
			}
			return next(ctx, repo, d, artifactType)
		}
	},
}, {
	name:     "referrers have referrers that are listed too",
	caughtBy: []string{"Referrers/OfReferrers"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			all, err := ociregistry.All(next(ctx, repo, d, artifactType))
			if err != nil {
				return ociregistry.ErrorSeq[desc](err)
			}
			for _, d := range all {
				more, _ := ociregistry.All(next(ctx, repo, d.Digest, artifactType))
				all = append(all, more...)
			}
			return ociregistry.SliceSeq(all)
		}
	},
}, {
	name:     "referrers are listed for each of their tags",
	caughtBy: []string{"Referrers/OnceEach"},
	inject: func(f *ociregistry.Funcs) {
		wrapReferrers(f, func(all []desc) []desc { return append(all, all...) })
	},
}, {
	name:     "referrers are those in foo",
	caughtBy: []string{"Referrers/OneRepositoryOnly"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			return next(ctx, "foo", d, artifactType)
		}
	},
}, {
	name:     "deleted referrers stay",
	caughtBy: []string{"Referrers/DeletedReferrer", "Referrers/LoopsMayCallBack"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		seen := make(map[dig]desc)
		wrapReferrers(f, func(all []desc) []desc {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range all {
				seen[d.Digest] = d
			}
			all = nil
			for _, d := range seen {
				all = append(all, d)
			}
			return all
		})
	},
}, {
	name:     "referrers are counted from the beginning",
	caughtBy: []string{"Referrers/LoopsMayCallBack"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			return func(yield func(desc, error) bool) {
				for n := 0; ; n++ {
					all, _ := ociregistry.All(next(ctx, repo, d, artifactType))
					if n >= len(all) || !yield(all[n], nil) {
						return
					}
				}
			}
		}
	},
}, {
	name:     "referrers are asked for once",
	caughtBy: []string{"Referrers/StopsEarlyAndAsksAgain"},
	inject: func(f *ociregistry.Funcs) {
		next := f.Referrers_
		f.Referrers_ = func(ctx Ctx, repo string, d dig, artifactType string) iter.Seq2[desc, error] {
			all, err := ociregistry.All(next(ctx, repo, d, artifactType))
			if err != nil {
				return ociregistry.ErrorSeq[desc](err)
			}
			return ociregistry.SliceSeq(all)
		}
	},
}}

// absentNames are the clauses about what is absent.
func absentNames() []string {
	var names []string
	for _, c := range absentClauses {
		names = append(names, "Absent/"+c.name)
	}
	return names
}

const everything = 1<<14 - 1

var absentDefects = []defect{{
	name:     "what is absent works",
	caughtBy: absentNames(),
	opts:     Options{Absent: everything, Below: below},
}, {
	name:     "what is denied works",
	caughtBy: absentNames(),
	opts:     Options{Denied: everything, Below: below},
}, {
	name:     "a delete is unsupported and done",
	caughtBy: []string{"Absent/DeleteTags"},
	inject: func(f *ociregistry.Funcs) {
		next := f.DeleteTag_
		f.DeleteTag_ = func(ctx Ctx, repo, tag string) error {
			next(ctx, repo, tag)
			return ociregistry.ErrUnsupported
		}
	},
	opts: Options{Absent: DeleteTags},
}}
