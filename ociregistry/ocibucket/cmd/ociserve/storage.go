package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/serve"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// bucket is the storage that the program has besides that of its namesake.
func bucket() serve.Storage {
	var redirect time.Duration
	return serve.Storage{
		Flag:  "bucket",
		Usage: "serve the bucket at `url`, such as s3://name/prefix?region=eu-west-1 or azure://container",
		Define: func(flags *flag.FlagSet) {
			flags.DurationVar(&redirect, "redirect", 0, "send clients to the bucket for all but small blobs, by URLs that are valid for the `duration`; 0 means never")
		},
		Open: func(ctx context.Context, value string, s serve.Settings) (*serve.Opened, error) {
			store, prefix, err := openStore(ctx, value)
			if err != nil {
				return nil, err
			}
			r, err := ocibucket.New(ctx, store, &ocibucket.Options{
				Prefix:        prefix,
				ReadOnly:      s.ReadOnly,
				ImmutableTags: s.ImmutableTags,
				Sparse:        s.Sparse,
				MaxUploads:    s.MaxUploads,
				Logger:        s.Logger,
			})
			if err != nil {
				return nil, err
			}
			opened := &serve.Opened{Registry: r, Verify: verify(r)}
			if redirect > 0 {
				if err := tryRedirect(ctx, r, store, redirect); err != nil {
					r.Close()
					return nil, fmt.Errorf("-redirect: %w", err)
				}
				opened.Redirect = redirectTo(r, redirect)
			}
			return opened, nil
		},
	}
}

// verify returns what finds the problems of a registry.
func verify(r *ocibucket.Registry) func(context.Context) iter.Seq2[fmt.Stringer, error] {
	return func(ctx context.Context) iter.Seq2[fmt.Stringer, error] {
		return func(yield func(fmt.Stringer, error) bool) {
			for p, err := range r.Verify(ctx) {
				if !yield(p, err) {
					return
				}
			}
		}
	}
}

// tryRedirect finds out whether URLs can be signed that are valid for some time, before a client needs one.
func tryRedirect(ctx context.Context, r *ocibucket.Registry, store objstore.Store, valid time.Duration) error {
	const nothing = "nothing" // neither an object nor a repository need be there
	_, err := objstore.Retry(store, nil).Presign(ctx, nothing, objstore.PresignOptions{Expires: valid})
	if err != nil {
		return err
	}
	_, err = r.BlobURL(ctx, nothing, digest.FromString(nothing), valid)
	if errors.Is(err, ociregistry.ErrBlobUnknown) || errors.Is(err, ociregistry.ErrNameUnknown) {
		return nil
	}
	return err
}

// redirectTo returns a hook that sends clients to URLs which are valid for some time.
func redirectTo(r *ocibucket.Registry, valid time.Duration) func(context.Context, string, ociregistry.Digest) (string, time.Time, error) {
	return func(ctx context.Context, repo string, digest ociregistry.Digest) (string, time.Time, error) {
		expires := time.Now().Add(valid) // not after the URL expires
		url, err := r.BlobURL(ctx, repo, digest, valid)
		return url, expires, err
	}
}
