package ociunify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// PushBlob implements [ociregistry.Writer.PushBlob]. It reads the content once, as fast
// as the slower registry accepts it. When one registry fails, the push to the other is
// ended too.
func (u *union) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	at := call.New("PushBlob", repo, string(desc.Digest))
	if err := at.CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if desc.Size < 0 {
		return ociregistry.Descriptor{}, at.Wrap(fmt.Errorf("%w: negative size", ociregistry.ErrSizeInvalid))
	}
	if u.opts.WritePolicy == WriteFirst {
		return u.r[0].PushBlob(ctx, repo, desc, r)
	}
	if err := u.pushBoth(ctx, repo, desc, r); err != nil {
		return ociregistry.Descriptor{}, at.Wrap(err)
	}
	return desc, nil
}

func (u *union) pushBoth(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) error {
	caller := ctx
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	var readers [2]*io.PipeReader
	var pipes [2]*io.PipeWriter
	for i := range pipes {
		readers[i], pipes[i] = io.Pipe()
	}
	var errs [2]error
	var first error // the error because of which the push to the other registry was ended
	var once sync.Once
	var pushing sync.WaitGroup
	for i := range pipes {
		pushing.Go(func() {
			_, err := u.r[i].PushBlob(ctx, repo, desc, readers[i])
			if errs[i] = err; err != nil {
				once.Do(func() {
					first = inRegistry(i, err)
					pipes[1-i].CloseWithError(errOtherFailed)
				})
			}
			readers[i].CloseWithError(errPushed)
		})
	}
	readErr := fanOut(ctx, r, pipes[:])
	if readErr != nil {
		cancel()
	}
	for _, pw := range pipes {
		pw.CloseWithError(readErr) // nil is the end
	}
	pushing.Wait()
	brokenOff := func(err error) bool {
		return errors.Is(err, errOtherFailed) || errors.Is(err, context.Canceled) && caller.Err() == nil
	}
	switch {
	case first == nil:
		return nil
	case readErr != nil && !errors.Is(readErr, errPushed):
		return readErr
	case errs[0] != nil && errs[1] != nil && !brokenOff(errs[0]) && !brokenOff(errs[1]):
		return both(errs[0], errs[1])
	}
	return first
}

var (
	errOtherFailed = errors.New("the other registry has failed")
	errPushed      = errors.New("the registry needs no more content")
)

