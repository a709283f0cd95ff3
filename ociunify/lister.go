package ociunify

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Repositories implements [ociregistry.Lister.Repositories].
func (u *union) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return merge(u.r[0].Repositories(ctx, startAfter), u.r[1].Repositories(ctx, startAfter), strings.Compare)
}

// Tags implements [ociregistry.Lister.Tags].
func (u *union) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	if err := call.New("Tags", repo, "").CheckRepository(); err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	return merge(u.r[0].Tags(ctx, repo, startAfter), u.r[1].Tags(ctx, repo, startAfter), strings.Compare)
}

// Referrers implements [ociregistry.Lister.Referrers].
func (u *union) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	if err := call.New("Referrers", repo, string(digest)).CheckDigest(); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	return merge(u.r[0].Referrers(ctx, repo, digest, artifactType), u.r[1].Referrers(ctx, repo, digest, artifactType),
		byDescriptor)
}

// merge returns the elements of two sequences in order, and reads each sequence at most
// one element ahead. Of two equal elements it returns that of the first sequence. It is
// not an error if one of the registries does not know the repository.
func merge[T any](seq0, seq1 iter.Seq2[T, error], compare func(a, b T) int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		h0, h1 := newHead(seq0), newHead(seq1)
		defer h0.stop()
		defer h1.stop()
		if err := headsError(h0.err, h1.err); err != nil {
			var zero T
			yield(zero, err)
			return
		}
		for h0.ok || h1.ok {
			from := order(h0, h1, compare)
			if !yield(from[0].x, nil) {
				return
			}
			for _, h := range from {
				h.next()
				if h.err != nil {
					var zero T
					yield(zero, h.err)
					return
				}
			}
		}
	}
}

// order returns the lesser of two heads, or both if they are equal.
func order[T any](h0, h1 *head[T], compare func(a, b T) int) []*head[T] {
	if !h1.ok {
		return []*head[T]{h0}
	}
	if !h0.ok {
		return []*head[T]{h1}
	}
	switch c := compare(h0.x, h1.x); {
	case c < 0:
		return []*head[T]{h0}
	case c > 0:
		return []*head[T]{h1}
	}
	return []*head[T]{h0, h1}
}

// headsError returns the error of a merged list whose sequences begin with these errors.
func headsError(err0, err1 error) error {
	unknown0, unknown1 := errors.Is(err0, ociregistry.ErrNameUnknown), errors.Is(err1, ociregistry.ErrNameUnknown)
	switch {
	case unknown0 && unknown1, err0 != nil && !unknown0:
		return err0
	case err1 != nil && !unknown1:
		return err1
	}
	return nil
}

// head is a sequence and its next element.
type head[T any] struct {
	pull func() (T, error, bool)
	stop func()
	x    T
	ok   bool // x is an element
	err  error
}

func newHead[T any](seq iter.Seq2[T, error]) *head[T] {
	h := new(head[T])
	h.pull, h.stop = iter.Pull2(seq)
	h.next()
	return h
}

func (h *head[T]) next() {
	h.x, h.err, h.ok = h.pull()
	h.ok = h.ok && h.err == nil
}
