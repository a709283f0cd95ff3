// Package names maps names of repositories to directories below a root, and walks those that
// are there.
package names