// fanOut copies r to all pipes, until all of them are closed. A pipe whose reader was
// closed with errPushed needs no more content.
func fanOut(ctx context.Context, r io.Reader, pipes []*io.PipeWriter) error {
	buf := make([]byte, 32<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if !writeAll(buf[:n], pipes) {
				return errPushed
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeAll writes p to all pipes at once, and reports whether one has accepted it.
func writeAll(p []byte, pipes []*io.PipeWriter) bool {
	var other error
	var writing sync.WaitGroup
	writing.Go(func() { _, other = pipes[1].Write(p) })
	_, err := pipes[0].Write(p)
	writing.Wait()
	return err == nil || other == nil
}

// MountBlob implements [ociregistry.Writer.MountBlob]. If only one registry can mount
// the blob, it copies the blob to the other.
func (u *union) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := call.New("MountBlob", toRepo, string(digest))
	if fromRepo != "" {
		if err := call.New("MountBlob", fromRepo, string(digest)).CheckRepository(); err != nil {
			return ociregistry.Descriptor{}, err
		}
	}
	if err := at.CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err0 := u.r[0].MountBlob(ctx, fromRepo, toRepo, digest)
	if u.opts.WritePolicy == WriteFirst || err0 != nil && !notFound(err0) {
		return desc, err0
	}
	desc1, err1 := u.r[1].MountBlob(ctx, fromRepo, toRepo, digest)
	switch {
	case err0 == nil && err1 == nil:
		return desc, nil
	case err0 != nil && err1 != nil:
		return ociregistry.Descriptor{}, neither(err0, err1)
	case err0 != nil:
		return desc1, u.copyBlob(ctx, 0, at)
	case notFound(err1):
		return desc, u.copyBlob(ctx, 1, at)
	}
	return ociregistry.Descriptor{}, at.Wrap(inRegistry(1, err1))
}

// copyBlob copies a blob to one registry from the other one.
func (u *union) copyBlob(ctx context.Context, to int, at call.Call) error {
	rd, err := u.r[1-to].GetBlob(ctx, at.Repository, ociregistry.Digest(at.Ref))
	if err != nil {
		return at.Wrap(inRegistry(1-to, err))
	}
	defer rd.Close()
	if _, err := u.r[to].PushBlob(ctx, at.Repository, rd.Descriptor(), rd); err != nil {
		return at.Wrap(inRegistry(to, err))
	}
	return nil
}

// PushManifest implements [ociregistry.Writer.PushManifest]. It checks an
// [ociregistry.PushCondition] against the content of the union.
func (u *union) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	at := call.New("PushManifest", repo, ref)
	if err := at.CheckPush(tags); err != nil {
		return ociregistry.Descriptor{}, err
	}
	unlock, err := u.locks.Lock(ctx, pushKeys(repo, ref, tags)...)
	if err != nil {
		return ociregistry.Descriptor{}, at.Wrap(err)
	}
	defer unlock()
	conditional, err := u.condition(ctx, repo, ref, contents)
	if err != nil {
		return ociregistry.Descriptor{}, at.Wrap(err)
	}
	desc, err := u.r[0].PushManifest(conditional, repo, ref, contents, mediaType, tags...)
	if err != nil || u.opts.WritePolicy == WriteFirst {
		return desc, err
	}
	_, err = u.r[1].PushManifest(unconditional(ctx), repo, ref, contents, mediaType, tags...)
	if err != nil {
		return ociregistry.Descriptor{}, at.Wrap(inRegistry(1, err))
	}
	return desc, nil
}

func pushKeys(repo, ref string, tags []string) []string {
	keys := []string{repo + ":" + ref}
	for _, tag := range tags {
		keys = append(keys, repo+":"+tag)
	}
	return keys
}

// condition returns a context for a push to r0 with the condition of the caller. If r0
// has nothing for ref, it checks the condition against r1, and returns a context with
// the condition that r0 still has nothing.
func (u *union) condition(ctx context.Context, repo, ref string, contents []byte) (context.Context, error) {
	c := ociregistry.PushConditionFrom(ctx)
	if c.IfMatch == nil && c.IfNoneMatch == nil {
		return ctx, nil
	}
	if _, err := resolveRef(ctx, u.r[0], repo, ref, contents); !notFound(err) {
		return ctx, err
	}
	current, err := resolveRef(ctx, u.r[1], repo, ref, contents)
	if err != nil && !notFound(err) {
		return nil, inRegistry(1, err)
	}
	if err := c.Check(current); err != nil {
		return nil, err
	}
	absent := ociregistry.PushCondition{IfNoneMatch: []ociregistry.Digest{ociregistry.AnyManifest}}
	return ociregistry.WithPushCondition(ctx, absent), nil
}

// resolveRef returns the digest that ref resolves to in r. An empty ref means the
// manifest itself.
func resolveRef(ctx context.Context, r ociregistry.Interface, repo, ref string, contents []byte) (ociregistry.Digest, error) {
	if call.IsTag(ref) {
		desc, err := r.ResolveTag(ctx, repo, ref)
		return desc.Digest, err
	}
	if ref == "" {
		ref = string(digest.FromBytes(contents))
	}
	desc, err := r.ResolveManifest(ctx, repo, ociregistry.Digest(ref))
	return desc.Digest, err
}

// unconditional returns ctx without the condition of the caller.
func unconditional(ctx context.Context) context.Context {
	if c := ociregistry.PushConditionFrom(ctx); c.IfMatch == nil && c.IfNoneMatch == nil {
		return ctx
	}
	return ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{})
}
