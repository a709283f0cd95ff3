package uploads

import (
	"os"
	"strings"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// Bytes returns the total number of bytes in the files of the sessions.
func (u *Sessions) Bytes() (size int64, err error) {
	entries, err := u.work.FS.ReadDir(u.dir, 0)
	if err != nil && !disk.IsAbsent(err) {
		return 0, err
	}
	for _, e := range entries {
		id, isState := strings.CutSuffix(e.Name(), stateSuffix)
		if !isName(id) {
			continue
		}
		var n int64
		if isState {
			n, err = u.smallBytes(id)
		} else {
			n, err = u.dataBytes(id)
		}
		if err != nil && !disk.IsAbsent(err) {
			return 0, err
		}
		size += n
	}
	return size, nil
}

// smallBytes returns the number of bytes of content in a session's state file.
func (u *Sessions) smallBytes(id string) (int64, error) {
	info, err := u.work.FS.Lstat(u.statePath(id))
	if err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	f, err := u.work.FS.OpenFile(u.statePath(id), os.O_RDONLY, 0)
	if err != nil {
		return 0, nil // nobody can resume it
	}
	defer f.Close()
	var text stateText
	f.ReadAt(text[:], 0)
	st, err := parseSessionState(&text)
	if err != nil || !st.inline {
		return 0, nil
	}
	return st.size, nil
}

// dataBytes returns the number of bytes in a session's data file.
func (u *Sessions) dataBytes(id string) (int64, error) {
	info, err := u.work.FS.Lstat(u.dataPath(id))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
