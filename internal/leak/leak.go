// Package leak tells tests what they have left running or open.
package leak

import (
	"math"
	"os"
	"runtime"
	"testing"
	"time"
)

// Count is what the process had at some time. Tests that run beside others have
// no use for it.
type Count struct{ goroutines, descriptors int }

// Goroutines returns a count of goroutines alone.
func Goroutines() Count { return Count{runtime.NumGoroutine(), math.MaxInt} }

// All returns a count of goroutines and, where the system tells their number, of
// file descriptors.
func All(t testing.TB) Count {
	t.Helper()
	return Count{runtime.NumGoroutine(), openDescriptors(t)}
}

// Check makes the test fail if there is more than there was. It has patience: a
// goroutine that has done its work takes a moment to be gone, and so does a
// connection whose other side was closed.
func (c Count) Check(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
		now := All(t)
		if now.goroutines <= c.goroutines && now.descriptors <= c.descriptors {
			return
		}
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines were %d, %d descriptors were %d\n%s",
				now.goroutines, c.goroutines, now.descriptors, c.descriptors, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// openDescriptors returns how many file descriptors the process has, or 0 where
// the system does not tell.
func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return len(entries)
}
