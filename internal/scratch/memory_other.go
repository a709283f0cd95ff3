//go:build !linux

package scratch

// memory returns "": no directory is known to be in memory.
func memory() string { return "" }
