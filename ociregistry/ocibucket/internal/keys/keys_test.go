package keys_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

var (
	hex   = strings.Repeat("0123456789abcdef", 4)
	small = ociregistry.Digest("sha256:" + hex)
	large = ociregistry.Digest("sha512:" + hex + hex)
)

func TestParse_TakesEachKeyApart(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key  string
		want keys.Key
	}{
		{keys.Options, keys.Key{Kind: keys.KindOptions}},
		{keys.Record("a/b", 7), keys.Key{Kind: keys.KindRecord, Repository: "a/b", Number: 7}},
		{keys.Snapshot("a/b", 7), keys.Key{Kind: keys.KindSnapshot, Repository: "a/b", Number: 7}},
		{keys.Manifest("a", small), keys.Key{Kind: keys.KindManifest, Repository: "a", Digest: small}},
		{keys.Link("r/l/b", large), keys.Key{Kind: keys.KindLink, Repository: "r/l/b", Digest: large}},
		{keys.Reference(small, "a/d/r", "N2"), keys.Key{Kind: keys.KindReference, Repository: "a/d/r", Digest: small, Name: "N2"}},
		{keys.Marker(small, "X"), keys.Key{Kind: keys.KindMarker, Digest: small, Name: "X"}},
		{keys.Data("X"), keys.Key{Kind: keys.KindData, Name: "X"}},
		{keys.Session("X"), keys.Key{Kind: keys.KindSession, Name: "X"}},
		{keys.Catalog("a/b"), keys.Key{Kind: keys.KindCatalog, Repository: "a/b"}},
		{keys.Mark("a/b", "X"), keys.Key{Kind: keys.KindMark, Repository: "a/b", Name: "X"}},
		{keys.Pulls("X"), keys.Key{Kind: keys.KindPulls, Name: "X"}},
		{keys.Asked, keys.Key{Kind: keys.KindAsked}},
		{keys.News("X"), keys.Key{Kind: keys.KindNews, Name: "X"}},
	}
	for _, test := range tests {
		got, ok := keys.Parse(test.key)
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s", test.key))
		qt.Check(t, qt.Equals(got, test.want))
		qt.Check(t, qt.Equals(got.String(), test.key))
		qt.Check(t, qt.IsTrue(objstore.ValidKey(test.key)))
	}
}

// What else is in the bucket is not ours.
func TestParse_RefusesAllOtherKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"", "x", "g/", "gg", "r", "r/a", "r/a!", "r/a!/", "r/a!/l/1", "r/a!/l/99999999999999999", "r/a!/l/000000000000000x", "r/a!/l/+000000000000001",
		"r/A!/l/0000000000000001", "r/a!/x/0000000000000001", "r/a!/s/99999999999999999", "r/a!/m/sha256/" + hex[1:], "r/a!/b/md5/" + hex[:32],
		"r/a!/b/sha256/" + hex + "/x", "b/sha256/" + hex, "b/sha256/" + hex + "/x/X", "b/sha256/" + hex + "/d/", "b/sha256/" + hex + "/d/X/Y",
		"b/sha256/" + hex + "/r/a", "b/sha256/" + hex + "/r/!X", "d/", "d/a", "d/X/Y", "u/X", "u/X/t", "u/X/s/s", "c/a", "c/!", "c/a!X", "e/a!", "e/a", "p/", "p/x", "p/X/Y", "q/", "qq", "f", "f/", "f/x", "f/X/Y",
		"ocibucket-probe/X", keys.Data("X") + "/",
	} {
		_, ok := keys.Parse(key)
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%q", key))
	}
}

func TestKeys_AreInTheOrderOfNames(t *testing.T) {
	t.Parallel()
	names := []string{"a", "a-b", "a.b", "a/b", "a/b/c", "a0", "a_b", "ab", "b"}
	slices.Sort(names)
	var catalog []string
	for _, name := range names {
		catalog = append(catalog, keys.Catalog(name))
	}
	qt.Check(t, qt.IsTrue(slices.IsSorted(catalog)))
	qt.Check(t, qt.IsTrue(keys.Snapshot("a", 2) < keys.Snapshot("a", 1)))
	qt.Check(t, qt.IsTrue(keys.Record("a", 10) < keys.Record("a", 9)))
	qt.Check(t, qt.IsTrue(keys.Marker(small, "Z") < keys.Reference(small, "a", "A")))
}
