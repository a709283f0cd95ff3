package ocitest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

var listClauses = []clause{
	{name: "TagsInByteOrder", needs: ListTags, run: listTags},
	{name: "TagsAfter", needs: ListTags, run: listTagsAfter},
	{name: "TagsMany", needs: ListTags, run: listManyTags},
	{name: "TagsUnknownRepository", needs: ListTags, run: listTagsUnknown},
	{name: "RepositoriesInByteOrder", needs: ListRepositories, run: listRepositories},
	{name: "RepositoriesAfter", needs: ListRepositories, run: listRepositoriesAfter},
	{name: "RepositoriesMany", needs: ListRepositories, run: listManyRepositories},
	{name: "StopsEarly", needs: ListTags | ListRepositories, run: listStops},
	{name: "AsksAgain", needs: ListTags | ListRepositories, run: listAgain},
	{name: "IsLazy", needs: ListTags | ListRepositories, run: listLazy},
	{name: "LoopsMayCallBack", needs: ListTags | ListRepositories | DeleteTags | PushManifests, run: listCallBack},
	{name: "SeesTheRestOnce", needs: ListTags | DeleteTags, run: listDuringDeletes},
}

// tagsInOrder are tags in byte order, which is not the order of people.
var tagsInOrder = []string{
	"0", "1.10", "1.9", "10", "2", "A", "Z", "_", "__a", "a", "a-", "a-b", "a.", "a.b", "a0", "aA", "a_b", "aa", "b",
}

// reposInOrder are repositories in byte order, which is not the order of walking a tree of
// directories.
var reposInOrder = []string{"0", "a", "a-b", "a-b/c", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "a__b", "a_b", "aa", "b"}

func (t *test) mustPushTags(repo string, tags ...string) {
	t.Helper()
	for page := range slices.Chunk(tags, 25) {
		t.mustPush(repo, numbered(0), page...)
	}
}

func reversed(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

func listTags(t *test) {
	for _, tag := range reversed(tagsInOrder) {
		t.mustPushTags("foo", tag)
	}
	t.mustPushTags("bar", "x")
	t.wantTags("foo", tagsInOrder...)
	t.wantTags("bar", "x")
}

// starts returns values of startAfter: elements of the list, strings that could be
// elements, and strings that could not.
func starts(list []string) []string {
	all := []string{"", "\x00", "!", " ", "/", "a b", "a/", "a%2Fb", "a?", "~", "\xff", "é", strings.Repeat("a", 300)}
	for _, s := range list {
		all = append(all, s, s+"\x00", s+"0", s[:len(s)-1])
	}
	return all
}

// after returns the elements of a sorted list that are greater than start.
func after(list []string, start string) []string {
	i, _ := slices.BinarySearch(list, start+"\x00")
	return list[i:]
}

func listTagsAfter(t *test) {
	t.mustPushTags("foo", tagsInOrder...)
	for _, start := range starts(tagsInOrder) {
		got, err := ociregistry.All(t.reg.Tags(t.Context(), "foo", start))
		t.wantList(got, err, after(tagsInOrder, start), fmt.Sprintf("Tags after %q", start))
	}
}

// There are more tags than one page or batch is likely to have.
func listManyTags(t *test) {
	var tags []string
	for i := range t.scale(1050) {
		tags = append(tags, fmt.Sprintf("v%05d", i))
	}
	t.mustPushTags("foo", tags...)
	t.wantTags("foo", tags...)
	for _, i := range []int{0, 15, 98, 99, 100, len(tags) - 2, len(tags) - 1} {
		got, err := ociregistry.All(t.reg.Tags(t.Context(), "foo", tags[i]))
		t.wantList(got, err, tags[i+1:], "Tags after "+tags[i])
	}
}

// The tags of a repository without tags are an empty list, and those of an unknown one an
// error.
func listTagsUnknown(t *test) {
	t.mustPushBlob("foo", []byte("x"))
	for _, start := range []string{"", "x"} {
		got, err := ociregistry.All(t.reg.Tags(t.Context(), "foo", start))
		t.wantList(got, err, nil, "Tags of a repository without any")
		elements := 0
		for tag, err := range t.reg.Tags(t.Context(), "unknown", start) {
			elements++
			t.wantErr(err, is(ociregistry.ErrNameUnknown), "Tags of an unknown repository")
			if tag != "" || elements > 1 {
				t.Errorf("Tags of an unknown repository: element %d is %q with error %v, want nothing but an error", elements, tag, err)
			}
		}
		if elements == 0 {
			t.Errorf("Tags of an unknown repository: got no error")
		}
	}
}

func listRepositories(t *test) {
	for _, repo := range reversed(reposInOrder) {
		t.mustPushBlob(repo, []byte("x"))
	}
	t.wantRepositories("in byte order", reposInOrder...)
}

func listRepositoriesAfter(t *test) {
	for _, repo := range reposInOrder {
		t.mustPushBlob(repo, []byte("x"))
	}
	for _, start := range starts(reposInOrder) {
		got, err := ociregistry.All(t.reg.Repositories(t.Context(), start))
		t.wantList(got, err, after(reposInOrder, start), fmt.Sprintf("Repositories after %q", start))
	}
}

func listManyRepositories(t *test) {
	var repos []string
	for i := range t.scale(240) {
		repos = append(repos, fmt.Sprintf("r%05d/x", i))
		t.mustPushBlob(repos[i], nil)
	}
	t.wantRepositories("when there are many", repos...)
	got, err := ociregistry.All(t.reg.Repositories(t.Context(), repos[17]))
	t.wantList(got, err, repos[18:], "Repositories after the 18th")
}

// mustMakeLists returns lists with 30 elements each.
func (t *test) mustMakeLists() map[string]iter.Seq2[string, error] {
	t.Helper()
	for i := range 30 {
		t.mustPushTags("foo", fmt.Sprintf("v%02d", i))
		t.mustPushBlob(fmt.Sprintf("r%02d", i), nil)
	}
	return map[string]iter.Seq2[string, error]{
		"Tags":         t.reg.Tags(t.Context(), "foo", ""),
		"Repositories": t.reg.Repositories(t.Context(), "foo"),
	}
}

// A loop can end anywhere, and the next one starts from the beginning.
func listStops(t *test) {
	for name, seq := range t.mustMakeLists() {
		all, err := ociregistry.All(seq)
		if err != nil || len(all) != 30 {
			t.Fatalf("%s: got %d elements and error %v, want 30", name, len(all), err)
		}
		for stop := range all {
			var got []string
			for s, err := range seq {
				t.must(err, "%s", name)
				got = append(got, s)
				if len(got) > stop {
					break
				}
			}
			t.wantList(got, nil, all[:stop+1], name+", stopped early")
		}
		got, err := ociregistry.All(seq)
		t.wantList(got, err, all, name+", after loops that stopped early")
	}
}

// Ranging over a list again lists again.
func listAgain(t *test) {
	last := 0
	for name, seq := range t.mustMakeLists() {
		before, err := ociregistry.All(seq)
		t.must(err, "%s", name)
		last++
		added := fmt.Sprint("z", last)
		t.mustPushTags("foo", added)
		t.mustPushBlob(added, nil)
		got, err := ociregistry.All(seq)
		t.wantList(got, err, append(before, added), name+", ranged over again after another was added")
	}
}

// A registry is not asked for a list before the loop begins.
func listLazy(t *test) {
	tags := t.reg.Tags(t.Context(), "foo", "")
	repos := t.reg.Repositories(t.Context(), "")
	t.mustPushTags("foo", "v1", "v2", "v3")
	got, err := ociregistry.All(tags)
	t.wantList(got, err, []string{"v1", "v2", "v3"}, "Tags of a repository that came after the call")
	got, err = ociregistry.All(repos)
	t.wantList(got, err, []string{"foo"}, "Repositories that came after the call")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, seq := range map[string]iter.Seq2[string, error]{"Tags": t.reg.Tags(ctx, "foo", ""), "Repositories": t.reg.Repositories(ctx, "")} {
		// The list is complete, or ends with the error of the context.
		if _, err := ociregistry.All(seq); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that has ended: %v", name, err)
		}
	}
}

