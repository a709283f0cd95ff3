package ocitest

import (
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

var allowanceDefects = []defect{{
	name:     "allowances are not known",
	caughtBy: []string{"Allowances/Missing", "Allowances/MissingIsInUseWhenItComes", "Allowances/InUse"},
	inject: func(f *ociregistry.Funcs) {
		withContext(f, ociregistry.WithoutAllowances)
	},
}, {
	name:     "an allowance allows everything",
	caughtBy: []string{"Allowances/MissingAllowsNothingElse", "Allowances/InUseAllowsNothingElse"},
	inject: func(f *ociregistry.Funcs) {
		withContext(f, func(ctx Ctx) Ctx {
			if ociregistry.MissingAllowed(ctx) || ociregistry.InUseAllowed(ctx) {
				return ociregistry.AllowMissing(ociregistry.AllowInUse(ctx))
			}
			return ctx
		})
	},
}, {
	name:     "a manifest that is there is not checked again",
	caughtBy: []string{"Allowances/Missing", "Allowances/InUse"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
			if _, err := f.ResolveManifest(p.ctx, p.repo, digest.FromBytes(p.contents)); err == nil {
				p.ctx = ociregistry.AllowMissing(p.ctx)
			}
			return next(p)
		})
	},
}, {
	name:     "allowances are known where none are expected",
	caughtBy: []string{"Allowances/NotKnown"},
	opts:     Options{Absent: Allowances},
}}

// withContext changes the contexts of the calls that know allowances.
func withContext(f *ociregistry.Funcs, with func(Ctx) Ctx) {
	wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
		p.ctx = with(p.ctx)
		return next(p)
	})
	blob, manifest := f.DeleteBlob_, f.DeleteManifest_
	f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error { return blob(with(ctx), repo, d) }
	f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error { return manifest(with(ctx), repo, d) }
}
