//go:build race

package ociserver_test

// raceDetector says that the race detector watches, which takes memory of its own.
const raceDetector = true
