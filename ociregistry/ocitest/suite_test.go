package ocitest

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

func TestRun_PassesWithMemory(t *testing.T) {
	Run(t, func(testing.TB) ociregistry.Interface { return ocimem.New() }, &Options{AdoptsUploadIDs: true})
}

func TestRun_PassesWithSparseMemory(t *testing.T) {
	Run(t, func(testing.TB) ociregistry.Interface {
		return ocimem.NewWithConfig(&ocimem.Config{Sparse: true})
	}, &Options{AdoptsUploadIDs: true, Sparse: true})
}

func TestRun_PassesWithImmutableMemory(t *testing.T) {
	Run(t, func(testing.TB) ociregistry.Interface {
		return ocimem.NewWithConfig(&ocimem.Config{ImmutableTags: true})
	}, &Options{AdoptsUploadIDs: true, Denied: MoveTags | DeleteTags})
}

// view is a registry with the one beneath it.
type view struct {
	ociregistry.Interface
	below ociregistry.Interface
}

func below(r ociregistry.Interface) ociregistry.Interface { return r.(view).below }

// readOnly is a view of a registry in memory in which only reading works.
func readOnly(withLists bool) view {
	r := ocimem.New()
	f := &ociregistry.Funcs{
		GetBlob_: r.GetBlob, GetBlobRange_: r.GetBlobRange, GetManifest_: r.GetManifest, GetTag_: r.GetTag,
		ResolveBlob_: r.ResolveBlob, ResolveManifest_: r.ResolveManifest, ResolveTag_: r.ResolveTag,
	}
	if withLists {
		f.Repositories_, f.Tags_, f.Referrers_ = r.Repositories, r.Tags, r.Referrers
	}
	return view{f, r}
}

func TestRun_PassesWithAReadOnlyView(t *testing.T) {
	Run(t, func(testing.TB) ociregistry.Interface { return readOnly(true) }, &Options{Absent: Writes | Deletes, Below: below})
}

func TestRun_PassesWithAGetOnlyView(t *testing.T) {
	Run(t, func(testing.TB) ociregistry.Interface { return readOnly(false) }, &Options{
		Absent: Writes | Deletes | ListRepositories | ListTags | ListReferrers,
		Below:  below,
	})
}

// With some capabilities absent, the clauses about all others hold.
func TestRun_PassesWithPartialRegistries(t *testing.T) {
	for _, test := range []struct {
		absent Capability
		remove func(*ociregistry.Funcs)
	}{
		{DeleteBlobs | DeleteTags | ResumeUploads | Mount | ListRepositories | ListReferrers, func(f *ociregistry.Funcs) {
			f.DeleteBlob_, f.DeleteTag_, f.PushBlobChunkedResume_, f.MountBlob_ = nil, nil, nil, nil
			f.Repositories_, f.Referrers_ = nil, nil
		}},
		{DeleteManifests | PushChunks | MountFromAny | Conditions | ListTags, func(f *ociregistry.Funcs) {
			f.DeleteManifest_, f.PushBlobChunked_, f.PushBlobChunkedResume_, f.Tags_ = nil, nil, nil, nil
			wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
				if c := ociregistry.PushConditionFrom(p.ctx); c.IfMatch != nil || c.IfNoneMatch != nil {
					return desc{}, ociregistry.ErrUnsupported
				}
				return next(p)
			})
			mount := f.MountBlob_
			f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
				if from == "" {
					return desc{}, ociregistry.ErrUnsupported
				}
				return mount(ctx, from, to, d)
			}
		}},
	} {
		t.Run(strings.ReplaceAll(test.absent.String(), "|", "+"), func(t *testing.T) {
			Run(t, func(testing.TB) ociregistry.Interface {
				f := forward(ocimem.New())
				test.remove(f)
				return f
			}, &Options{Absent: test.absent, AdoptsUploadIDs: true})
		})
	}
}

// What the suite passes for invalid has to be.
func TestBadArguments_AreInvalid(t *testing.T) {
	for _, name := range badNames {
		qt.Check(t, qt.IsFalse(ociref.IsValidRepository(name)), qt.Commentf("%q", name))
	}
	for _, tag := range badTags {
		qt.Check(t, qt.IsFalse(ociref.IsValidTag(tag)), qt.Commentf("%q", tag))
	}
	for _, d := range badDigests {
		qt.Check(t, qt.IsFalse(ociref.IsValidDigest(string(d))), qt.Commentf("%q", d))
	}
	for _, name := range reposInOrder {
		qt.Check(t, qt.IsTrue(ociref.IsValidRepository(name)), qt.Commentf("%q", name))
	}
	for _, tag := range tagsInOrder {
		qt.Check(t, qt.IsTrue(ociref.IsValidTag(tag)), qt.Commentf("%q", tag))
	}
}
