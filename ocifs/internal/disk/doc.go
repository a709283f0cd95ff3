// Package disk provides what ocifs needs from the operating system: files, locks,
// syncs that many callers share, and files that are written before they are named.
// Everything that differs between systems is here. The package knows nothing about
// blobs and repositories.
package disk
