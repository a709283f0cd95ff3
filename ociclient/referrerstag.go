package ociclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Without the referrers API, clients keep a list of the referrers of a manifest under a
// tag that is derived from its digest (specification, section "Referrers Tag Schema").

// A referrersTag is the tag of such a list.
type referrersTag struct{ repo, tag string }

func referrersTagOf(repo string, subject ociregistry.Digest) (referrersTag, error) {
	tag, err := ociref.ReferrersTag(subject)
	return referrersTag{repo, tag}, err
}

// A referrersChange adds a referrer to a list or removes it.
type referrersChange struct {
	desc   ociregistry.Descriptor
	remove bool
}

// A referrersQueue has the changes to one list. One batch is written at a time; changes
// that come meanwhile gather in the next.
type referrersQueue struct {
	busy bool
	next *referrersBatch // nil if there is none
}

// A referrersBatch has changes that are written together. One of the callers that wait
// for the batch gets its turn, and writes it.
type referrersBatch struct {
	changes []referrersChange
	turn    chan struct{}
	done    chan struct{} // closed when err is set
	err     error
}

// A taggedIndex is a list in the state that the registry has.
type taggedIndex struct {
	ocispec.Index
	digest ociregistry.Digest // empty if there is none
	etag   string
}

// referrersByTag reads the list of referrers of a manifest. It is empty if the tag does
// not exist.
func (c *client) referrersByTag(ctx context.Context, repo string, subject ociregistry.Digest) (taggedIndex, error) {
	t, err := referrersTagOf(repo, subject)
	if err != nil {
		return taggedIndex{}, err
	}
	return c.readReferrersTag(ctx, t)
}

func (c *client) readReferrersTag(ctx context.Context, t referrersTag) (taggedIndex, error) {
	m, err := c.fetchManifest(ctx, wire.Request{Repository: t.repo, Tag: t.tag, ListN: -1})
	if statusOf(err) == http.StatusNotFound {
		return taggedIndex{}, nil
	}
	if err != nil {
		return taggedIndex{}, fmt.Errorf("the list of referrers at tag %s: %w", t.tag, err)
	}
	index, err := parseIndex(m.data)
	if err != nil {
		return taggedIndex{}, fmt.Errorf("the list of referrers at tag %s: %w", t.tag, err)
	}
	return taggedIndex{index, m.desc.Digest, m.etag}, nil
}

// noteSubject adds a manifest that was pushed to the list of its subject, if it has one
// and the registry does not do that itself.
func (c *client) noteSubject(ctx context.Context, repo string, desc ociregistry.Descriptor, contents []byte, resp *http.Response) error {
	if resp.Header.Get("OCI-Subject") != "" {
		c.noteReferrersSupport(true)
		if c.opts.Referrers != ReferrersTag {
			return nil
		}
	}
	if c.opts.Referrers == ReferrersAPI || !manifest.MayHaveSubject(contents) {
		return nil
	}
	info, err := manifest.Parse(desc.MediaType, string(contents))
	if err != nil || info.Subject == "" {
		return nil // the registry accepted it, so it has no subject that we know
	}
	desc.ArtifactType, desc.Annotations = info.ArtifactType, info.Annotations
	t, err := referrersTagOf(repo, info.Subject)
	if err != nil {
		return err
	}
	return c.changeReferrers(ctx, t, referrersChange{desc: desc})
}

// deleteManifest deletes a manifest, after it has removed it from the list of its subject
// if the registry does not do that itself.
func (c *client) deleteManifest(ctx context.Context, r wire.Request) error {
	t, listed := c.listedIn(ctx, r)
	if !listed {
		return c.delete(ctx, r)
	}
	if err := c.changeReferrers(ctx, t, referrersChange{ociregistry.Descriptor{Digest: r.Digest}, true}); err != nil {
		return err
	}
	return c.delete(ctx, r)
}

// listedIn returns the tag of the list that a manifest may be in. That depends on the
// manifest's content, unless the registry has the API, which costs one request to find
// out, but only once.
func (c *client) listedIn(ctx context.Context, r wire.Request) (t referrersTag, ok bool) {
	supported, known := c.referrersSupport()
	if !known {
		list := wire.Request{Kind: wire.Referrers, Repository: r.Repository, Digest: r.Digest, ListN: -1}
		for range c.referrersPages(ctx, list) {
			break
		}
		supported, _ = c.referrersSupport()
	}
	if supported {
		return t, false
	}
	m, err := c.fetchManifest(ctx, wire.Request{Repository: r.Repository, Digest: r.Digest, ListN: -1})
	if err != nil || !manifest.MayHaveSubject(m.data) {
		return t, false
	}
	info, err := manifest.Parse(m.desc.MediaType, string(m.data))
	if err != nil || info.Subject == "" {
		return t, false
	}
	t, err = referrersTagOf(r.Repository, info.Subject)
	return t, err == nil
}

