package histories

import (
	"fmt"
	"net/http"
	"slices"
)

// located is a step and the repository in which it takes place.
type located struct {
	repo string
	step
}

// history is what operations are seen in.
type history struct {
	events []*Event
	repos  []string
	sizes  map[sessionKey][]int64 // that anybody saw upload sessions have
}

func newHistory(events []*Event) *history {
	h := &history{events: events, sizes: make(map[sessionKey][]int64)}
	for _, ev := range events {
		if ev.Repository != "" && !slices.Contains(h.repos, ev.Repository) {
			h.repos = append(h.repos, ev.Repository)
		}
		key := sessionKey{ev.Repository, ev.Session}
		if ev.Session > 0 && ev.Size > 0 {
			h.sizes[key] = append(h.sizes[key], ev.Size)
		}
		if ev.Piece != nil && ev.isSuccess() { // and where the chunk began
			h.sizes[key] = append(h.sizes[key], ev.Offset, ev.Size-ev.Piece.size())
		}
	}
	return h
}

// isBesideCommit reports whether the process that answered ev has meanwhile a commit that
// brings content to the same session. Until that ends, the process takes the session to be
// where that content does, whatever others have.
func (h *history) isBesideCommit(ev *Event) bool {
	return h.hasBeside(ev, func(other *Event) bool {
		return other.Do == commitUpload && other.Piece != nil && other.Server == ev.Server
	})
}

// steps returns the steps of an operation.
func (h *history) steps(ev *Event) []located {
	if ev.unknown() && ev.reads() {
		return nil
	}
	var steps []located
	add := func(repo string, more ...step) {
		for _, st := range more {
			st.event = ev
			steps = append(steps, located{repo, st})
		}
	}
	if ev.Wrong != "" {
		add(ev.Repository, require("wrong: "+ev.Wrong, func(*state) bool { return false }))
		return steps
	}
	switch ev.Do {
	case listCatalog:
		for _, repo := range h.repos {
			if ev.covers(repo) {
				listed := slices.Contains(ev.List, repo)
				add(repo, require(fmt.Sprintf("exists: %v", listed), func(s *state) bool { return s.exists() == listed }))
			}
		}
	case mountBlob:
		add(ev.Repository, mountSteps(ev)...)
		if ev.Status == http.StatusAccepted && slices.Contains(h.repos, ev.From) {
			add(ev.From, require("there is no blob "+ev.Blob, func(s *state) bool { return !s.hasBlob(ev.Blob) }))
		}
	case openUpload, sendChunk, askUpload, commitUpload, cancelUpload:
		sizes := h.sizes[sessionKey{ev.Repository, ev.Session}]
		if ev.Code == "RANGE_INVALID" && ev.Size < 0 && h.isBesideCommit(ev) {
			add(ev.Repository, appendSteps(ev, sizes)...)
		} else {
			add(ev.Repository, h.besideOthers(ev, uploadSteps(ev, sizes))...)
		}
	default:
		add(ev.Repository, contentSteps(ev)...)
	}
	for range h.deletedMeanwhile(ev) {
		add(ev.Repository, addBlob(ev.Blob).orNot())
	}
	return steps
}

// deletedMeanwhile returns how often the blob that an operation adds is deleted while
// the operation goes on. So often it may be added again: it may be seen before its push
// is acknowledged, and be deleted then, and the push makes sure at its end that the
// blob is there. The contract has it there from the acknowledgement on, and does not
// say that it was not there before.
func (h *history) deletedMeanwhile(ev *Event) (n int) {
	switch {
	case ev.Do != pushBlob && ev.Do != mountBlob && ev.Do != commitUpload:
		return 0
	case ev.Status != http.StatusCreated && !ev.unknown():
		return 0
	case ev.Do == commitUpload && ev.unknown():
		return 0 // whether it adds a blob depends on the session
	}
	for _, other := range h.events {
		if other.Do == deleteBlob && other.Repository == ev.Repository && other.Blob == ev.Blob &&
			(other.unknown() || other.isSuccess()) && other.Call <= ev.Return && ev.Call <= other.Return {
			n++
		}
	}
	return n
}

// reads reports whether the operation changes nothing.
func (op *Op) reads() bool {
	switch op.Do {
	case getTag, headTag, getManifest, headManifest, getBlob, headBlob, askUpload, listTags, listReferrers, listCatalog:
		return true
	}
	return false
}

// covers reports whether a page of a list tells if it has an element.
func (ev *Event) covers(name string) bool {
	full := ev.N > 0 && len(ev.List) >= ev.N
	return name > ev.After && (!full || name <= ev.List[len(ev.List)-1])
}

func impossible(ev *Event) step {
	return require(fmt.Sprintf("no such answer: %d %s", ev.Status, ev.Code), func(*state) bool { return false })
}

var noSuchRepository = require("there is no repository", func(s *state) bool { return !s.exists() })

// contentSteps returns the steps of what is not about uploads.
func contentSteps(ev *Event) []step {
	switch ev.Do {
	case putManifest:
		return []step{putStep(ev)}
	case getTag, headTag:
		return []step{tagStep(ev)}
	case getManifest, headManifest:
		return []step{presenceStep(ev, "MANIFEST_UNKNOWN", func(s *state) bool { return s.hasManifest(ev.Op.Manifest) })}
	case getBlob, headBlob:
		return []step{presenceStep(ev, "BLOB_UNKNOWN", func(s *state) bool { return s.hasBlob(ev.Blob) })}
	case deleteTag, deleteManifest, deleteBlob:
		return []step{deleteStep(ev)}
	case pushBlob:
		return []step{pushStep(ev)}
	case listTags, listReferrers:
		return listSteps(ev)
	}
	return []step{impossible(ev)}
}

