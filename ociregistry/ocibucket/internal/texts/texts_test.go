package texts_test

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/texts"
)

func TestCache_KeepsWhatWasUsedLast(t *testing.T) {
	t.Parallel()
	c := texts.New(10)
	has := func(d string) bool {
		_, ok := c.Get(ociregistry.Digest(d))
		return ok
	}
	c.Add("a", "aaaa")
	c.Add("b", "bbbb")
	qt.Check(t, qt.IsTrue(has("a")))
	c.Add("c", "cccc")
	qt.Check(t, qt.IsTrue(has("a")))
	qt.Check(t, qt.IsFalse(has("b")))
	c.Add("d", strings.Repeat("d", 11))
	qt.Check(t, qt.IsFalse(has("d")))
	c.Add("e", strings.Repeat("e", 10))
	qt.Check(t, qt.IsTrue(has("e")))
	qt.Check(t, qt.IsFalse(has("c")))
	text, _ := c.Get("e")
	qt.Check(t, qt.HasLen(text, 10))
}
