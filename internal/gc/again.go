package gc

import (
	"iter"
	"time"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// A backend looks again at what a plan says is garbage, just before it removes that, while
// nobody can change the repository. What follows is what backends share for it.

// FactsOf returns the facts of a manifest that has tags.
func FactsOf(time int64, hasSubject bool, tags iter.Seq[string]) Facts {
	f := Facts{Time: time, HasSubject: hasSubject}
	for tag := range tags {
		_, _, about := rules.Subject(tag)
		f.About = f.About || about
		f.Tagged = f.Tagged || !about
	}
	return f
}

// IsAbout reports whether one of the tags is about a manifest that is there.
func IsAbout(tags iter.Seq[string], isThere func(ociregistry.Digest) bool) bool {
	for tag := range tags {
		if subject, _, ok := rules.Subject(tag); ok && isThere(subject) {
			return true
		}
	}
	return false
}

// TagOfGarbage returns the finding for a tag that goes with its manifest. It was pushed at a
// time in Unix nanoseconds, or zero if that is unknown.
func (p *Plan) TagOfGarbage(tag string, manifest ociregistry.Digest, pushed int64) ocigc.Finding {
	f := ocigc.Finding{Repository: p.Name, Kind: ocigc.KindTag, Tag: tag, Digest: manifest, Reason: ocigc.SubjectGone}
	if pushed != 0 {
		f.Since = time.Unix(0, pushed)
	}
	return f
}
