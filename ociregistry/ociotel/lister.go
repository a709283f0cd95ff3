package ociotel

import (
	"context"
	"iter"

	"go.opentelemetry.io/otel/attribute"

	"github.com/seed-40b21970/oci/ociregistry"
)

func (r *registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return list(func() *call { return r.begin(ctx, prefix+"Repositories", "") }, func(ctx context.Context) iter.Seq2[string, error] {
		return r.r.Repositories(ctx, startAfter)
	})
}

func (r *registry) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	return list(func() *call { return r.begin(ctx, prefix+"Tags", repo) }, func(ctx context.Context) iter.Seq2[string, error] {
		return r.r.Tags(ctx, repo, startAfter)
	})
}

func (r *registry) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	begin := func() *call {
		c := r.begin(ctx, prefix+"Referrers", repo)
		c.manifest(digest)
		if artifactType != "" && c.span.IsRecording() {
			c.span.SetAttributes(attribute.String("oci.artifact.type", artifactType))
		}
		return c
	}
	return list(begin, func(ctx context.Context) iter.Seq2[ociregistry.Descriptor, error] {
		return r.r.Referrers(ctx, repo, digest, artifactType)
	})
}

// list returns a sequence of which each loop is a call.
func list[T any](begin func() *call, elements func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		c, count := begin(), 0
		var failed error
		inside := true // the registry is running, and not the loop's body
		defer func() { // also when either panics
			if inside {
				failed = errPanic
			}
			if c.span.IsRecording() {
				c.span.SetAttributes(attribute.Int("oci.list.length", count))
			}
			c.end(failed)
		}()
		for x, err := range elements(c.ctx) {
			inside = false
			if err != nil {
				failed = err
			} else {
				count++
			}
			if !yield(x, err) {
				return
			}
			inside = true
		}
		inside = false
	}
}
