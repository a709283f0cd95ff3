// Package uploads keeps the sessions in which blobs arrive piece by piece: their ids,
// their content and state, in memory and in files that several processes share, and
// their end. The package knows nothing about repositories: a repository's name is a
// string to which a session belongs, and the caller decides what happens to complete
// content.
package uploads
