package ociunify

import (
	"context"
	"fmt"
	"io"

	"github.com/seed-40b21970/oci/internal/stripes"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Options has the settings of a union. The zero value is ready to use.
type Options struct {
	// ReadPolicy says in which order the registries are asked for content.
	ReadPolicy ReadPolicy

	// WritePolicy says which registries are changed by a push or a delete.
	WritePolicy WritePolicy

	// Failover lets one registry answer a read when the other fails with any error
	// but that the content does not exist. Without it, that error is returned. Lists
	// do not fail over: half of the names would look like all of them.
	Failover bool
}

// ReadPolicy says in which order the registries are asked for content.
type ReadPolicy int

const (
	// ReadSequential asks r0, then r1 if r0 does not have the content.
	ReadSequential ReadPolicy = iota

	// ReadConcurrent asks both at once. For content by digest it takes the first
	// answer and cancels the other request. An error counts only when the other
	// registry has no answer either, as with Options.Failover. For a tag it waits
	// for the answer of r0, which takes precedence.
	ReadConcurrent
)

// WritePolicy says which registries are changed by a push or a delete.
type WritePolicy int

const (
	// WriteBoth changes both registries. A change succeeds when both have made it.
	// An error names the registry that failed. The change is not undone in the
	// other one.
	WriteBoth WritePolicy = iota

	// WriteFirst changes r0 only. Content of r1 stays visible; deleting it fails as
	// if it did not exist.
	WriteFirst
)

// New returns a registry with the content of r0 and r1. Nil opts mean the zero
// Options.
//
// Content does not exist if both registries say so. Where they differ, r0 takes
// precedence: a tag that both have points where it points in r0. Lists are merged
// while they are read, in byte order and without duplicates.
//
// Changes to both registries are made in r0 first, and not tried in r1 if r0
// refuses them. Only blobs go to both at once, in one pass and without being
// buffered. Both registries see concurrent changes of one tag, or of one upload,
// that are made through one union in the same order.
//
// An upload session consists of a session in each registry, and its ID contains
// both of theirs. The union itself has no state: a session can be resumed through
// another union of the same registries. When one registry missed bytes that the
// other has, the session continues where the one with fewer bytes is.
//
// Errors are those of r0 and r1. When both fail, and not with the same sentinel
// error, both errors are wrapped.
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

// closing is a reader that calls a function when it is closed.
type closing struct {
	ociregistry.BlobReader
	then func()
}

func (r *closing) Close() error {
	defer r.then()
	return r.BlobReader.Close()
}

// WriteTo implements [io.WriterTo]: the reader may have a fast one.
func (r *closing) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, r.BlobReader) }

// Verified implements [verified.Reader].
func (r *closing) Verified() verified.State { return verified.By(r.BlobReader) }

// onClose returns a reader that calls then when it is closed. It implements
// [io.Seeker] and [io.ReaderAt] if rd does.
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

// inRegistry adds to err, if there is one, in which of the two registries it
// happened.
func inRegistry(i int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("registry r%d: %w", i, err)
}
