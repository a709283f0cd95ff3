// Package ocitest has the contract of [ociregistry.Interface] as a test suite,
// and builds content for tests of programs that use a registry.
//
// # For those who implement a registry
//
// [Run] checks a backend, or a composition of several, against every clause of
// the contract:
//
//	func TestContract(t *testing.T) {
//		ocitest.Run(t, func(testing.TB) ociregistry.Interface { return New() }, nil)
//	}
//
// Each clause is a subtest of its own, such as
// TestContract/PushManifest/AllTagsOrNone, over a new registry of its own. What
// a registry is not meant to do is declared in [Options]; the suite then checks
// that it says so cleanly.
//
// # For those who use one
//
// [NewImage] and [NewIndex] make images, indexes and artifacts of any size,
// whose content depends on nothing but their [Spec]. [Artifact.Push] pushes one
// to any registry, and [Artifact.Verify] checks that a registry has it.
// [RegistryContent] describes the content of a whole registry by symbolic names.
package ocitest
