// Package filestate notices that files have changed.
package filestate

import "os"

// State is what files were when [Look] looked at them.
type State []os.FileInfo

// Look looks at files. Whoever reads them looks before that, so that a change in between is
// noticed later.
func Look(names ...string) State {
	s := make(State, len(names))
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			s[i] = info
		}
	}
	return s
}

// Same reports whether the files, of which there are as many in both, were the same, and the
// same then. Files that did not exist are not.
func (s State) Same(before State) bool {
	for i, now := range s {
		then := before[i]
		if now == nil || then == nil || !os.SameFile(now, then) || now.Size() != then.Size() || !now.ModTime().Equal(then.ModTime()) {
			return false
		}
	}
	return true
}
