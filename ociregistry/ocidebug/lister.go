package ocidebug

import (
	"context"
	"iter"
	"log/slog"

	"github.com/seed-40b21970/oci/ociregistry"
)

func (r *registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return logged(ctx, r, "Repositories", r.r.Repositories(ctx, startAfter), slog.String("startAfter", startAfter))
}

func (r *registry) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	return logged(ctx, r, "Tags", r.r.Tags(ctx, repo, startAfter), slog.String("repository", repo), slog.String("startAfter", startAfter))
}

func (r *registry) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return logged(ctx, r, "Referrers", r.r.Referrers(ctx, repo, digest, artifactType),
		slog.String("repository", repo), slog.String("digest", string(digest)), slog.String("artifactType", artifactType))
}

// logged returns seq, and writes a record of each loop over it. The record has "stopped" if
// the loop ended before the sequence.
func logged[T any](ctx context.Context, r *registry, op string, seq iter.Seq2[T, error], attrs ...slog.Attr) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		c := r.begin(ctx, attrs...)
		count, stopped := 0, false
		var failed error
		defer func() { // also when the loop's body panics
			results := []slog.Attr{slog.Int("count", count)}
			if stopped && failed == nil {
				results = append(results, slog.Bool("stopped", true))
			}
			c.end(op, failed, results...)
		}()
		for x, err := range seq {
			if err != nil {
				failed = err
			} else {
				count++
			}
			stopped = true
			if !yield(x, err) {
				return
			}
			stopped = false
		}
	}
}
