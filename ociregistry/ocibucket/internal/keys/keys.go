// Package keys has the names of the objects that a registry in a bucket consists of, as DESIGN.md
// of the module lists them.
//
// The name of a repository ends with "!", which sorts before every byte of a name. So lists are in
// the order of names, and no key is the parent of another.
package keys

import (
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Options is the key of the options that all processes share.
const Options = "g"

// Asked is the key of what says that somebody follows what is changed.
const Asked = "q"

// maxNumber is the highest number of a record.
const maxNumber = 1e16 - 1

// Repository returns the prefix of what belongs to a repository alone.
func Repository(repo string) string { return "r/" + repo + "!/" }

// Records returns the prefix of a repository's records, of which the newest is listed first.
func Records(repo string) string { return Repository(repo) + "l/" }

// Record returns the key of a record.
func Record(repo string, n uint64) string { return newestFirst(Records(repo), n) }

// Snapshots returns the prefix of a repository's snapshots, of which the newest is listed first.
func Snapshots(repo string) string { return Repository(repo) + "s/" }

// Snapshot returns the key of the snapshot of the state after a record.
func Snapshot(repo string, n uint64) string { return newestFirst(Snapshots(repo), n) }

func newestFirst(prefix string, n uint64) string { return fmt.Sprintf("%s%016d", prefix, maxNumber-n) }

// Manifests returns the prefix of a repository's manifests that are objects of their own.
func Manifests(repo string) string { return Repository(repo) + "m/" }

// Manifest returns the key of a manifest.
func Manifest(repo string, digest ociregistry.Digest) string { return Manifests(repo) + path(digest) }

// Links returns the prefix of a repository's links.
func Links(repo string) string { return Repository(repo) + "b/" }

// Link returns the key of a link.
func Link(repo string, digest ociregistry.Digest) string { return Links(repo) + path(digest) }

// Blob returns the prefix of the markers of a digest, which are listed first, and its references.
func Blob(digest ociregistry.Digest) string { return "b/" + path(digest) + "/" }

// Markers returns the prefix of the markers of a digest.
func Markers(digest ociregistry.Digest) string { return Blob(digest) + "d/" }

// Marker returns the key of the marker which says that data has the bytes of a digest.
func Marker(digest ociregistry.Digest, data string) string { return Markers(digest) + data }

// References returns the prefix of the references of a digest.
func References(digest ociregistry.Digest) string { return Blob(digest) + "r/" }

// Reference returns the key of a repository's reference to a digest.
func Reference(digest ociregistry.Digest, repo, nonce string) string {
	return References(digest) + repo + "!" + nonce
}

// Data returns the key of the bytes with a name.
func Data(name string) string { return "d/" + name }

// Session returns the key of an upload session.
func Session(id string) string { return "u/" + id + "/s" }

// Pulls returns the key of a list of when manifests were last pulled.
func Pulls(name string) string { return AllPulls + name }

// News returns the key of a part of what a process has changed.
func News(name string) string { return AllNews + name }

// Catalog returns the key that a repository has in the catalog.
func Catalog(repo string) string { return "c/" + repo + "!" }

// Mark returns the key which says that somebody has to look whether a repository is empty.
func Mark(repo, nonce string) string { return "e/" + repo + "!" + nonce }

// Prefixes of several repositories or digests.
const (
	AllBlobs    = "b/"
	AllData     = "d/"
	AllSessions = "u/"
	AllCatalog  = "c/"
	AllMarks    = "e/"
	AllPulls    = "p/"
	AllNews     = "f/"
)

func path(digest ociregistry.Digest) string {
	return string(digest.Algorithm()) + "/" + digest.Encoded()
}
