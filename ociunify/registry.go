package ociunify

import (
	"context"
	"fmt"
	"io"

	"github.com/seed-40b21970/oci/internal/stripes"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Options has the settings of a union. Its zero value is a good one.
type Options struct {
	// ReadPolicy says how content is looked for.
	ReadPolicy ReadPolicy

	// WritePolicy says where content is pushed to and deleted from.
	WritePolicy WritePolicy

	// Failover lets one registry answer a read when the other fails with an
	// error that does not say that there is no such content. Without it, the
	// error is reported. Lists do not fail over: part of a list is none.
	Failover bool
}

// ReadPolicy says how content is looked for.
type ReadPolicy int

const (
	// ReadSequential asks r0, and r1 if r0 does not have it.
	ReadSequential ReadPolicy = iota

	// ReadConcurrent asks both at once. Of content by digest, the first answer
	// is taken, and the other registry's is cancelled; an error counts only
	// when the other has no answer, as with Options.Failover. Of a tag, the
	// answer of r0 is waited for, since it is the one that counts.
	ReadConcurrent
)

// WritePolicy says where content is pushed to and deleted from.
type WritePolicy int

const (
	// WriteBoth changes both registries. A change has succeeded when it has in
	// both; an error says in which of them it failed, and what the other did
	// stays done.
	WriteBoth WritePolicy = iota

	// WriteFirst changes r0 alone. What r1 has stays visible: deleting it is
	// reported as if it were not there.
	WriteFirst
)

// New returns a registry with the content of r0 and r1. A nil opts is the zero
// Options.
//
// Something does not exist if both registries say so. Where they differ, r0 is
// right: a tag that both have is what it is in r0, in reads as in lists. Lists
// are merged as they are read, in byte order and without duplicates.
//
// Changes to both registries are made in r0 first, unless they move much data;
// what r0 refuses, r1 is not asked for. Blobs go to both at once, in one pass
// and without being buffered. Of concurrent changes through one union, both
// registries see those of one tag or of one upload in the same order.
//
// Upload sessions are sessions in both registries, named by both ids: the union
// itself holds no state, so that they can be resumed through another union of
// the same two. When one registry missed bytes that the other has, the session
// is where the one with fewer is.
//
// Errors are those of r0 and r1. When both fail and not with the same sentinel,
// both errors are wrapped.
func New(r0, r1 ociregistry.Interface, opts *Options) ociregistry.Interface {
	u := &union{r: [2]ociregistry.Interface{r0, r1}, locks: stripes.New()}
	if opts != nil {
		u.opts = *opts
	}
	return u
}

type union struct {
	*ociregistry.Funcs
	r     [2]ociregistry.Interface
	opts  Options
	locks *stripes.Locks
}

// target says what a call is about: for its checks and its errors.
type target struct{ op, repo, ref string }

func (t target) fail(err error) error {
	return &ociregistry.OpError{Op: t.op, Repo: t.repo, Ref: t.ref, Err: err}
}

func (t target) checkRepo() error {
	if err := ociregistry.CheckRepository(t.repo); err != nil {
		return t.fail(err)
	}
	return nil
}

// checkDigest checks the repository and the ref, which is to be a digest.
func (t target) checkDigest() error {
	if err := ociregistry.CheckRepositoryAndDigest(t.repo, ociregistry.Digest(t.ref)); err != nil {
		return t.fail(err)
	}
	return nil
}

// checkTag checks the repository and the ref, which is a tag to be looked up.
func (t target) checkTag() error {
	if err := t.checkRepo(); err != nil {
		return err
	}
	if !ociref.IsValidTag(t.ref) {
		return t.fail(ociregistry.ErrManifestUnknown)
	}
	return nil
}

// closing is a reader with something to do when it is closed.
type closing struct {
	ociregistry.BlobReader
	then func()
}

func (r *closing) Close() error {
	defer r.then()
	return r.BlobReader.Close()
}

// WriteTo implements [io.WriterTo], since the reader may have a good one.
func (r *closing) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, r.BlobReader) }

// Verified implements [verified.Reader].
func (r *closing) Verified() verified.State { return verified.By(r.BlobReader) }

// onClose returns a reader that calls then after it was closed. It has the same
// of [io.Seeker] and [io.ReaderAt] as rd has.
func onClose(rd ociregistry.BlobReader, then context.CancelFunc) ociregistry.BlobReader {
	c := &closing{rd, then}
	seeker, canSeek := rd.(io.Seeker)
	at, canReadAt := rd.(io.ReaderAt)
	switch {
	case canSeek && canReadAt:
		return struct {
			*closing
			io.Seeker
			io.ReaderAt
		}{c, seeker, at}
	case canSeek:
		return struct {
			*closing
			io.Seeker
		}{c, seeker}
	case canReadAt:
		return struct {
			*closing
			io.ReaderAt
		}{c, at}
	}
	return c
}

// inRegistry makes an error tell in which of the two registries it happened.
func inRegistry(i int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("registry r%d: %w", i, err)
}
