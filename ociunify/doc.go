// Package ociunify makes one registry of several. [New] shows the content of
// two registries as one, and [NewCache] puts a fast registry in front of a slow
// one, as a read-through cache. [Origins] makes one registry to read from of
// several that have the same.
//
// All of them work with any implementation of [ociregistry.Interface], and are
// one: they can be put on top of each other.
package ociunify
