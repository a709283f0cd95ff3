//go:build !unix

package ocifs_test

import "time"

func processorTime() (time.Duration, bool) { return 0, false }
