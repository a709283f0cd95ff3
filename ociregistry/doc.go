// Package ociregistry is the vocabulary of OCI registries. It defines [Interface],
// which represents one whole registry, the errors that the methods return, and the form
// of those errors on the wire.
//
// Backends implement Interface (ocimem in memory, ocifs on disk, ociclient over HTTP).
// Package ociserver serves any of them as an [http.Handler]. Combinators (ocifilter,
// ociunify, ocidebug) take an Interface and return one. A program that uses Interface
// works with all of them.
//
// # Content
//
// A registry is a set of repositories. A repository holds blobs, manifests and tags.
// Blobs and manifests are named by the digest of their bytes and never change. A tag
// points at one manifest of its repository and can be moved. A manifest may have a
// subject, which is another manifest that it says something about. The referrers of a
// digest are the manifests that have it as their subject.
//
// A repository exists while it holds a blob, a manifest or a tag. The first successful
// push creates it, and the last successful delete removes it. A call that fails creates
// nothing, and an upload is not visible before it is committed.
//
// # Arguments
//
// Every method checks its arguments before it does anything else, in this
// order: repository names ([ErrNameInvalid]), digests ([ErrDigestInvalid]), tags. The
// error for a malformed tag is [ErrManifestInvalid] if the tag would be set, and
// [ErrManifestUnknown] if it is looked up, since it cannot exist. Package ociref has the
// grammars.
//
// # Errors
//
// Compare errors with the sentinels of this package by [errors.Is]. That works in the
// process that made an error and across any number of HTTP hops. The documentation of
// each method lists its sentinels. A backend may also return the error of its context,
// [ErrUnsupported] for what it cannot do, and [ErrUnauthorized], [ErrDenied] or
// [ErrTooManyRequests] for what it will not do. When its storage or its network fails,
// it returns an error that is none of the sentinels.
//
// # Concurrency
//
// All methods of an Interface are safe for concurrent use. The iterators,
// readers and writers that they return may be used by one goroutine at a time, except
// that Close and Cancel may be called from another. When a context ends, a blocked call
// returns promptly. The context of a call that returns a reader or a writer bounds the
// life of that reader or writer.
package ociregistry
