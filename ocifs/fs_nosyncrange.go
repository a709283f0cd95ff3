//go:build !linux || arm

package ocifs

// StartSync does nothing: package syscall has no such call here.
func (osFS) StartSync(file, int64, int64) {}
