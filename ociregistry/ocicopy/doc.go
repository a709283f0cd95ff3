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
// A registry that holds a manifest holds what the manifest names: it has
// checked that when the manifest was pushed. So a manifest that the destination
// has is not followed further. This is not so at a sparse destination, such as a
// cache: see the Recheck field of [Options].
//
// Nothing else is. Every manifest is verified against the digest it was asked
// for, every blob is by the destination, and how much of a graph is followed is
// bounded.
package ocicopy
