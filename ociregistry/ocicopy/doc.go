// Package ocicopy moves content between registries: [Copy] one artifact with all
// that belongs to it, [Mirror] many repositories by rules. Source and
// destination are any two [ociregistry.Interface] values.
//
// What is copied stays the same byte for byte, so that digests, and the
// signatures made of them, keep their meaning.
//
// # Order
//
// Copy writes blobs first, then the manifests that name them, then the
// signatures and other referrers, and the tag last. Whoever finds the tag at the
// destination finds everything, and a copy that was interrupted goes on where it
// stopped when it is repeated: what arrived is not read again.
//
// # What is taken for granted
//
// Nothing. Copy looks at the destination for every manifest and every blob before
// it says that nothing changed: a cache may have kept a manifest without its blobs,
// or under a media type of its own, and other programs may have deleted some. Only
// where TrustDestination is set, in [Options], is what a registry holds taken to be
// complete.
//
// Every manifest is verified against the digest it was asked for, every blob is by
// the destination, and how much of a graph is followed is bounded. What cannot be
// read is not taken to be absent: a list of referrers that fails, fails the copy.
package ocicopy
