package ociserver

import (
	"net/http"

	"github.com/seed-40b21970/oci/ociregistry"
)

func (x *exchange) deleteBlob() error {
	if x.conditional() {
		if _, err := x.backend.ResolveBlob(x.ctx(), x.Repository, x.Digest); err != nil {
			return err
		}
		if err := x.condition().Check(x.Digest); err != nil {
			return err
		}
	}
	if err := x.backend.DeleteBlob(x.ctx(), x.Repository, x.Digest); err != nil {
		return err
	}
	return x.answerDeleted(Event{Descriptor: ociregistry.Descriptor{Digest: x.Digest}})
}

// deleteManifest deletes a manifest or a tag. Unlike a push, it checks the
// preconditions in a separate step before.
func (x *exchange) deleteManifest() error {
	if x.conditional() {
		desc, err := x.resolveManifest()
		if err != nil {
			return err
		}
		if err := x.condition().Check(desc.Digest); err != nil {
			return err
		}
	}
	var err error
	if x.Tag != "" {
		err = x.backend.DeleteTag(x.ctx(), x.Repository, x.Tag)
	} else {
		err = x.backend.DeleteManifest(x.ctx(), x.Repository, x.Digest)
	}
	if err != nil {
		return err
	}
	return x.answerDeleted(Event{Descriptor: ociregistry.Descriptor{Digest: x.Digest}})
}

// answerDeleted answers a request that deleted something.
func (x *exchange) answerDeleted(e Event) error {
	e.Action = ActionDelete
	x.emit(e)
	x.writeHeader(http.StatusAccepted)
	return nil
}
