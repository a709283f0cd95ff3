// Package interop pushes and pulls images with the clients that people use, to
// and from a freshly built ociserve: crane, regctl, oras, skopeo, podman and
// buildah; and through nginx in front of it. It has tests only.
//
// The clients are found in PATH. One command, from the root of the library,
// installs what is missing and runs everything (as root, for podman and
// buildah, and for the Debian packages that skopeo, podman, buildah and nginx come in):
//
//	internal/interop/install.sh DIR && PATH=DIR:$PATH go test -C internal/interop ./...
//
// A client that is missing is a failure. To run with some of them only, list
// them in OCI_INTEROP_CLIENTS, separated by commas; the tests of the others are
// then skipped. Cosign signs and verifies what is copied; its test is skipped where
// it is missing.
//
// The matrix of clients, podman, buildah and cosign run over buckets, too, in each of versitygw and Azurite
// that is in PATH, which internal/servers/install.sh installs; with OCIBUCKET_SERVERS they must be.
//
// No other registry is installed: the tests make images of their own, the same
// ones in every run. After each push they read what the registry holds by plain
// HTTP; after each pull they read what the client wrote; and both must be what
// was made, byte for byte; podman and buildah unpack images, and there the files
// are compared. After each test the server's log must have no request that failed
// in a way that the test does not expect.
//
// Directories are tested both ways, too: layouts that the clients wrote are served
// as they are, and the clients read and write in place what was pushed to a
// server, while it runs and when it has ended.
//
// The library's own client, ociclient, is tested with the registries of distribution
// and of go-containerregistry, which run in the test's process: see TestClient.
// That needs none of the programs:
//
//	go test -C internal/interop -run TestClient ./...
//
// It is a module of its own, so that what it may come to need stays out of the
// library's requirements.
package interop