// The body of a loop can make any call to the registry.
func listCallBack(t *test) {
	lists := t.mustMakeLists()
	for name, seq := range lists {
		err := t.promptly(name+" with a loop body that uses the registry", func() error {
			n := 0
			for s, err := range seq {
				if err != nil {
					return err
				}
				n++
				tag := "new-" + strings.ToLower(name) + fmt.Sprint(n)
				if err := t.callBack(s, tag); err != nil {
					return fmt.Errorf("at %s: %w", s, err)
				}
				if n == 20 {
					break
				}
			}
			return nil
		})
		t.must(err, "%s with a loop body that uses the registry", name)
	}
}

// callBack pushes, reads, lists and deletes.
func (t *test) callBack(repo, tag string) error {
	ctx := t.Context()
	a := numbered(1)
	if err := t.pushManifest("foo", tag, a.Manifest, a.Descriptor.MediaType); err != nil {
		return err
	}
	if err := t.pushManifest("new/"+tag, tag, a.Manifest, a.Descriptor.MediaType); err != nil {
		return err
	}
	if err := a.Verify(ctx, t.reg, "foo"); err != nil {
		return err
	}
	for _, err := range t.reg.Tags(ctx, "foo", "") {
		if err != nil {
			return err
		}
	}
	for _, err := range t.reg.Repositories(ctx, repo) {
		if err != nil {
			return err
		}
		break
	}
	return t.reg.DeleteTag(ctx, "foo", tag)
}

// An element that is neither added nor removed during an iteration is listed once.
func listDuringDeletes(t *test) {
	var all, want, got []string
	for i := range 200 {
		all = append(all, fmt.Sprintf("v%03d", i))
	}
	t.mustPushTags("foo", all...)
	for tag, err := range t.reg.Tags(t.Context(), "foo", "") {
		t.must(err, "Tags")
		got = append(got, tag)
		i := slices.Index(all, tag)
		if i < 0 {
			t.Fatalf("Tags: got %q, which nobody pushed", tag)
		}
		// The current tag, and one that follows.
		for _, j := range []int{i, i + 50} {
			if i%2 == 0 && j < len(all) {
				if err := t.reg.DeleteTag(t.Context(), "foo", all[j]); err != nil && !errors.Is(err, ociregistry.ErrManifestUnknown) {
					t.Fatalf("DeleteTag: %v", err)
				}
			}
		}
	}
	for i, tag := range all {
		if i%2 == 1 {
			want = append(want, tag)
		}
	}
	got = slices.DeleteFunc(got, func(tag string) bool {
		i := slices.Index(all, tag)
		return i%2 == 0 // was deleted meanwhile: may be there or not
	})
	t.wantList(got, nil, want, "Tags, of which others were deleted meanwhile")
}
