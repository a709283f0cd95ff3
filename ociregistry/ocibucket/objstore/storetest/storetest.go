// Package storetest is the contract of objstore.Store as a test suite, which each
// implementation runs.
package storetest

import (
	"context"
	"crypto/rand"
	"io"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Run runs the suite on the store that open returns. The store may be one that others use at the
// same time: the suite writes below a prefix of its own, and removes what it wrote.
// open is called once.
func Run(t *testing.T, open func(t testing.TB) objstore.Store) {
	s := open(t)
	groups := []struct {
		name string
		test func(*fixture)
	}{
		{"Get_ReturnsWhatWasPut", testGet},
		{"Get_ReturnsRanges", testRanges},
		{"Get_OfEmptyObject", testEmpty},
		{"Get_IsASnapshot", testSnapshot},
		{"Put_IfAbsentRefusesWhatIsThere", testIfAbsent},
		{"Put_IfMatchRefusesWhatChanged", testIfMatch},
		{"Put_HasOneWinnerOfARace", testRaces},
		{"Delete_RemovesAndForgivesWhatIsAbsent", testDelete},
		{"Delete_IfMatchRefusesWhatChanged", testDeleteIfMatch},
		{"List_IsInByteOrder", testListOrder},
		{"List_PagesHaveEachKeyOnce", testListPages},
		{"List_StartsAfter", testListStartAfter},
		{"List_RollsUpAtDelimiter", testListDelimiter},
		{"Multipart_IsTheObjectOfItsParts", testMultipart},
		{"Multipart_CompletesUnderConditions", testMultipartConditions},
		{"Multipart_NamesPartsByETag", testMultipartParts},
		{"Multipart_RefusesPartsThatItDoesNotHave", testMultipartBadParts},
		{"Multipart_IsGoneAfterAbort", testMultipartAbort},
		{"Multipart_IsListedUntilItEnds", testMultipartList},
		{"Dates_AreThoseOfTheStore", testDates},
		{"Context_EndsCalls", testContext},
		{"Arguments_AreChecked", testArguments},
		{"Presign_LetsAnybodyGet", testPresign},
		{"Probe_FindsConditionsKept", testProbe},
	}
	// The groups end before the store does.
	t.Run("Store", func(t *testing.T) {
		for _, g := range groups {
			t.Run(g.name, func(t *testing.T) {
				t.Parallel()
				g.test(newFixture(t, s))
			})
		}
	})
}

// fixture is what a test of the suite has.
type fixture struct {
	*testing.T
	s      objstore.Store
	ctx    context.Context
	prefix string
}

func newFixture(t *testing.T, s objstore.Store) *fixture {
	f := &fixture{T: t, s: s, ctx: t.Context(), prefix: "storetest/" + rand.Text() + "/"}
	t.Cleanup(f.clean)
	return f
}

// clean removes what the test wrote.
func (f *fixture) clean() {
	ctx := context.Background()
	uploads, err := f.s.ListMultiparts(ctx, objstore.MultipartOptions{Prefix: f.prefix})
	qt.Check(f, qt.IsNil(err))
	if err == nil {
		for _, up := range uploads.Uploads {
			f.s.AbortMultipart(ctx, up)
		}
	}
	for o, err := range objstore.All(ctx, f.s, objstore.ListOptions{Prefix: f.prefix}) {
		if !qt.Check(f, qt.IsNil(err)) {
			return
		}
		_, err = f.s.Delete(ctx, o.Key, objstore.Condition{})
		qt.Check(f, qt.IsNil(err))
	}
}

// key returns a key of the test.
func (f *fixture) key(name string) string { return f.prefix + name }

// put writes an object, which must succeed.
func (f *fixture) put(key, body string) objstore.Info {
	f.Helper()
	info, err := f.s.Put(f.ctx, key, []byte(body), objstore.Condition{})
	qt.Assert(f, qt.IsNil(err))
	return info
}

// read gets a range of an object, which must succeed.
func (f *fixture) read(key string, r objstore.Range) (*objstore.Object, string) {
	f.Helper()
	o, err := f.s.Get(f.ctx, key, r)
	qt.Assert(f, qt.IsNil(err))
	defer o.Body.Close()
	body, err := io.ReadAll(o.Body)
	qt.Assert(f, qt.IsNil(err))
	return o, string(body)
}

// has checks what an object has.
func (f *fixture) has(key, want string) {
	f.Helper()
	_, body := f.read(key, objstore.Range{})
	qt.Assert(f, qt.Equals(len(body), len(want)))
	qt.Assert(f, qt.IsTrue(body == want))
}

// absent checks that there is no object.
func (f *fixture) absent(key string) {
	f.Helper()
	_, err := f.s.Get(f.ctx, key, objstore.Range{})
	qt.Assert(f, qt.ErrorIs(err, objstore.ErrNotFound))
}
