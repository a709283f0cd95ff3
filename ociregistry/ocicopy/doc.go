// Package ocicopy moves content between registries: [Copy] one artifact with all
// that belongs to it, [Mirror] many repositories by rules. Source and
// destination are any two [ociregistry.Interface] values.
//
// What is copied stays the same byte for byte, so that digests, and the
// signatures made of them, keep their meaning. There is one exception, which has to be
// asked for: the DropOthers field of [Options].
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
//
// # Time
//
// A [Copy] takes as long as its registries, and ends with its context. How long one
// of them is waited for is theirs to bound; a client of package ociclient does that by
// the Timeouts of its options.
//
// A pass of a [Mirror] waits for each source by itself, whatever kind of registry
// that is, for the Stall of the [Source]: five minutes if it is not set, which is
// longer than a client with its defaults takes to give up a read. What stalled has
// failed, and is tried again with backoff, as all that fails. A source that goes on to
// stall is not asked again until then: the rest fails at once. No source waits for
// another: each has its own passes, and a blob that another is busy with is copied
// all the same. The destination is common to all, and is not bounded here.
package ocicopy
