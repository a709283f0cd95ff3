package ocifilter_test

import (
	"strings"
	"testing"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// crowded returns a registry with content that its views must not show.
func crowded(tb testing.TB, repos ...string) ociregistry.Interface {
	r := ocimem.New()
	image := ocitest.NewImage(ocitest.Spec{Seed: 99, Layers: []int64{100}})
	for _, repo := range repos {
		if err := image.Push(tb.Context(), r, repo, "latest"); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

// over is a view and its underlying registry.
type over struct {
	ociregistry.Interface
	below ociregistry.Interface
}

// Select is made of AccessChecker, and stands for it here.
func TestViews_KeepTheContract(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		new     func(testing.TB) ociregistry.Interface
		options ocitest.Options
	}{{
		name: "ReadOnly",
		new: func(testing.TB) ociregistry.Interface {
			r := ocimem.New()
			return over{ocifilter.ReadOnly(r), r}
		},
		options: ocitest.Options{
			Absent: ocitest.Writes | ocitest.Deletes,
			Below:  func(r ociregistry.Interface) ociregistry.Interface { return r.(over).below },
		},
	}, {
		name: "Immutable",
		new: func(testing.TB) ociregistry.Interface {
			return ocifilter.Immutable(ocimem.New())
		},
		options: ocitest.Options{Denied: ocitest.MoveTags | ocitest.Deletes},
	}, {
		name: "Select",
		new: func(t testing.TB) ociregistry.Interface {
			return ocifilter.Select(crowded(t, "0/hidden", "foo/hidden", "hidden", "zzz/hidden"), func(repo string) bool {
				return !strings.HasSuffix(repo, "hidden")
			})
		},
		options: ocitest.Options{Absent: ocitest.MountFromAny},
	}, {
		name: "Sub",
		new: func(t testing.TB) ociregistry.Interface {
			// In byte order, before and after what is below pre/fix.
			return ocifilter.Sub(crowded(t, "a", "foo", "pre", "pre/fi", "pre/fix", "pre/fix-a/b", "pre/fix.a", "pre/fix0", "pre/fixa", "z"), "pre/fix")
		},
		options: ocitest.Options{Absent: ocitest.MountFromAny},
	}, {
		name: "Sub of Under",
		new: func(t testing.TB) ociregistry.Interface {
			return ocifilter.Sub(ocifilter.Under(ocimem.New(), "pre/fix"), "pre/fix")
		},
		options: ocitest.Options{Absent: ocitest.MountFromAny},
	}, {
		name: "Quota",
		new: func(t testing.TB) ociregistry.Interface {
			r, err := ocifilter.Quota(ocimem.New(), []ocifilter.QuotaRule{{MaxBytes: 1 << 60}, {Prefix: "foo", MaxBytes: 1 << 59}})
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
		options: ocitest.Options{Absent: ocitest.MountFromAny},
	}}
	for _, test := range tests {
		test.options.AdoptsUploadIDs = true
		t.Run(test.name, func(t *testing.T) {
			ocitest.Run(t, test.new, &test.options)
		})
	}
}
