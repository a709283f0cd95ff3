// Package ocicopy copies content between registries. [Copy] copies one artifact with
// everything that belongs to it. [Mirror] keeps many repositories up to date by rules.
// Source and destination are any two [ociregistry.Interface] values.
//
// Content is copied byte for byte: digests stay the same, and the signatures of them
// stay valid. The only exception is the DropOthers field of [Options].
//
// # Order
//
// Copy writes blobs first, then the manifests that name them, then signatures and
// other referrers, and tags last. When the tag exists at the destination, so does
// everything that belongs to it. A copy that was interrupted continues where it
// stopped when it is repeated, and reads nothing again that has arrived.
//
// # Trust
//
// Copy trusts neither registry. It asks the destination for every manifest and every
// blob before it reports that nothing changed: a cache may have kept a manifest without
// its blobs, or under another media type, and other programs may have deleted content.
// Only TrustDestination, in [Options], takes the content of the destination for
// complete.
//
// Copy verifies every manifest against its digest, the destination verifies every
// blob, and the size of a graph is limited. Content that cannot be read is not taken
// for missing: a list of referrers that fails, fails the copy.
//
// # Time
//
// A [Copy] takes as long as its registries need, and ends with its context. Limits for
// how long to wait belong to the registries; a client of package ociclient has the
// Timeouts of its options.
//
// A pass of a [Mirror] does limit how long it waits for a source, whatever registry that
// is: see the Stall field of [Source]. Its default is five minutes, which is longer than
// a client with default options needs to give up a read. A call that stalls has failed,
// and is tried again with backoff like any other failure. Until then, further calls to a
// source that keeps stalling fail at once. Sources do not wait for each other: each has
// its own passes, and copies a blob even if another source is busy with the same one.
// There is no limit for the destination, which all sources share.
package ocicopy
