// Package ocitest has the contract of [ociregistry.Interface] as a test suite, and builds
// content for tests of programs that use a registry.
//
// # Testing a registry
//
// [Run] checks a backend, or a composition of several, against every clause of the
// contract:
//
//	func TestContract(t *testing.T) {
//		ocitest.Run(t, func(testing.TB) ociregistry.Interface { return New() }, nil)
//	}
//
// Each clause is a subtest with its own new registry, such as
// TestContract/PushManifest/AllTagsOrNone. [Options] declares what a registry does not
// do. The suite then checks that the registry returns the right errors.
//
// # Testing a program that uses a registry
//
// [NewImage] and [NewIndex] build images, indexes and artifacts of any size, whose
// content depends only on their [Spec]. [Artifact.Push] pushes one to any registry, and
// [Artifact.Verify] checks that a registry has it. [RegistryContent] describes the
// content of a whole registry by symbolic names.
package ocitest
