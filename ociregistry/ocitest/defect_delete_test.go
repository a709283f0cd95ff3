package ocitest

import (
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

var deleteDefects = []defect{{
	name: "deletes do nothing",
	caughtBy: []string{
		"DeleteBlob/Deletes", "DeleteManifest/Deletes", "DeleteTag/Deletes",
		"Repository/EndsWithItsLastBlob", "Repository/EndsWithItsLastManifest",
	},
	inject: func(f *ociregistry.Funcs) {
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error { return nil }
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error { return nil }
		f.DeleteTag_ = func(ctx Ctx, repo, tag string) error { return nil }
	},
}, {
	name:     "what is not there is deleted all the same",
	caughtBy: []string{"DeleteBlob/Unknown", "DeleteManifest/Unknown", "DeleteTag/Unknown", "DeleteBlob/Deletes", "DeleteTag/Deletes"},
	inject: func(f *ociregistry.Funcs) {
		blob, manifest, tag := f.DeleteBlob_, f.DeleteManifest_, f.DeleteTag_
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			return swap(blob(ctx, repo, d), ociregistry.ErrBlobUnknown, nil)
		}
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			return swap(manifest(ctx, repo, d), ociregistry.ErrManifestUnknown, nil)
		}
		f.DeleteTag_ = func(ctx Ctx, repo, name string) error {
			return swap(tag(ctx, repo, name), ociregistry.ErrManifestUnknown, nil)
		}
	},
}, {
	name: "deletes are for all repositories",
	caughtBy: []string{
		"DeleteBlob/OneRepositoryOnly", "DeleteManifest/OneRepositoryOnly", "DeleteTag/OneRepositoryOnly",
		"MountBlob/SourceAndTargetAreIndependent",
	},
	inject: func(f *ociregistry.Funcs) {
		blob, manifest, tag := f.DeleteBlob_, f.DeleteManifest_, f.DeleteTag_
		all := func(ctx Ctx, repo string, del func(repo string) error) error {
			err := del(repo)
			repos, _ := ociregistry.All(f.Repositories(ctx, ""))
			for _, repo := range repos {
				del(repo)
			}
			return err
		}
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			return all(ctx, repo, func(repo string) error { return blob(ctx, repo, d) })
		}
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			return all(ctx, repo, func(repo string) error { return manifest(ctx, repo, d) })
		}
		f.DeleteTag_ = func(ctx Ctx, repo, name string) error {
			return all(ctx, repo, func(repo string) error { return tag(ctx, repo, name) })
		}
	},
}, {
	name:     "what was deleted does not come back",
	caughtBy: []string{"DeleteBlob/PushedAgain", "Repository/CanComeBack", "Concurrency/RepositoriesComeAndGo"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		deleted := make(map[dig]bool)
		remove, get := f.DeleteBlob_, f.GetBlob_
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			mu.Lock()
			defer mu.Unlock()
			deleted[d] = true
			return remove(ctx, repo, d)
		}
		f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			mu.Lock()
			defer mu.Unlock()
			if deleted[d] {
				return nil, ociregistry.ErrBlobUnknown
			}
			return get(ctx, repo, d)
		}
	},
}, {
	name: "content in use is deleted",
	caughtBy: []string{
		"References/InUse", "DeleteBlob/InUse", "DeleteBlob/InUseBelowAnIndex", "DeleteBlob/InUseTwice",
		"DeleteManifest/InUse", "DeleteManifest/InUseInNestedIndexes", "DeleteManifest/InUseTwice",
	},
	config: ocimem.Config{Sparse: true},
}, {
	name:     "content in use is used once",
	caughtBy: []string{"DeleteBlob/InUseTwice", "DeleteManifest/InUseTwice"},
	config:   ocimem.Config{Sparse: true},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		used := make(map[dig]bool)
		blob, manifest := f.DeleteBlob_, f.DeleteManifest_
		set := func(contents []byte, to bool) {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range named(contents) {
				used[d] = to
			}
		}
		inUse := func(d dig) bool {
			mu.Lock()
			defer mu.Unlock()
			return used[d]
		}
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			set(p.contents, true)
			return next(p)
		})
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			if inUse(d) {
				return ociregistry.ErrInUse
			}
			return blob(ctx, repo, d)
		}
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			if inUse(d) {
				return ociregistry.ErrInUse
			}
			if contents, _, err := read(f.GetManifest(ctx, repo, d)); err == nil {
				set(contents, false)
			}
			return manifest(ctx, repo, d)
		}
	},
}, {
	name:     "what was in use somewhere is in use everywhere",
	caughtBy: []string{"DeleteBlob/InUseElsewhere", "DeleteBlob/UncheckedManifestsUseNothing", "DeleteBlob/InUse"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		used := make(map[dig]bool)
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range named(p.contents) {
				used[d] = true
			}
			return next(p)
		})
		blob := f.DeleteBlob_
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			mu.Lock()
			defer mu.Unlock()
			if used[d] {
				return ociregistry.ErrInUse
			}
			return blob(ctx, repo, d)
		}
	},
}, {
	name:     "content in use is merely denied",
	caughtBy: []string{"DeleteBlob/InUse", "DeleteManifest/InUse", "DeleteBlob/OfAManifest"},
	inject: func(f *ociregistry.Funcs) {
		blob, manifest := f.DeleteBlob_, f.DeleteManifest_
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			return swap(blob(ctx, repo, d), ociregistry.ErrInUse, ociregistry.ErrDenied)
		}
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			return swap(manifest(ctx, repo, d), ociregistry.ErrInUse, ociregistry.ErrDenied)
		}
	},
}, {
	name:     "a manifest takes its blobs along",
	caughtBy: []string{"DeleteManifest/Deletes", "DeleteBlob/InUse"},
	inject: func(f *ociregistry.Funcs) {
		blob, manifest := f.DeleteBlob_, f.DeleteManifest_
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			contents, _, _ := read(f.GetManifest(ctx, repo, d))
			err := manifest(ctx, repo, d)
			for _, d := range named(contents) {
				blob(ctx, repo, d)
			}
			return err
		}
	},
}, {
	name:     "a manifest leaves its tags behind",
	caughtBy: []string{"DeleteManifest/TakesItsTags", "DeleteManifest/OneRepositoryOnly"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		left := make(map[string][]string)
		manifest, tags := f.DeleteManifest_, f.Tags_
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			tags := tagsOf(f, ctx, repo, d)
			mu.Lock()
			defer mu.Unlock()
			left[repo] = append(left[repo], tags...)
			return manifest(ctx, repo, d)
		}
		f.Tags_ = func(ctx Ctx, repo, after string) iter.Seq2[string, error] {
			mu.Lock()
			defer mu.Unlock()
			if len(left[repo]) == 0 {
				return tags(ctx, repo, after)
			}
			all, _ := ociregistry.All(tags(ctx, repo, after))
			all = append(all, left[repo]...)
			slices.Sort(all)
			return ociregistry.SliceSeq(all)
		}
	},
}, {
	name:     "a manifest comes back with its tags",
	caughtBy: []string{"DeleteManifest/PushedAgain"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		left := make(map[dig][]string)
		manifest := f.DeleteManifest_
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			mu.Lock()
			defer mu.Unlock()
			left[d] = tagsOf(f, ctx, repo, d)
			return manifest(ctx, repo, d)
		}
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			mu.Lock()
			defer mu.Unlock()
			p.tags = append(p.tags, left[digest.FromBytes(p.contents)]...)
			return next(p)
		})
	},
}, {
	name:     "subjects are in use",
	caughtBy: []string{"DeleteManifest/SubjectsAreNotInUse", "Referrers/DeletedSubject"},
	inject: func(f *ociregistry.Funcs) {
		manifest := f.DeleteManifest_
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			if all, _ := ociregistry.All(f.Referrers(ctx, repo, d, "")); len(all) > 0 {
				return ociregistry.ErrInUse
			}
			return manifest(ctx, repo, d)
		}
	},
}, {
	name:     "a repository is removed with what was just pushed",
	caughtBy: []string{"Concurrency/RepositoriesComeAndGo"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		blobs := make(map[dig]bool)
		remove := f.DeleteBlob_
		wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			got, err := next(r)
			mu.Lock()
			defer mu.Unlock()
			blobs[d.Digest] = true
			return got, err
		})
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			err := remove(ctx, repo, d)
			mu.Lock()
			delete(blobs, d)
			empty := len(blobs) == 0
			mu.Unlock()
			if !empty {
				return err
			}
			yield()
			mu.Lock()
			defer mu.Unlock()
			for d := range blobs {
				remove(ctx, repo, d)
			}
			clear(blobs)
			return err
		}
	},
}}

