package ociserver

import (
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Event describes what a request has done, or what it was to do when it failed. See
// [Options.OnEvent] and [Options.OnFailure].
//
// A pull is a GET whose whole answer was sent. A HEAD is no pull, nor is a request that
// was answered with "not modified" or a redirect. A push is a complete blob or manifest,
// not a chunk.
type Event struct {
	// Action is ActionPull, ActionPush, ActionMount or ActionDelete.
	Action Action

	// Repository is the repository that was read or changed.
	Repository string

	// From is the source repository of a mount, or empty for any.
	From string

	// Manifest reports whether the event is about a manifest or a tag rather than a
	// blob.
	Manifest bool

	// Tags are the tags that the request named, if any.
	Tags []string

	// Descriptor describes the content. For a delete it has only the digest, and it
	// is empty if a tag was deleted. For a mount, the size may be missing. For a
	// failure it has only the digest in the request, if there is one, unless content
	// was being sent.
	Descriptor ociregistry.Descriptor

	// Bytes is the number of bytes of content that the request itself moved: a part
	// of the content for a pull of a range or the last request of a push in chunks.
	// For a failure, these are the bytes until then: of an answer, what was handed to
	// the connection.
	Bytes int64

	// Duration is the time since the request arrived.
	Duration time.Duration
}

// emit completes an event and calls Options.OnEvent.
func (x *exchange) emit(e Event) {
	x.told = true
	if x.opts.OnEvent == nil {
		return
	}
	x.complete(&e)
	x.opts.OnEvent(x.ctx(), e)
}

// failed calls Options.OnFailure with err for a request that would have been an event, or is
// a step of one, unless its event has been told.
func (x *exchange) failed(err error) {
	e := Event{Descriptor: ociregistry.Descriptor{Digest: x.Digest}}
	switch x.Kind {
	case wire.BlobGet, wire.ManifestGet:
		e.Action = ActionPull
	case wire.BlobPost, wire.UploadStart, wire.UploadChunk, wire.UploadFinish, wire.ManifestPut:
		e.Action = ActionPush
	case wire.BlobMount:
		e.Action, e.From = ActionMount, x.FromRepository
	case wire.BlobDelete, wire.ManifestDelete:
		e.Action = ActionDelete
	default:
		return
	}
	if x.body != nil {
		e.Bytes = x.body.n
	}
	x.emitFailure(e, err)
}

// emitFailure completes an event and calls Options.OnFailure, unless the request's event has
// been told.
func (x *exchange) emitFailure(e Event, err error) {
	told := x.told
	x.told = true // even if the hook panics
	if told || x.opts.OnFailure == nil {
		return
	}
	x.complete(&e)
	x.opts.OnFailure(x.ctx(), e, err)
}

// complete sets what an event has from its request.
func (x *exchange) complete(e *Event) {
	switch x.Kind {
	case wire.ManifestGet, wire.ManifestPut, wire.ManifestDelete:
		e.Manifest = true
	}
	e.Repository = x.Repository
	if x.Tag != "" {
		e.Tags = append(e.Tags, x.Tag)
	}
	e.Tags = append(e.Tags, x.Tags...)
	e.Duration = time.Since(x.start)
}
