// Package disktest provides filesystems for tests. [Hooks] is that of the operating
// system, where a test sees each call and can make it fail. Faults (on Unix) makes
// calls of any filesystem fail by their number. Disk (on Unix) is in memory, and its
// power can be cut. [Bed] is a workspace over Hooks.
package disktest
