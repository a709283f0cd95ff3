// Ociserve serves an OCI registry from object storage.
//
// Usage:
//
//	ociserve [flags]
//	ociserve gc [flags] [directory]
//	ociserve verify [-repair] [-sparse] directory
//	ociserve verify -bucket url [-sparse] [-immutable]
//
// It is the program of the same name in the module that this one belongs to, with all of its
// flags and commands, and with these flags besides:
//
//	-bucket url
//		serve a bucket of object storage: see below. Any number of programs, on any
//		number of machines, can serve the same one
//	-redirect duration
//		send clients to the bucket for all but small blobs, by URLs that are valid
//		for this long, such as 10m, and for less than half a day. They must be able to
//		reach it. In AWS, a URL that temporary credentials have signed ends with these
//	-htpasswd file
//		let only the users in a file in, which htpasswd -B writes: see below
//	-anonymous-pull
//		with -htpasswd, let clients without a user pull and list
//
// With -cache, the bucket has what is kept, and several programs share it. With gc, the bucket
// is collected, and with verify, all of it is read and what is damaged or missing is named; the
// flags -immutable and -sparse must be those of the programs that serve it. With -quota, what other
// programs push into the bucket counts within half a minute: together they can exceed a quota by
// what is pushed meanwhile. The first push waits until the repositories of the prefix are counted.
//
// # Buckets
//
// The URL of a bucket of S3, or of what speaks its protocol, is
//
//	s3://BUCKET/PREFIX?region=REGION&endpoint=URL
//
// The prefix and the settings after it can be missing. Several registries can share a bucket by
// prefixes, of which none may be a prefix of another. The credentials, and what is missing, come
// from where the tools of AWS find them: the environment, such as AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY, the files in ~/.aws, or the machine. There are two more settings for
// services other than Amazon's: virtual-host=true puts the name of the bucket into the host of the
// endpoint, and no-delete-if-match=true says that deletes take no conditions.
//
// The URL of a container of Azure Blob Storage is
//
//	azure://CONTAINER/PREFIX?endpoint=URL
//
// with the account in the environment, as AZURE_STORAGE_ACCOUNT. The default of the endpoint is that
// of the account. The credentials are the account's key, if AZURE_STORAGE_KEY has it in the environment,
// or come from where the tools of Azure find them: the environment, such as AZURE_TENANT_ID,
// AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, the identity of a workload or of the machine, or az login;
// with AZURE_TOKEN_CREDENTIALS=prod, not the last. Without a key the role Storage Blob Data
// Contributor is needed; for -redirect, in the scope of the account, not of the container
// alone, and an endpoint whose host begins with the account's name. Connection strings and SAS
// tokens are not read.
//
// When the program starts, it finds out whether the storage keeps its promises, and refuses to
// serve from one that does not.
//
// # Users
//
// The file that -htpasswd names has a line for each user: a name, a colon, and a bcrypt hash of
// the password. Clients authenticate with HTTP's Basic scheme, so that TLS is needed, here or in a
// proxy in front. A user may do everything, with the API and with the pages. /healthz is for all.
//
// The file is read again, at the latest after a second, when it has changed. While it cannot be
// read, or has a line that is wrong, the users are those that it had before. To compare a password
// with a hash takes long, by design: that is done with half of the processors at most, and of each
// user the last right password is remembered for five minutes, by a hash with a key that is in
// memory only. A client that would wait for more than ten seconds is answered with status 429.
//
// With -anonymous-pull, Docker must log in even to pull: it does not use the Basic scheme
// without a user. Clients such as containerd, podman, skopeo, crane and regctl need not.
package main

import "github.com/seed-40b21970/oci/internal/serve"

func main() { program().Main() }

func program() serve.Program {
	return serve.Program{Storages: []serve.Storage{bucket()}, Access: access()}
}
