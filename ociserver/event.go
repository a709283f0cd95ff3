package ociserver

import (
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Event says what a request has done. See [Options.OnEvent].
//
// A pull is a GET whose whole answer was sent: not a HEAD, and none that was
// answered by "not modified" or a redirect. A push is a blob or a manifest that
// is complete, not a chunk.
type Event struct {
	// Action is ActionPull, ActionPush, ActionMount or ActionDelete.
	Action Action

	Repository string

	// From is the repository that a mount was from, or empty for any.
	From string

	// Manifest says that the event is about a manifest or a tag, not a blob.
	Manifest bool

	// Tags are the tags that the request named, if any.
	Tags []string

	// Descriptor is that of the content. Of a delete it has nothing but the
	// digest, and not even that when a tag was deleted. Of a mount, the size
	// may be missing.
	Descriptor ociregistry.Descriptor

	// Bytes is how much content the request moved: of a pull by range, or a
	// push in chunks, not all of it.
	Bytes int64

	// Duration is the time from the request's arrival.
	Duration time.Duration
}

// emit completes an event and hands it on.
func (x *exchange) emit(e Event) {
	if x.opts.OnEvent == nil {
		return
	}
	e.Repository = x.Repo
	if x.Tag != "" {
		e.Tags = append(e.Tags, x.Tag)
	}
	e.Tags = append(e.Tags, x.Tags...)
	e.Duration = time.Since(x.start)
	x.opts.OnEvent(x.ctx(), e)
}
