// Ociserve serves an OCI registry.
//
// Usage:
//
//	ociserve [flags]
//	ociserve verify [-repair] [-sparse] directory
//	ociserve gc [-dry-run] [-json] [-delay duration] [-untagged] [-dangling] [-policy file] directory
//
// It listens on localhost:5000, and serves what -dir, -layout, -proxy, -cache or -mem
// say, until it is interrupted. It then lets the requests in progress finish. Requests
// are logged to standard error.
//
// The flags that say what to serve are:
//
//	-mem
//		serve a registry in memory, which is the default: all is gone when the
//		program ends
//	-dir path
//		serve a directory, which has an OCI image layout for each repository
//		and is created if it does not exist
//	-layout path
//		serve one directory with an OCI image layout as the only repository
//	-repo name
//		the repository that -layout serves (default the last element of its path)
//	-proxy host
//		serve another registry, whose host may have a port: each request becomes
//		requests to it, and nothing is kept here, not even upload sessions.
//		http://host means a registry without TLS
//	-cache host
//		serve another registry, and keep what was pulled in memory or in -dir.
//		Tags are looked up there each time. If it does not answer within 10
//		seconds, what is kept is served. Pushes and deletes are refused
//	-whole platforms
//		let -cache fetch a whole image, with its signatures, when its manifest is
//		asked for. Platforms is "all" or a list such as linux/amd64,linux/arm64,
//		which chooses from an image for several platforms
//	-mirror file
//		rules for what -cache serves from other registries, and what it keeps up
//		to date: see below
//
//	-route prefix/=kind:value
//		serve the repositories below a prefix from elsewhere; can be repeated: see
//		below
//	-ns host=kind:value
//		serve requests that read, and whose parameter ns is a host, from elsewhere,
//		as containerd asks a mirror of several registries; can be repeated. Of a host
//		that is not named, nothing is served, so that no client gets a repository of
//		the same name from another registry. Without this flag, ns is ignored
//
// A proxy and a cache use the credentials that Docker and Podman keep for the host, and the
// certificates in their directories certs.d, on behalf of everyone who can reach the program.
//
// The flags for memory and directories are:
//
//	-sparse
//		accept manifests whose blobs are missing, and deletes of blobs in use
//	-immutable
//		refuse to move or delete tags
//	-max-bytes n
//		refuse pushes beyond a total of n bytes, or with -cache delete what was not
//		read for the longest time (default no limit)
//	-max-uploads n
//		refuse to begin more than n uploads at a time (default 100000); a negative
//		number means no limit
//	-quota prefix=bytes
//		refuse pushes with which the repositories whose names are the prefix, or begin
//		with it and a slash, would hold more than a number of bytes. Each counts all of
//		its blobs and manifests. An empty prefix is for all repositories. It can be
//		repeated, and other programs may serve the directory, too
//
// The flags for directories are the following. The first is also for a proxy:
//
//	-read-only
//		refuse all pushes and deletes, and write nothing
//	-no-sync
//		do not wait for the disk: faster, but a power cut may lose what was pushed
//	-verify-reads
//		compare blobs with their digests when they are first read, so that no
//		damaged blob is served completely
//
// The flags to collect garbage, in memory or directories, are:
//
//	-gc-interval duration
//		collect garbage at once and then each time this has passed, such as 24h
//		(default never)
//	-gc-delay duration, -gc-untagged, -gc-dangling, -gc-policy file
//		those of ociserve gc: see below
//
// The other flags are:
//
//	-addr host:port
//		the address to listen on; port 0 picks a free one (default localhost:5000).
//		A socket that systemd passes to the program is used instead
//	-tls-cert file, -tls-key file
//		serve with TLS: the certificate, followed by those that lead to its root, and
//		its key. The files are read again when they have changed
//	-path-prefix path
//		serve below a path, such as /registry, and not at the root of the site
//	-allow-origin origin
//		let web pages of an origin, such as https://ui.example.com, use the
//		registry from a browser; * means all origins. It can be repeated
//	-upload-max n
//		refuse blobs of more than n bytes (default no limit)
//	-timeout duration
//		end requests whose client neither sends nor reads anything for this long
//		(default 5m); a negative duration means no limit
//	-web=false
//		serve no pages for browsers; by default, they are at /
//	-quiet
//		do not log requests, only problems
//	-log-format format
//		log text, which is the default, or json
//
// The program serves HTTP/1.1 and HTTP/2, the latter without TLS too. GET /healthz answers
// with status 200 as long as it serves.
//
// # Routes
//
// The flags -route and -ns lead to stores of their own:
//
//	ociserve -dir /srv/registry -route 'team/=dir:/srv/team;immutable' \
//		-route 'hub/=cache:registry-1.docker.io;dir=/srv/hub;strip'
//
// A store is a kind and its value, which are a flag for what to serve without its hyphen: mem,
// dir, layout, proxy or cache. After semicolons come settings, which are flags for stores
// without their hyphens. With the setting strip, a store has its repositories without the
// prefix: above, library/alpine is hub/library/alpine for clients.
//
// The longest prefix that matches a repository leads to its store. Repositories without a route
// are in what the other flags say; with -mem=false and nothing else to serve, there are none.
// The catalog has the repositories of all routes, a mount from one store to another copies the
// blob, and -gc-interval collects the garbage of all stores that can have some.
//
// # Rules
//
// The file that -mirror names is a JSON object such as this one:
//
//	{
//		"interval": "30m",
//		"sources": [
//			{
//				"registry": "registry.example",
//				"stall": "2m",
//				"rules": [{
//					"repositories": "team/**",
//					"destination": "mirror",
//					"tags": {"semver": true, "newest": 10},
//					"platforms": ["linux/amd64"],
//					"dropOthers": true,
//					"skipBrokenReferrers": true
//				}]
//			},
//			{
//				"onDemand": true,
//				"rules": [{"repositories": "library/", "tags": {"match": "^v"}, "onlySigned": true}]
//			}
//		]
//	}
//
// Each source is a registry in the form of -cache. Without a registry, the source is the
// one that is cached. A source from which nothing arrives for the time stall is not asked
// again for a while. The default is five minutes, and a negative time means no limit. A
// source that stalls does not delay others. An unknown field is an error.
//
// The rules of a source are those of ocicopy.Rule. The first rule that matches a
// repository applies. A rule has these fields, of which only the first is required:
//
//	repositories
//		a pattern of names: * matches anything within an element, and ** any number
//		of elements; a slash at the end is short for /**, and one at the beginning
//		has no meaning
//	destination
//		a prefix of the name here, which is followed by a slash
//	strip
//		true removes the part of the pattern before its first wildcard from the name
//	tags
//		an object that chooses tags: match is a regular expression, semver true
//		chooses semantic versions, including short forms such as 1.0 and v1, and
//		newest is the number of the highest versions to choose
//	platforms
//		a list of the platforms to copy, such as ["linux/amd64", "linux/arm/v7"]
//	dropOthers
//		true makes new indexes of only those platforms, which have other digests
//	onlySigned, signatureTypes
//		true leaves out images without a signature, of these types if they are given
//	withoutReferrers
//		true leaves out signatures and everything else that refers to images
//	skipBrokenReferrers
//		true copies an image without those of its signatures that cannot be read
//		completely, and logs that; otherwise such an image is not copied
//	delete
//		true deletes tags here that are gone at the source
//
// The content that the rules choose is copied when the program starts and then at each
// interval, which is an hour by default, so that it is present before it is asked for. The
// content of a source with onDemand is fetched and kept when it is asked for. A repository
// that a rule leads to has the tags that the rule chooses, and comes only from its source.
// (The field newest, and platforms without dropOthers, apply only to copies.) Other
// repositories come from the registry that is cached.
//
// Copied content counts for -max-bytes after it was first read.
//
// # Verification
//
// Verify reads the whole content of a directory that -dir or -layout serve, and prints what
// is wrong: content that does not match its digest, is missing or cannot be read. It
// changes nothing, and the directory may be served at the same time.
//
// With -repair, it moves damaged content to .ocifs/damaged in the directory, where nothing
// reads it, so that the next push, or the next pull through a cache, replaces it. If an
// index.json is damaged or missing, it makes a new one from the manifests that are present,
// without their tags. It cannot restore missing content.
//
// With -sparse, it does not report missing content that manifests name, because the
// directory of a cache does not have all of that.
//
// Its exit status is 0 if nothing is wrong or everything was repaired, and 1 otherwise.
//
// # Garbage
//
// Gc removes what a directory that -dir or -layout serve does not need, and prints what it
// removes and why. The directory may be served at the same time. Blobs that no manifest
// names are garbage, and so are upload sessions that nobody continues. These flags say what
// else is:
//
//	-untagged
//		manifests that no tag, index or subject keeps
//	-dangling
//		referrers, such as signatures, whose subject is gone, with their tags
//	-policy file
//		what policies say, for the repositories that they match
//
// Garbage stays for -delay, an hour by default. It counts from when content was last
// pushed, mounted or reported as present, or lost what kept it, so that clients can finish
// what they have begun. With -dry-run, nothing is removed. With -json, each thing that is
// removed is an object in JSON, and a last object counts them.
//
// A file of policies is a JSON object such as this one:
//
//	{
//		"policies": [
//			{
//				"repositories": ["team/**"],
//				"untagged": true, "untaggedDelay": "24h",
//				"dangling": true,
//				"keep": [
//					{"semver": true, "newest": 10},
//					{"match": "^main-", "lastPushed": 5, "pushedWithin": "30d"},
//					{"pulledWithin": "90d"}
//				]
//			}
//		]
//	}
//
// The first policy that matches a repository applies to it. Its fields are those of
// ocigc.Policy. Repositories are patterns as in the rules of -mirror, of which one must
// match. A tag is kept if one of the rules in keep holds, of which all fields must hold;
// without rules, all tags are kept. Match, semver and newest are as in the tags of -mirror.
// LastPushed is a number of tags, those that were pushed last. PushedWithin and pulledWithin
// are durations such as 12h or 30d.
//
// The exit status is 0 if all that is garbage was removed, or printed, and 1 otherwise.
//
// # Exit status
//
// The exit status is 0 after an interrupt, 1 if serving failed or a directory could not be
// brought up to date at the end, and 2 for invalid flags.
package main

import "github.com/seed-40b21970/oci/internal/serve"

func main() { serve.Program{}.Main() }
