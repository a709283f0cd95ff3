// Package blobs keeps blobs as files. It receives content and hashes it on the way,
// stages it, puts or links it into layout directories and into a pool that they all
// share, and reads, verifies and removes it. The package knows nothing about
// repositories: a layout is a directory, and its index.json does not matter here.
package blobs
