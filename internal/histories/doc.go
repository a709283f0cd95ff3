// Package histories drives several processes that serve one registry, over HTTP, while
// they are killed and started again, and checks that what their clients got is what
// one registry would have answered which does one thing after the other
// (linearizability).
//
// A history is what some clients asked and got in a round of a second or so: pushes
// with conditions and with several tags, deletions, mounts, lists, and upload sessions
// that go on at another process. They know few repositories, tags, manifests and
// blobs, so that they get in each other's way. Processes are killed and interrupted
// at any moment, and clients break requests off. Package porcupine looks for an order
// of what each repository went through that explains all answers: see state for what
// a repository is, and step for what can happen to it. Of a request without an answer
// it may have been done or not, at some moment until the process died.
//
// The tests are short, unless they are told how long they may take:
//
//	OCI_HISTORIES=20m go test -C internal/histories -run TestProcesses -v -timeout 40m
//
// Processes over a bucket, which two servers of object storage lead to, have a test of their own. It is skipped
// if versitygw is not installed (internal/servers/install.sh), unless OCIBUCKET_SERVERS is set:
//
//	OCI_HISTORIES_BUCKET=20m go test -C internal/histories -run Bucket -v -timeout 40m
//
// OCI_HISTORIES_SEED chooses another course. What clients ask is the same for the same
// seed, but not when. So a history that is not linearizable is written to files: as a
// page that shows it, and as text, of which TestReplay makes the same page again.
//
// A backend is a row in a table of the test: the command of a process that serves what is
// in a directory.
//
// Another test has processes that collect garbage, and are killed, while clients use two
// others:
//
//	OCI_GC_STRESS=5m go test -C internal/histories -run TestGC -v -timeout 20m
//
// It is a module of its own, so that porcupine stays out of the library's
// requirements.
package histories
