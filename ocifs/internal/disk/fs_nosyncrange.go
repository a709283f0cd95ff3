//go:build !linux || arm

package disk

// StartSync does nothing: package syscall has no such call on these systems.
func (OS) StartSync(File, int64, int64) {}
