package verified_test

import (
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
)

func TestIsOfAndIsSumCompareDigests(t *testing.T) {
	t.Parallel()
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d := alg.FromString("content")
		qt.Check(t, qt.IsTrue(verified.IsOf(d, []byte("content"))))
		qt.Check(t, qt.IsFalse(verified.IsOf(d, []byte("other"))))
		h := alg.Hash()
		qt.Check(t, qt.IsFalse(verified.IsSum(d, h.Sum(nil))))
		qt.Check(t, qt.IsFalse(verified.IsSum(d, nil)))
		h.Write([]byte("content"))
		qt.Check(t, qt.IsTrue(verified.IsSum(d, h.Sum(nil))))
	}
}
