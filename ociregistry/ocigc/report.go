package ocigc

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Kind is the kind of a thing that is removed.
type Kind string

// The kinds.
const (
	KindTag      Kind = "tag"
	KindManifest Kind = "manifest"
	KindBlob     Kind = "blob"
	KindUpload   Kind = "upload" // an upload session
)

// Reason is why a thing is removed.
type Reason string

// The reasons.
const (
	NotKept     Reason = "no rule keeps the tag"
	Untagged    Reason = "no tag, index or subject keeps it" // a manifest
	SubjectGone Reason = "its subject is gone"               // a manifest, and its tags
	Unnamed     Reason = "no manifest names it"              // a blob
	Abandoned   Reason = "nobody continued it"               // an upload session
)

// Finding is a thing that was removed, or would be in a dry run.
type Finding struct {
	Repository string             `json:"repository"`
	Kind       Kind               `json:"kind"`
	Tag        string             `json:"tag,omitempty"`
	Digest     ociregistry.Digest `json:"digest,omitempty"` // of a tag, what it pointed at, if that is known
	Size       int64              `json:"size,omitempty"`   // in bytes
	Reason     Reason             `json:"reason"`

	// Since is the time from which the delay counts. Of a tag it is when it was last set.
	// It is zero if nobody knows.
	Since time.Time `json:"since,omitzero"`
}

// String returns a line such as "app@sha256:e3b0c442…: blob of 12 bytes: no manifest names it,
// since 2026-01-02 15:04:05".
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.Repository)
	switch {
	case f.Tag != "":
		b.WriteString(":" + f.Tag)
	case f.Digest != "":
		b.WriteString("@" + string(f.Digest))
	}
	fmt.Fprintf(&b, ": %s", f.Kind)
	if f.Kind != KindTag {
		fmt.Fprintf(&b, " of %d bytes", f.Size)
	}
	fmt.Fprintf(&b, ": %s", f.Reason)
	if !f.Since.IsZero() {
		fmt.Fprintf(&b, ", since %s", f.Since.UTC().Format(time.DateTime))
	}
	return b.String()
}

// Summary counts what was looked at and what was removed, or would be in a dry run.
type Summary struct {
	Repositories int `json:"repositories"` // that were looked at
	Tags         int `json:"tags"`
	Manifests    int `json:"manifests"`
	Blobs        int `json:"blobs"`
	Uploads      int `json:"uploads"`

	// Bytes is the size of all that was removed. It counts a blob in each repository for
	// itself, although others may still have it.
	Bytes int64 `json:"bytes"`
}

// Problem is a repository, or a tag, that was left alone.
type Problem struct {
	Repository string
	Err        error
}

// Error returns the repository and the text of Err.
func (p Problem) Error() string { return p.Repository + ": " + p.Err.Error() }

// Unwrap returns p.Err.
func (p Problem) Unwrap() error { return p.Err }

// MarshalJSON implements [json.Marshaler]. The fields are repository and error.
func (p Problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"repository": p.Repository, "error": p.Err.Error()})
}

// Report is the result of a collection.
type Report struct {
	Summary
	DryRun   bool      `json:"dryRun"`
	Findings []Finding `json:"findings,omitempty"` // unless Options.Finding was called with them

	// Problems are the repositories of which nothing was removed but upload sessions,
	// because they, or a manifest in them, cannot be read; and in the report of [Retain]
	// the tags that could not be deleted.
	Problems []Problem `json:"problems,omitempty"`
}

// Progress says how far a collection is.
type Progress struct {
	Summary
	Repository string // the last that was looked at
}

// Add counts a finding, and calls opts.Finding with it or appends it to the Findings.
func (r *Report) Add(opts *Options, f Finding) {
	switch f.Kind {
	case KindTag:
		r.Tags++
	case KindManifest:
		r.Manifests++
	case KindBlob:
		r.Blobs++
	case KindUpload:
		r.Uploads++
	}
	r.Bytes += f.Size
	if opts.Finding != nil {
		opts.Finding(f)
		return
	}
	r.Findings = append(r.Findings, f)
}

// Done counts a repository, and calls opts.Progress. A nil err means that all of it was
// looked at.
func (r *Report) Done(opts *Options, repo string, err error) {
	r.Repositories++
	if err != nil {
		r.Problems = append(r.Problems, Problem{repo, err})
	}
	if opts.Progress != nil {
		opts.Progress(Progress{r.Summary, repo})
	}
}
