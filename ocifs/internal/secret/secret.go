// Package secret keeps the secret that all processes on a directory share. It is the key of
// the ids of upload sessions.
package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// A File is a file of [Size] random bytes that only its owner can read: the key of codes.
// The first process that needs it creates it. It is safe for concurrent use.
//
// Nothing is synced. A power cut may remove the file or leave zeros in it, which amounts to
// deleting it. A damaged file is set aside and replaced when a key is needed.
type File struct {
	Work *disk.Workspace
	Log  *slog.Logger
	Name string

	last atomic.Pointer[Key]
}

// Size is the size of a secret in bytes.
const Size = 32

// A Key is a secret that was read. It is safe for concurrent use.
type Key struct {
	info fs.FileInfo // of the file
	macs sync.Pool   // of *keyedMAC
}

// keyedMAC has room for the sum, which would otherwise be allocated on the heap.
type keyedMAC struct {
	hash.Hash
	sum [sha256.Size]byte
}

// Code writes to dst the first bytes of the HMAC-SHA-256 of text and name.
func (k *Key) Code(dst, text []byte, name string) {
	h := k.macs.Get().(*keyedMAC)
	h.Reset()
	h.Write(text)
	io.WriteString(h, name)
	copy(dst, h.Sum(h.sum[:0]))
	k.macs.Put(h)
}

// errNoKey means that a file cannot be the key.
var errNoKey = errors.New("it is no key")

// Load returns the present key, or nil if there is none.
func (f *File) Load() (*Key, error) {
	key, _, err := f.look()
	if errors.Is(err, errNoKey) {
		return nil, nil
	}
	return key, err
}

// Provide returns the key. It creates the key if there is none.
func (f *File) Provide() (*Key, error) {
	const attempts = 10
	for range attempts {
		key, info, err := f.look()
		if key != nil {
			return key, nil
		}
		if errors.Is(err, errNoKey) {
			f.Log.Warn("the key of upload sessions is damaged: sessions without bytes end", "file", f.Name, "error", err)
			err = f.setAside(info)
		}
		if err == nil {
			err = f.make()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil, fmt.Errorf("%s: %w, and does not stay away", f.Name, errNoKey)
}

// look returns the key, or nil if there is none, and the file information of whatever
// has its name.
func (f *File) look() (*Key, fs.FileInfo, error) {
	info, err := f.Work.FS.Lstat(f.Name)
	if disk.IsAbsent(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if last := f.last.Load(); last != nil && disk.Unchanged(last.info, info) {
		return last, info, nil
	}
	if !info.Mode().IsRegular() || info.Size() != Size {
		return nil, info, errNoKey
	}
	file, err := f.Work.FS.OpenFile(f.Name, os.O_RDONLY, 0)
	if disk.IsAbsent(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, info, err
	}
	defer file.Close()
	var text [Size]byte
	n, err := file.ReadAt(text[:], 0)
	if err != nil && err != io.EOF {
		return nil, info, err
	}
	if info, err = file.Stat(); err != nil {
		return nil, info, err
	}
	if n < Size || text == [Size]byte{} {
		return nil, info, errNoKey
	}
	key := &Key{info: info}
	key.macs.New = func() any { return &keyedMAC{Hash: hmac.New(sha256.New, text[:])} }
	f.last.Store(key)
	return key, info, nil
}

// setAside moves away the file that was found not to be a key.
func (f *File) setAside(found fs.FileInfo) error {
	moved, err := f.Work.SetAside(f.Name)
	if disk.IsAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if now, err := f.Work.FS.Lstat(moved); err == nil && !os.SameFile(now, found) {
		return f.Work.PutBack(moved, f.Name) // another process has just created it
	}
	return nil
}

// make creates a key, unless another process is first.
func (f *File) make() error {
	tmp, err := f.write()
	if err != nil {
		return err
	}
	err = f.Work.NameNew(tmp, f.Name, func() error { return disk.MakeDirs(f.Work.FS, f.Work.Dir) })
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// write writes a new key to a staged file.
func (f *File) write() (tmp string, err error) {
	var text [Size]byte
	rand.Read(text[:])
	return f.Work.CreateText(text[:], disk.SecretPerm)
}
