//go:build !linux

package ociunify_test

import "time"

func pause(d time.Duration) { time.Sleep(d) }
