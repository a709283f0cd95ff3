package ocifilter_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

func TestReadOnly_RefusesChanges(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		if c.access != ocifilter.AccessWrite && c.access != ocifilter.AccessDelete {
			continue
		}
		t.Run(c.method, func(t *testing.T) {
			err := c.do(t.Context(), ocifilter.ReadOnly(unreachable(t)), "foo")
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
			qt.Check(t, qt.Equals(err.Error(), c.method+" foo: unsupported: the operation is unsupported"))
		})
	}
}

func TestReadOnly_PassesReadsOn(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		if c.access != ocifilter.AccessRead && c.access != ocifilter.AccessList {
			continue
		}
		t.Run(c.method, func(t *testing.T) {
			var got []string
			r := ocifilter.ReadOnly(failing(func(method, _ string) { got = append(got, method) }))
			qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, "foo"), errBackend))
			qt.Check(t, qt.DeepEquals(got, []string{c.method}))
		})
	}
}
