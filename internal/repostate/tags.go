package repostate

import (
	"strings"
)

// A tag points at a manifest. The tags of a manifest are a list. Those of a table are none of
// these: they are in the table, unless State.tags has something else of their name.
type tag struct {
	name       string
	manifest   *Manifest
	prev, next *tag
	pushed     int64 // see State.TagTime
}

// attach adds t to the tags of its manifest.
func (t *tag) attach() {
	t.prev, t.next = nil, t.manifest.tags
	if t.next != nil {
		t.next.prev = t
	}
	t.manifest.tags = t
}

// detach takes t from the tags of its manifest.
func (t *tag) detach() {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		t.manifest.tags = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
}

// Tag returns the manifest that a tag points at, or nil if there is no such tag.
func (s *State) Tag(name string) *Manifest {
	if t, changed := s.tags[name]; t != nil {
		return t.manifest
	} else if changed {
		return nil
	}
	if i, found := s.base.findTag(name); found {
		return s.base.row(int(s.base.targets.at(i)))
	}
	return nil
}

// AppendTags appends up to n tags that follow after, in byte order.
func (s *State) AppendTags(dst []string, after string, n int) []string {
	if s.base.tagEnds.len() == 0 {
		return s.tagNames.AppendAfter(dst, after, n)
	}
	tags := s.someTags(make([]someTag, 0, min(n, 128)), after, n)
	size := 0
	for _, t := range tags {
		if t.number >= 0 {
			size += len(t.name)
		}
	}
	// A part of the table would keep all of it in memory.
	var copies strings.Builder
	copies.Grow(size)
	for _, t := range tags {
		if t.number >= 0 {
			start := copies.Len()
			copies.WriteString(t.name)
			t.name = copies.String()[start:]
		}
		dst = append(dst, t.name)
	}
	return dst
}

// someTag is a tag of the table, or, if its number is -1, another one.
type someTag struct {
	name   string // maybe a part of the table
	number int
}

// someTags appends up to n tags that follow after, in byte order.
func (s *State) someTags(dst []someTag, after string, n int) []someTag {
	i, found := s.base.findTag(after)
	if found {
		i++
	}
	added := s.tagNames.AppendAfter(nil, after, n)
	for ; n > 0; n-- {
		for i < s.base.tagEnds.len() && s.isHidden(i) {
			i++
		}
		switch {
		case i < s.base.tagEnds.len() && (len(added) == 0 || s.base.tag(i) < added[0]):
			dst = append(dst, someTag{s.base.tag(i), i})
			i++
		case len(added) > 0:
			dst = append(dst, someTag{added[0], -1})
			added = added[1:]
		default:
			return dst
		}
	}
	return dst
}

// isHidden reports whether a tag of the table points somewhere else now, or is no more.
func (s *State) isHidden(i int) bool {
	if s.base.isGone(int(s.base.targets.at(i))) {
		return true
	}
	if len(s.tags) == 0 {
		return false
	}
	_, hidden := s.tags[s.base.tag(i)]
	return hidden
}

// TagsOf returns the tags that point at m, in no order.
func (s *State) TagsOf(m *Manifest) []string {
	var tags []string
	for t := m.tags; t != nil; t = t.next {
		tags = append(tags, t.name)
	}
	for _, i := range s.base.tableTagsOf(m) {
		if !s.isHidden(i) {
			tags = append(tags, s.base.tag(i))
		}
	}
	return tags
}

// setTag points a tag at m, at a time.
func (s *State) setTag(name string, m *Manifest, pushed int64) {
	t := s.tags[name]
	if t != nil {
		s.leave(t.manifest, m)
		t.detach()
	} else {
		s.hideTag(name)
		t = &tag{name: strings.Clone(name)}
		s.tags[t.name] = t
		s.tagNames.Add(t.name)
	}
	t.manifest, t.pushed = m, pushed
	t.attach()
}

// removeTag removes a tag, if there is one.
func (s *State) removeTag(name string) {
	t := s.tags[name]
	if t == nil {
		s.hideTag(name)
		return
	}
	s.leave(t.manifest, nil)
	t.detach()
	s.tagNames.Delete(name)
	if _, found := s.base.findTag(name); found {
		s.tags[t.name] = nil
	} else {
		delete(s.tags, name)
	}
}

// hideTag hides a tag of the table, if it is there and is not hidden.
func (s *State) hideTag(name string) {
	if i, found := s.base.findTag(name); found && !s.isHidden(i) {
		m := s.base.row(int(s.base.targets.at(i)))
		s.leave(m, nil)
		m.tableTags--
		s.tags[strings.Clone(name)] = nil
	}
}
