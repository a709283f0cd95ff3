// Package ociweb shows any [ociregistry.Interface] to people with a browser: its
// repositories, their tags in the order of versions, images with their platforms, layers and
// signatures, and what differs between two tags.
//
//	http.Handle("/v2/", ociserver.New(registry, nil))
//	http.Handle("/", ociweb.New(registry, nil))
//
// The pages need no script and load nothing from elsewhere. Their links are relative, so that
// they work behind [http.StripPrefix] and behind a proxy that strips a prefix. The handler
// answers GET and HEAD, and changes nothing.
//
// # What the pages ask of the registry
//
// All calls are inspections (see [ociregistry.WithInspection]): looking at an image keeps no
// tag, and makes no cache fetch the rest of it. No page reads a layer. The pages and their
// paths are:
//
//   - /, the repositories: Repositories, no further than MaxNames of [Options]. A search in a
//     long list may use what another page has read up to five seconds before.
//   - /r/REPOSITORY, its tags: Tags, no further than MaxNames. For each of the tags that the
//     page shows, at most 50, it also reads the manifest, and the configuration of an image.
//     Of an index, it reads that of one platform. In the order of time or of size, which
//     repositories of up to 200 tags have, it does so for all tags.
//   - /r/REPOSITORY:TAG and /r/REPOSITORY@DIGEST, a manifest: the manifest itself, the
//     configuration of an image, Referrers, ResolveManifest of its subject, and ResolveTag of
//     the three tags in which cosign keeps signatures. Of an index, it also reads up to 32 of
//     its manifests.
//   - /compare/REPOSITORY, two manifests: these and, of an index, that of one platform.
//   - /json/REPOSITORY:TAG and /json/REPOSITORY@DIGEST, the text of a manifest: the manifest
//     and the configuration of an image.
//
// If the registry is a cache or a proxy, the Remote option bounds that: lists are not read
// further than a client would, and the pages of tags and of an index read no manifests but the
// one that was asked for.
//
// # Authorization
//
// The pages show what [Options] permit the client to pull. Whoever may pull from a repository
// may see its pages; the page of repositories is the catalog. A request that is refused gets
// the status that it would get of package ociserver. A registry that refuses a call itself, as
// another one behind a proxy may, is answered with 403, since no password that the browser
// could ask for would help.
//
// # Hostile content
//
// Whoever can push chooses what the pages show. All of it is escaped, and control characters
// are replaced. URLs in annotations are text. Manifests and configurations over a limit are not
// read, and long lists and texts end with a line that says so. Every answer has a
// Content-Security-Policy that permits the style sheet and the icon of the handler, and nothing
// else.
package ociweb
