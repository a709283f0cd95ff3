// Package browser opens the pages of a freshly built ociserve in Chromium. It has tests only.
//
// Each kind of page is opened on a wide and on a narrow screen, light and dark. None may have a
// serious fault that axe-core finds, a message on the console, a request to another host, or
// more than the screen is wide; and the keyboard must reach everything, and show where it is.
//
// One command, from the root of the library, installs what is missing (as root, for the Debian
// packages) and runs everything:
//
//	OCI_BROWSER_AXE=$(internal/browser/install.sh) go test -C internal/browser ./...
//
// Without OCI_BROWSER_AXE the tests are skipped. With OCI_BROWSER_SCREENSHOTS, a directory, they
// leave pictures of all pages there, for somebody to look at.
//
// It is a module of its own, so that the client of Chromium stays out of the library's
// requirements.
package browser
