// Package ociunify combines several registries into one. [New] shows the content
// of two registries as one. [Routes] leads repositories to registries by their names.
// [NewCache] puts a fast registry in front of a slow one, as a read-through cache.
// [Origins] reads from the first of several registries that answers.
//
// All of them accept any implementation of [ociregistry.Interface] and return one,
// so they can be stacked.
package ociunify
