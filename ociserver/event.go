package ociserver

import (
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Event describes what a request has done. See [Options.OnEvent].
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
	// is empty if a tag was deleted. For a mount, the size may be missing.
	Descriptor ociregistry.Descriptor

	// Bytes is the number of bytes of content that the request itself moved: a part
	// of the content for a pull of a range or the last request of a push in chunks.
	Bytes int64

	// Duration is the time since the request arrived.
	Duration time.Duration
}

// emit completes an event and calls Options.OnEvent.
func (x *exchange) emit(e Event) {
	if x.opts.OnEvent == nil {
		return
	}
	e.Repository = x.Repository
	if x.Tag != "" {
		e.Tags = append(e.Tags, x.Tag)
	}
	e.Tags = append(e.Tags, x.Tags...)
	e.Duration = time.Since(x.start)
	x.opts.OnEvent(x.ctx(), e)
}
