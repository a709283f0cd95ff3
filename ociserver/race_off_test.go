//go:build !race

package ociserver_test

const raceDetector = false
