//go:build !linux

package disk

import "errors"

func (OS) SyncAll(string) error { return errors.ErrUnsupported }
