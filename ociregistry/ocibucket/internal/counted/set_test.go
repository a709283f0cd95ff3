package counted_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/counted"
)

func TestSet_KeepsWhatIsInUseAndWhatWasUsedLast(t *testing.T) {
	t.Parallel()
	made := map[string]int{}
	s := counted.New(2, func(key string) *int {
		made[key]++
		return new(int)
	})
	held := s.Use("held")
	qt.Check(t, qt.Equals(s.Use("held"), held))
	s.Release("held")
	for _, key := range []string{"a", "b", "a", "c"} {
		s.Use(key)
		s.Release(key)
	}
	for _, key := range []string{"held", "a", "c", "b"} {
		s.Use(key)
	}
	qt.Check(t, qt.DeepEquals(made, map[string]int{"held": 1, "a": 1, "b": 2, "c": 1}))
}
