// Package ociotel observes registries with OpenTelemetry.
//
// [New] returns a registry that passes all calls on to another one, and has a span and
// metrics for each. [Handler] and [Transport] do the same for the requests of a server and of
// a client; [OnLookup], [OnEvent], [OnFailure] and [OnGC] are for the hooks of packages
// ociunify and ociserver and for the reports of package ocigc.
//
// # Spans
//
// A span has the name of the method, such as "ociregistry.GetBlob". That of a reader goes on
// until Close; that of a writer until a Commit that succeeded, Close or Cancel; that of a
// list is one loop over it. The attributes are those of the [semantic conventions] where these
// have one:
//
//	container.image.name  the repository
//	container.image.tags  the tags that the call named
//	oci.manifest.digest   the digest of a manifest, or of the subject of referrers
//	error.type            see below
//	server.address        of Options.Server
//	server.port
//
// and otherwise
//
//	oci.blob.digest          the digest of a blob
//	oci.blob.from            the repository from which a blob is mounted
//	oci.content.size         the size of the content, in bytes
//	oci.content.media_type   the media type of a manifest
//	oci.content.moved        the number of bytes that a reader or writer has moved
//	oci.list.length          the number of elements of a list that the loop has seen
//	oci.artifact.type        the artifact type that a call for referrers named
//	oci.usage.prefix         the prefix whose usage was asked for
//
// What a registry answers to a call that makes no sense for it, such as an unknown blob, is an
// attribute of the span, and the span has not failed. It has failed for all other errors, such
// as those of networks, storage and contexts. No span contains content or upload ids.
//
// # Metrics
//
//	oci.registry.call.duration    s   of calls, until a reader or writer is there; of lists, of a loop;
//	                                  and of readers and writers from the call to their end
//	oci.registry.content.read     By  bytes of blobs and manifests that were read
//	oci.registry.content.written  By  bytes of blobs and manifests that were written
//	oci.registry.uploads.open         writers of upload sessions that have not ended
//	oci.cache.lookups                 what [OnLookup] is told
//	oci.gc.duration               s   what [OnGC] is told, and methods GC of what [New] returns
//	oci.gc.removed
//	oci.gc.removed.size           By
//	oci.gc.problems
//	oci.server.event.duration     s   what [OnEvent] and [OnFailure] are told
//	oci.server.content            By
//
// Their attributes are oci.method, the name of the method; oci.content.kind, blob or manifest,
// and for collections also tag or upload; oci.cache.outcome, an [ociunify.Outcome]; oci.action,
// an [ociserver.Action]; oci.gc.dry_run; error.type, server.address and server.port. Values of
// which there can be any number, such as repositories, tags and digests, are attributes of spans
// alone, unless Options.Repositories asks for repositories.
//
// The error.type is the code of a sentinel of package ociregistry, such as BLOB_UNKNOWN; or
// "canceled", "timeout" or, of a call that panicked, "panic"; or an HTTP status, such as 499 for a client that has gone away; or
// "_OTHER".
//
// [semantic conventions]: https://opentelemetry.io/docs/specs/semconv/
package ociotel
