package disktest

import (
	"testing"
	"testing/synctest"
	"time"
)

// Still runs a test with a clock that stands still while the test works, however long that
// takes: what a registry puts off, such as the fold of a repository at rest, comes while the
// test waits, and at no other time. The clock begins with the time of the system, which files
// have.
func Still(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	now := time.Now().Round(0) // without the system's monotonic time
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(now))
		test(t)
	})
}