// wrapLists wraps the lists of tags and repositories.
func wrapLists(f *ociregistry.Funcs, wrap func(list func(after string) iter.Seq2[string, error], after string) iter.Seq2[string, error]) {
	tags, repos := f.Tags_, f.Repositories_
	f.Tags_ = func(ctx Ctx, repo, after string) iter.Seq2[string, error] {
		return wrap(func(after string) iter.Seq2[string, error] { return tags(ctx, repo, after) }, after)
	}
	f.Repositories_ = func(ctx Ctx, after string) iter.Seq2[string, error] {
		return wrap(func(after string) iter.Seq2[string, error] { return repos(ctx, after) }, after)
	}
}

type (
	strs = iter.Seq2[string, error]
	list = func(after string) strs
)

var listDefects = []defect{{
	name: "lists are in reverse",
	caughtBy: []string{
		"List/TagsInByteOrder", "List/TagsAfter", "List/RepositoriesInByteOrder", "List/RepositoriesAfter",
		"List/RepositoriesMany", "PushManifest/ByTags", "Repository/NamesAreIndependent",
	},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				all, err := ociregistry.All(list(after))
				slices.Reverse(all)
				for _, s := range all {
					if !yield(s, nil) {
						return
					}
				}
				if err != nil {
					yield("", err)
				}
			}
		})
	},
}, {
	name:     "lists are in the order of directories",
	caughtBy: []string{"List/RepositoriesInByteOrder"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			all, err := ociregistry.All(list(after))
			if err != nil {
				return ociregistry.ErrorSeq[string](err)
			}
			slices.SortFunc(all, func(a, b string) int {
				return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
			})
			return ociregistry.SliceSeq(all)
		})
	},
}, {
	name:     "lists begin with startAfter",
	caughtBy: []string{"List/TagsAfter", "List/RepositoriesAfter", "List/TagsMany"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				for s, err := range list("") {
					if s >= after && !yield(s, err) {
						return
					}
				}
			}
		})
	},
}, {
	name:     "startAfter has to exist",
	caughtBy: []string{"List/TagsAfter", "List/RepositoriesAfter"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				found := after == ""
				for s, err := range list("") {
					if found && !yield(s, err) {
						return
					}
					found = found || s == after
				}
			}
		})
	},
}, {
	name:     "lists have one page",
	caughtBy: []string{"List/TagsMany", "List/RepositoriesMany"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				n := 0
				for s, err := range list(after) {
					if n++; n > 50 || !yield(s, err) {
						return
					}
				}
			}
		})
	},
}, {
	name:     "an unknown repository has no tags",
	caughtBy: []string{"List/TagsUnknownRepository", "Repository/NoneAtFirst"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				for s, err := range list(after) {
					if errors.Is(err, ociregistry.ErrNameUnknown) || !yield(s, err) {
						return
					}
				}
			}
		})
	},
}, {
	name:     "lists go on where they stopped",
	caughtBy: []string{"List/StopsEarly"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				for s, err := range list(after) {
					if after = s; !yield(s, err) {
						return
					}
				}
			}
		})
	},
}, {
	name:     "lists are made when they are asked for",
	caughtBy: []string{"List/IsLazy", "List/AsksAgain"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			all, err := ociregistry.All(list(after))
			if err != nil {
				return ociregistry.ErrorSeq[string](err)
			}
			return ociregistry.SliceSeq(all)
		})
	},
}, {
	name:     "lists are locked while they are read",
	caughtBy: []string{"List/LoopsMayCallBack"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.RWMutex
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if !mu.TryLock() {
				select {} // for ever, as a Lock would
			}
			defer mu.Unlock()
			return next(p)
		})
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				mu.RLock()
				defer mu.RUnlock()
				list(after)(yield)
			}
		})
	},
}, {
	name:     "pages are counted from the beginning",
	caughtBy: []string{"List/SeesTheRestOnce", "Concurrency/ListsStayInOrder"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(each func(string, error) bool) {
				for n := 0; ; n += 10 {
					yield()
					all, err := ociregistry.All(list(after))
					if err != nil {
						each("", err)
						return
					}
					page := all[min(n, len(all)):min(n+10, len(all))]
					for _, s := range page {
						if !each(s, nil) {
							return
						}
					}
					if len(page) < 10 {
						return
					}
				}
			}
		})
	},
}, {
	name:     "a list that was cut short is complete",
	caughtBy: []string{"Context/EndsLists"},
	inject: func(f *ociregistry.Funcs) {
		wrapLists(f, func(list list, after string) strs {
			return func(yield func(string, error) bool) {
				for s, err := range list(after) {
					if err != nil || !yield(s, nil) {
						return
					}
				}
			}
		})
	},
}}
