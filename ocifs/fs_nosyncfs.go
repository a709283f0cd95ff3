//go:build !linux

package ocifs

import "errors"

func (osFS) SyncAll(string) error { return errors.ErrUnsupported }
