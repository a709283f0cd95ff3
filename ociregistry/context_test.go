package ociregistry_test

import (
	"context"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestPushConditionCheck(t *testing.T) {
	t.Parallel()
	const (
		none  = ociregistry.Digest("")
		a     = ociregistry.Digest("sha256:aa")
		b     = ociregistry.Digest("sha256:bb")
		any   = ociregistry.AnyManifest
		holds = true
		fails = false
	)
	type list = []ociregistry.Digest
	tests := []struct {
		ifMatch     list
		ifNoneMatch list
		current     ociregistry.Digest
		want        bool
	}{
		{nil, nil, none, holds},
		{nil, nil, a, holds},

		{list{a}, nil, a, holds},
		{list{a}, nil, b, fails},
		{list{a}, nil, none, fails},
		{list{b, a}, nil, a, holds},
		{list{any}, nil, a, holds},
		{list{any}, nil, none, fails},
		{list{}, nil, a, fails},
		{list{}, nil, none, fails},
		{list{none}, nil, none, fails},

		{nil, list{a}, a, fails},
		{nil, list{a}, b, holds},
		{nil, list{a}, none, holds},
		{nil, list{b, a}, a, fails},
		{nil, list{any}, a, fails},
		{nil, list{any}, none, holds},
		{nil, list{}, a, holds},
		{nil, list{none}, none, holds},

		{list{a}, list{b}, a, holds},
		{list{a}, list{b}, b, fails},
		{list{any}, list{a}, a, fails},
		{list{any}, list{a}, b, holds},
		{list{any}, list{any}, a, fails},
		{list{any}, list{any}, none, fails},
	}
	for _, test := range tests {
		c := ociregistry.PushCondition{IfMatch: test.ifMatch, IfNoneMatch: test.ifNoneMatch}
		err := c.Check(test.current)
		comment := qt.Commentf("%+v, now %q", c, test.current)
		if test.want == holds {
			qt.Check(t, qt.IsNil(err), comment)
		} else {
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrPreconditionFailed), comment)
		}
	}
}

func TestPushConditionInContext(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	qt.Check(t, qt.DeepEquals(ociregistry.PushConditionFrom(ctx), ociregistry.PushCondition{}))

	outer := ociregistry.PushCondition{IfMatch: []ociregistry.Digest{"sha256:aa"}}
	inner := ociregistry.PushCondition{IfNoneMatch: []ociregistry.Digest{ociregistry.AnyManifest}}
	ctx = ociregistry.WithPushCondition(ctx, outer)
	qt.Check(t, qt.DeepEquals(ociregistry.PushConditionFrom(ctx), outer))
	qt.Check(t, qt.DeepEquals(ociregistry.PushConditionFrom(ociregistry.WithPushCondition(ctx, inner)), inner))
	qt.Check(t, qt.DeepEquals(ociregistry.PushConditionFrom(ctx), outer))
}

func TestDigestAlgorithmInContext(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	qt.Check(t, qt.Equals(ociregistry.DigestAlgorithmFrom(ctx), digest.SHA256))
	ctx = ociregistry.WithDigestAlgorithm(ctx, digest.SHA512)
	qt.Check(t, qt.Equals(ociregistry.DigestAlgorithmFrom(ctx), digest.SHA512))
}

func TestAllowancesAreApartAndCanBeTakenBack(t *testing.T) {
	t.Parallel()
	plain := t.Context()
	missing := ociregistry.AllowMissing(plain)
	inUse := ociregistry.AllowInUse(plain)
	both := ociregistry.AllowInUse(missing)
	tests := []struct {
		name           string
		ctx            context.Context
		missing, inUse bool
	}{
		{"plain", plain, false, false},
		{"missing", missing, true, false},
		{"in use", inUse, false, true},
		{"both", both, true, true},
		{"both, in the other order", ociregistry.AllowMissing(inUse), true, true},
		{"taken back", ociregistry.WithoutAllowances(both), false, false},
		{"allowed anew", ociregistry.AllowMissing(ociregistry.WithoutAllowances(both)), true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			qt.Check(t, qt.Equals(ociregistry.MissingAllowed(tt.ctx), tt.missing))
			qt.Check(t, qt.Equals(ociregistry.InUseAllowed(tt.ctx), tt.inUse))
		})
	}
	qt.Assert(t, qt.Equals(ociregistry.WithoutAllowances(plain), plain))
}

func TestReferrersAfter(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	qt.Check(t, qt.Equals(ociregistry.ReferrersAfter(ctx), ""))
	after := ociregistry.WithReferrersAfter(ctx, "sha256:12")
	qt.Check(t, qt.Equals(ociregistry.ReferrersAfter(after), "sha256:12"))
	qt.Check(t, qt.Equals(ociregistry.ReferrersAfter(ociregistry.WithReferrersAfter(after, "")), ""))
	qt.Check(t, qt.Equals(ociregistry.WithReferrersAfter(ctx, ""), ctx))
}

func TestInspection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	qt.Check(t, qt.IsFalse(ociregistry.IsInspection(ctx)))
	look := ociregistry.WithInspection(ctx)
	qt.Check(t, qt.IsTrue(ociregistry.IsInspection(look)))
	qt.Check(t, qt.Equals(ociregistry.WithInspection(look), look))
}
