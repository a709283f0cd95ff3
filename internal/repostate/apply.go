package repostate

import "github.com/seed-40b21970/oci/internal/manifest"

// ApplyRecord applies the operations of a journal's record, whose payload [AppendOps] wrote.
// If it is malformed, it changes nothing and returns [ErrMalformed].
func (s *State) ApplyRecord(payload string) error {
	ops, err := ParseOps(payload)
	if err != nil {
		return err
	}
	for i := range ops {
		s.Apply(&ops[i])
	}
	return nil
}

// Apply makes the change of an operation that was checked. It can be applied
// again to a state that has it already, or has what came after it.
func (s *State) Apply(o *Op) {
	if o.Kind == Announce {
		s.announce(o.Digest)
		return
	}
	clear(s.announced)
	delete(s.stored, o.Digest)
	switch o.Kind {
	case PutManifest:
		s.putManifest(o)
	case DeleteTags:
		for _, name := range o.Tags {
			s.removeTag(name)
		}
	case DeleteManifest:
		if m := s.Manifest(o.Digest); m != nil {
			s.remove(m)
			if m.Blob {
				return // as which it stays
			}
		}
		if s.blobs[o.Digest] == "" {
			s.deleted[cloneDigest(o.Digest)] = struct{}{}
		}
	case PutBlob:
		if o.Text != "" {
			s.blobs[cloneDigest(o.Digest)] = o.Text
		}
		if m := s.Manifest(o.Digest); m != nil {
			m.Blob, m.changed = true, true
		}
		delete(s.deleted, o.Digest)
	case DeleteBlob:
		delete(s.blobs, o.Digest)
	}
}

func (s *State) putManifest(o *Op) {
	m := s.Manifest(o.Digest)
	if m == nil {
		m = NewManifest(o.Digest, o.MediaType, o.Size)
		m.Text = o.Text
		s.Add(m)
	} else if m.Text == "" && o.Text != "" {
		m.Text = o.Text // what was stored is damaged or gone
		s.ReadAgain(m)
		s.unwritten = append(s.unwritten, m)
	}
	if m.MediaType != o.MediaType || m.Size != o.Size {
		m = s.retype(m, o)
	}
	if m.Implicit || o.Blob {
		m.Implicit, m.Blob, m.changed = false, m.Blob || o.Blob, true
	}
	if o.Info != nil {
		s.SetInfo(m, *o.Info)
	}
	s.timed = s.timed || o.Text == "" && o.Time != 0 && len(o.Tags) > 0
	for _, tag := range o.Tags {
		s.setTag(tag, m, o.Time)
	}
}

// retype gives a manifest the media type and the size of o. With another type it
// may name other things than before; the size was wrong if it was another.
func (s *State) retype(m *Manifest, o *Op) *Manifest {
	next := &Manifest{Digest: m.Digest, MediaType: manifest.OwnMediaType(o.MediaType), Size: o.Size, Text: m.Text, Blob: m.Blob}
	tags := s.TagsOf(m)
	times := make([]int64, len(tags))
	for i, tag := range tags {
		times[i] = s.TagTime(tag)
	}
	s.remove(m)
	s.Add(next)
	for i, tag := range tags {
		s.setTag(tag, next, times[i])
	}
	return next
}
