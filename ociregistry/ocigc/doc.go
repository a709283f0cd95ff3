// Package ocigc has the words for what registries throw away: what is garbage, which tags
// a policy keeps, and what became of it all.
//
// Registries that collect garbage are [Collector] values, and take [Options]. [Retain]
// applies the policies to any [ociregistry.Interface], a remote one too.
//
// # What is garbage
//
// In each repository for itself, tags keep manifests. A manifest keeps the blobs and the
// manifests that it names, to any depth. It also keeps its referrers, which are the
// manifests that have it as their subject, and theirs. What is not kept is garbage:
//
//   - Blobs always.
//   - Manifests without a subject, if [Policy].Untagged is set.
//   - Manifests with a subject, if [Policy].Dangling is set. A tag does not keep them then:
//     they go with their subject, and take their tags with them.
//   - Upload sessions that nobody continues.
//
// A tag whose name is made of a digest, as cosign makes them, makes its manifest a referrer
// of the manifest with that digest.
//
// # Time
//
// Garbage stays for a delay, so that a client can finish what it has begun. The delay of a
// blob counts from when it was last pushed to the repository, mounted there, or reported as
// present by ResolveBlob; that of a manifest from when it was last pushed or reported as
// present by ResolveManifest, lost a tag, or lost an index or a subject that was deleted.
// What a client was told to be present within the delay, a manifest may name.
//
// Until its delay has passed, a manifest keeps others as if it had a tag.
package ocigc