// presenceStep is the step of a read.
func presenceStep(ev *Event, code string, there func(s *state) bool) step {
	switch {
	case ev.Status == http.StatusOK:
		return require("it is there", there)
	case ev.Status == http.StatusNotFound && ev.Code == "": // HEAD
		return require("it is not there", func(s *state) bool { return !there(s) })
	case ev.Code == code:
		return require("it is not there", func(s *state) bool { return s.exists() && !there(s) })
	case ev.Code == "NAME_UNKNOWN":
		return noSuchRepository
	}
	return impossible(ev)
}

func tagStep(ev *Event) step {
	if ev.Status == http.StatusOK {
		return require(ev.Tag+" is "+ev.Got, func(s *state) bool { return s.tag(ev.Tag) == ev.Got })
	}
	return presenceStep(ev, "MANIFEST_UNKNOWN", func(s *state) bool { return s.tag(ev.Tag) != "" })
}

// conditionHolds checks the condition of a push (RFC 9110, section 13.1).
func conditionHolds(op *Op, s *state) bool {
	current := s.resolve(op)
	matches := func(names []string) bool {
		return current != "" && (slices.Contains(names, current) || slices.Contains(names, "*"))
	}
	return (op.IfMatch == nil || matches(op.IfMatch)) && (op.IfNoneMatch == nil || !matches(op.IfNoneMatch))
}

// resolve returns what the ref of a push resolves to.
func (s *state) resolve(op *Op) string {
	switch {
	case op.Tag != "":
		return s.tag(op.Tag)
	case s.hasManifest(op.Manifest):
		return op.Manifest
	}
	return ""
}

func putStep(ev *Event) step {
	put := change("put", func(s *state) bool {
		if !s.complete(ev.Op.Manifest) || !conditionHolds(&ev.Op, s) {
			return false
		}
		s.manifests |= manifestBit(ev.Op.Manifest)
		for _, tag := range ev.Tags {
			s.setTag(tag, ev.Op.Manifest)
		}
		if ev.Tag != "" {
			s.setTag(ev.Tag, ev.Op.Manifest)
		}
		return true
	})
	switch {
	case ev.unknown():
		return put.orNot()
	case ev.Status == http.StatusCreated:
		return put
	case ev.Status == http.StatusPreconditionFailed:
		return require("the condition fails", func(s *state) bool { return !conditionHolds(&ev.Op, s) })
	case ev.Code == "MANIFEST_BLOB_UNKNOWN":
		return require("something is missing", func(s *state) bool { return !s.complete(ev.Op.Manifest) })
	}
	return impossible(ev)
}

func deleteStep(ev *Event) step {
	unknown, inUse := "MANIFEST_UNKNOWN", func(*state) bool { return false }
	var there func(s *state) bool
	var remove func(s *state)
	switch ev.Do {
	case deleteTag:
		there = func(s *state) bool { return s.tag(ev.Tag) != "" }
		remove = func(s *state) { s.tags[slices.Index(tagNames, ev.Tag)] = 0 }
	case deleteManifest:
		there = func(s *state) bool { return s.hasManifest(ev.Op.Manifest) }
		inUse = func(s *state) bool { return s.manifestInUse(ev.Op.Manifest) }
		remove = func(s *state) { s.removeManifest(ev.Op.Manifest) }
	case deleteBlob:
		unknown = "BLOB_UNKNOWN"
		there = func(s *state) bool { return s.hasBlob(ev.Blob) }
		inUse = func(s *state) bool { return s.blobInUse(ev.Blob) }
		remove = func(s *state) { s.blobs &^= blobBit(ev.Blob) }
	}
	deleted := change("delete", func(s *state) bool {
		if !there(s) || inUse(s) {
			return false
		}
		remove(s)
		return true
	})
	switch {
	case ev.unknown():
		return deleted.orNot()
	case ev.Status == http.StatusAccepted:
		return deleted
	case ev.Code == unknown:
		return require("it is not there", func(s *state) bool { return s.exists() && !there(s) })
	case ev.Code == "NAME_UNKNOWN":
		return noSuchRepository
	case ev.Code == "DENIED":
		return require("it is in use", func(s *state) bool { return there(s) && inUse(s) })
	}
	return impossible(ev)
}

// addBlob is the step by which a blob comes.
func addBlob(name string) step {
	return change("add blob "+name, func(s *state) bool {
		s.blobs |= blobBit(name)
		return true
	})
}

func pushStep(ev *Event) step {
	switch {
	case ev.unknown():
		return addBlob(ev.Blob).orNot()
	case ev.Status == http.StatusCreated:
		return addBlob(ev.Blob)
	}
	return impossible(ev)
}

// listSteps returns a step for each element that the page tells of: what comes and
// goes while a list is made may be seen or not (ociregistry.Lister).
func listSteps(ev *Event) (steps []step) {
	if ev.Code == "NAME_UNKNOWN" {
		return []step{noSuchRepository}
	}
	if ev.Status != http.StatusOK {
		return []step{impossible(ev)}
	}
	if ev.Do == listReferrers {
		for _, kind := range manifestKinds {
			if kind.subject == signed {
				listed := slices.Contains(ev.List, kind.name)
				steps = append(steps, require(fmt.Sprintf("%s is there: %v", kind.name, listed), func(s *state) bool { return s.hasManifest(kind.name) == listed }))
			}
		}
		return steps
	}
	for _, tag := range tagNames {
		if ev.covers(tag) {
			listed := slices.Contains(ev.List, tag)
			steps = append(steps, require(fmt.Sprintf("%s is there: %v", tag, listed), func(s *state) bool { return (s.tag(tag) != "") == listed }))
		}
	}
	return append(steps, require("there is a repository", (*state).exists))
}