// changeReferrers changes a list. Changes that come while the list is being written are
// written together afterwards.
func (c *client) changeReferrers(ctx context.Context, t referrersTag, change referrersChange) error {
	for {
		batch := c.referrers.enqueue(t, change)
		select {
		case <-batch.turn:
			c.referrers.closeBatch(t)
			batch.err = c.makeChanges(ctx, t, batch.changes)
			close(batch.done)
			c.referrers.passTurn(t)
			return batch.err
		case <-batch.done:
			// The caller that wrote the batch may have been cancelled; then try again.
			if batch.err == nil || ctx.Err() != nil || !errors.Is(batch.err, context.Canceled) && !errors.Is(batch.err, context.DeadlineExceeded) {
				return batch.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enqueue adds a change to the next batch.
func (s *referrersState) enqueue(t referrersTag, change referrersChange) *referrersBatch {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[t]
	if q == nil {
		if s.queues == nil {
			s.queues = make(map[referrersTag]*referrersQueue)
		}
		q = new(referrersQueue)
		s.queues[t] = q
	}
	if q.next == nil {
		q.next = &referrersBatch{turn: make(chan struct{}, 1), done: make(chan struct{})}
	}
	q.next.changes = append(q.next.changes, change)
	if !q.busy {
		q.busy = true
		q.next.turn <- struct{}{}
	}
	return q.next
}

// closeBatch closes the next batch to further changes.
func (s *referrersState) closeBatch(t referrersTag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[t].next = nil
}

// passTurn gives the turn to the next batch, if there is one.
func (s *referrersState) passTurn(t referrersTag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next := s.queues[t].next; next != nil {
		next.turn <- struct{}{}
		return
	}
	delete(s.queues, t)
}

// makeChanges reads a list, changes it, and writes it. It starts over if another client
// has written the list meanwhile.
func (c *client) makeChanges(ctx context.Context, t referrersTag, changes []referrersChange) error {
	r := c.newRetrier()
	for {
		index, err := c.readReferrersTag(ctx, t)
		if err != nil {
			return err
		}
		if !index.apply(changes) {
			return nil
		}
		err = c.writeReferrersTag(ctx, t, index)
		if err == nil {
			return nil
		}
		if statusOf(err) != http.StatusPreconditionFailed || r.exhausted() {
			return fmt.Errorf("the list of referrers at tag %s: %w", t.tag, err)
		}
	}
}

// apply applies changes, and reports whether the list has changed.
func (index *taggedIndex) apply(changes []referrersChange) bool {
	list := slices.Clone(index.Manifests)
	for _, change := range changes {
		is := func(d ociregistry.Descriptor) bool { return d.Digest == change.desc.Digest }
		switch at := slices.IndexFunc(list, is); {
		case change.remove:
			list = slices.DeleteFunc(list, is)
		case at < 0:
			list = append(list, change.desc)
		}
	}
	if len(list) == len(index.Manifests) && slices.EqualFunc(list, index.Manifests, func(a, b ociregistry.Descriptor) bool { return a.Digest == b.Digest }) {
		return false
	}
	index.Manifests = list
	return true
}

// writeReferrersTag writes a list, on the condition that it has not changed, if the
// registry supports conditions.
func (c *client) writeReferrersTag(ctx context.Context, t referrersTag, index taggedIndex) error {
	index.Versioned = specs.Versioned{SchemaVersion: 2}
	index.MediaType = ocispec.MediaTypeImageIndex
	if index.Manifests == nil {
		index.Manifests = []ociregistry.Descriptor{} // in JSON [], not null
	}
	contents, err := json.Marshal(index.Index)
	if err != nil {
		return err
	}
	desc := ociregistry.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(contents), Size: int64(len(contents))}
	r := wire.Request{Kind: wire.ManifestPut, Repository: t.repo, Tag: t.tag, ListN: -1}
	cl := c.newManifestPut(r, desc, contents)
	switch {
	case index.etag != "" && !strings.HasPrefix(index.etag, "W/"): // a weak entity tag matches nothing
		cl.set("If-Match", index.etag)
	case index.digest == "":
		cl.set("If-None-Match", "*")
	}
	if _, err := c.putManifest(ctx, cl, r, desc); err != nil {
		return err
	}
	// The old list has no tag any longer, but still names manifests, which may keep them
	// from being deleted. It does not matter if this fails.
	if index.digest != "" && index.digest != desc.Digest {
		c.delete(ctx, wire.Request{Kind: wire.ManifestDelete, Repository: t.repo, Digest: index.digest, ListN: -1})
	}
	return nil
}
