package repostate

// The time at which a tag was set is not in index.json. It comes with the operation, and goes
// on in the snapshot. Where there is none, a backend may take the time of the manifest, which
// came with the tag if HasTimes reports false.

// HasTimes reports whether there are tags that were not set when their manifest came, or whose
// manifest may have a later time since another tag of it went.
func (s *State) HasTimes() bool { return s.timed }

// TagTime returns the time at which a tag was last set, in nanoseconds since 1970. It is zero
// if nobody knows, or if there is no such tag.
func (s *State) TagTime(name string) int64 {
	if t, changed := s.tags[name]; t != nil {
		return t.pushed
	} else if changed {
		return 0
	}
	if i, found := s.base.findTag(name); found && !s.isHidden(i) {
		return s.base.pushed(i)
	}
	return 0
}

// InheritTimes takes from another state of the same repository the times of the tags that
// point at the same manifests there, and have none here.
func (s *State) InheritTimes(old *State) {
	s.timed = s.timed || old.timed
	for name, t := range s.tags {
		if t == nil || t.pushed != 0 {
			continue
		}
		if m := old.Tag(name); m != nil && m.Digest == t.manifest.Digest {
			t.pushed = old.TagTime(name)
		}
	}
}

// leave notes that a tag leaves a manifest for another one, or nil.
func (s *State) leave(m, next *Manifest) {
	if m != next && m.IsShared() {
		s.timed = true
	}
}
