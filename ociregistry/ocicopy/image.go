package ocicopy

import (
	"context"
	"errors"
)

// image brings a tag up to date. It resolves the tag once: the manifest that is
// admitted is the one that is copied, even if the tag moves meanwhile.
func (r *repository) image(ctx context.Context, about Event) ([]task, error) {
	desc, err := r.src.reg.ResolveTag(ctx, about.Repository, about.Tag)
	if absent(err) {
		return nil, nil // the tag was deleted after the tags were listed
	}
	if err != nil {
		return nil, err
	}
	from := Place{r.src.reg, about.Repository, string(desc.Digest)}
	opts := r.copyOptions()
	opts.inner.resolved = desc
	opts.inner.willRetry = about.Attempt < r.opts.Attempts
	opts.inner.admit = func(ctx context.Context) error {
		place := from
		place.Registry = r.src.Registry
		return r.admit(ctx, r.rule, Image{r.src.Name, place, about.Tag, desc}, from.Registry, r.hasTag)
	}
	about.Result, err = Copy(ctx, Place{r.dst, about.Destination, about.Tag}, from, opts)
	about.Outcome = Updated
	switch outcome := leftOut(err); {
	case outcome != "" && ctx.Err() == nil:
		about.Outcome, about.Err = outcome, err
	case err != nil:
		return nil, err
	case about.Result.Unchanged():
		about.Outcome = Same
	}
	r.report(ctx, &r.summary, about)
	return nil, nil
}

// leftOut returns the outcome of an image that was not admitted, or "" for other
// errors.
func leftOut(err error) Outcome {
	switch {
	case errors.Is(err, ErrUnsigned):
		return Unsigned
	case errors.Is(err, ErrRefused):
		return Refused
	}
	return ""
}

func (r *repository) hasTag(tag string) bool { return r.has[tag] }

func (r *repository) copyOptions() *Options {
	opts := r.opts.Copy
	opts.Referrers = !r.rule.rule.WithoutReferrers
	opts.CosignTags = opts.Referrers
	opts.SkipBrokenReferrers = r.rule.rule.SkipBrokenReferrers
	opts.Platforms, opts.DropOthers = r.rule.platforms, r.rule.rule.DropOthers
	opts.inner = inner{hasTag: r.hasTag, shared: r.shared, sharer: r.src, confirmed: &r.confirmed}
	if r.rule.rule.OnlySigned && opts.SkipBrokenReferrers && opts.Referrers && opts.ReferrerTypes == nil {
		opts.inner.signatures = signatureTypes(r.rule.rule.SignatureTypes)
	}
	return &opts
}
