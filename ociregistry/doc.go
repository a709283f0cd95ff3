// Package ociregistry is the vocabulary of OCI registries: [Interface], which
// stands for one whole registry, the errors that its methods return, and the
// form that those errors have on the wire.
//
// Backends implement Interface (ocimem in memory, ocifs on disk, ociclient
// over HTTP), ociserver serves any of them as an [http.Handler], and
// combinators (ocifilter, ociunify, ocidebug) take an Interface and return
// one. A program written against Interface does not know which it has.
//
// # Content
//
// A registry is a set of repositories. A repository holds blobs, manifests and
// tags. Blobs and manifests are named by the digest of their bytes and never
// change; a tag points at one manifest of its repository and can be moved. A
// manifest may have a subject: another manifest that it says something about.
// The manifests whose subject is a given digest are that digest's referrers.
//
// A repository exists while it holds a blob, a manifest or a tag. It needs no
// creation: the first successful push creates it, and the last successful
// delete removes it. A call that fails creates nothing, and an upload that was
// not committed is not visible.
//
// # Arguments
//
// Every method checks its arguments before it does anything else, in this
// order: repository names ([ErrNameInvalid]), digests ([ErrDigestInvalid]),
// tags. A tag that is not well formed is [ErrManifestInvalid] where it would
// be created and [ErrManifestUnknown] where it is looked up, since it cannot
// exist. Package ociref has the grammars.
//
// # Errors
//
// Errors are compared with [errors.Is] against the sentinels of this package,
// in the process that made them and across any number of HTTP hops. The
// documentation of each method lists the sentinels that belong to it; a
// backend may return others: its context's error, [ErrUnsupported] for what it
// cannot do, [ErrUnauthorized], [ErrDenied] or [ErrTooManyRequests] for what it
// will not do, or an error that is none of the sentinels when its storage or
// its network fails.
//
// # Concurrency
//
// All methods of an Interface are safe for concurrent use. The iterators,
// readers and writers that they return each belong to one goroutine at a time,
// except that Close and Cancel may be called from another. A context that ends
// ends a blocked call promptly, and the context of a call that returns a
// reader or a writer bounds the life of that reader or writer.
package ociregistry
