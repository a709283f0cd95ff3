// Package ociref parses references to content in OCI registries, and checks
// the names that they are made of.
//
// A reference says where a manifest is:
//
//	[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
//
// Three functions parse references. They differ in how they treat a reference without a
// host: [Parse] refuses it, [ParseRelative] leaves the host empty for the caller to fill
// in, and [ParseDocker] assumes Docker Hub, as the docker command does.
//
// The first of several path elements is a host if [IsValidHost] says so, and
// part of the repository name otherwise. So a repository whose own first
// element looks like a host, as in example.com/app, can be written only with
// its host before it.
//
// All functions are safe for concurrent use, and take time linear in the length of their
// input. Error messages quote a bounded part of it.
package ociref

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Digest is the digest of some content: ALGORITHM ":" ENCODED. A value of
// this type is not necessarily valid: see [IsValidDigest].
type Digest = digest.Digest

// Reference says where a manifest is. The zero value refers to nothing.
type Reference struct {
	// Host is the registry that holds the repository, as name or name:port. It is
	// empty in a reference relative to a registry that the context determines.
	Host string

	// Repository is the name of the repository. Parsed references always
	// have one.
	Repository string

	// Tag is the tag, or empty.
	Tag string

	// Digest is the digest of the manifest, or empty. A reference can have
	// both a tag and a digest: the digest then identifies the manifest, and
	// the tag says where it was found.
	Digest Digest
}

// Parse parses a reference that begins with a host:
//
//	HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]
//
// The fields of the result are valid according to [IsValidHost], [IsValidRepository],
// [IsValidTag] and [IsValidDigest]. The tag and the digest are empty if s does not have
// them. The String method of the result returns s.
//
// There is no default registry: a reference without a host is an error.
func Parse(s string) (Reference, error) {
	ref, err := ParseRelative(s)
	if err != nil {
		return Reference{}, err
	}
	if ref.Host == "" {
		return Reference{}, fmt.Errorf("invalid reference %s: no host before the repository", quote(s))
	}
	return ref, nil
}

// ParseRelative parses a reference that may begin with a host:
//
//	[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
//
// It is like [Parse], except that Host is empty in the result if s has only
// one path element, or the first one is not a valid host.
func ParseRelative(s string) (Reference, error) {
	var ref Reference
	// Splitting at the first of each separator is exact: no '@' is allowed
	// in what comes before the digest, and no ':' in a repository name.
	rest, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if problem := digestProblem(digest); problem != "" {
			return Reference{}, parseError(s, "digest", digest, problem)
		}
		ref.Digest = Digest(digest)
	}
	if first, path, ok := strings.Cut(rest, "/"); ok {
		if IsValidHost(first) {
			ref.Host, rest = first, path
		} else if strings.Contains(first, ":") {
			// What precedes the slash cannot end in a tag, so a host was meant.
			return Reference{}, parseError(s, "host", first, hostProblem)
		}
	}
	repo, tag, hasTag := strings.Cut(rest, ":")
	if problem := repositoryProblem(repo); problem != "" {
		return Reference{}, parseError(s, "repository", repo, problem)
	}
	ref.Repository = repo
	if hasTag {
		if problem := tagProblem(tag); problem != "" {
			return Reference{}, parseError(s, "tag", tag, problem)
		}
		ref.Tag = tag
	}
	return ref, nil
}

// String returns the reference in the form that [ParseRelative] parses:
//
//	[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
//
// It does not check the fields.
func (ref Reference) String() string {
	var b strings.Builder
	b.Grow(len(ref.Host) + len("/") + len(ref.Repository) + len(":") + len(ref.Tag) + len("@") + len(ref.Digest))
	if ref.Host != "" {
		b.WriteString(ref.Host)
		b.WriteByte('/')
	}
	b.WriteString(ref.Repository)
	if ref.Tag != "" {
		b.WriteByte(':')
		b.WriteString(ref.Tag)
	}
	if ref.Digest != "" {
		b.WriteByte('@')
		b.WriteString(string(ref.Digest))
	}
	return b.String()
}

// parseError returns the error for the reference s, whose named part has the given value
// and problem.
func parseError(s, part, value, problem string) error {
	return fmt.Errorf("invalid reference %s: %s %s %s", quote(s), part, quote(value), problem)
}

// quote returns s as a Go string literal. It shortens s if that is much longer than a
// usual reference, because the input can have any size, and errors are logged and sent to
// clients.
func quote(s string) string {
	const limit = 200
	if len(s) <= limit {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q... (%d bytes)", s[:limit], len(s))
}
