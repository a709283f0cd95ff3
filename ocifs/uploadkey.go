package ocifs

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// uploadKey is the key of a directory's upload ids: a file of keySize random bytes
// that only its owner can read. The first process that needs it makes it. Whoever
// deletes the file ends all sessions without bytes.
//
// Nothing is synced. A power cut may take the file or leave zeros in it; that is as
// if it was deleted. What is no key, because it was damaged, is set aside when an id
// is to be issued, and a new one is made.
type uploadKey struct {
	store *store
	name  string
	last  atomic.Pointer[readKey]
}

const (
	keySize = 32
	keyPerm = 0o600
)

// readKey is a key that was read.
type readKey struct {
	info fs.FileInfo // of the file
	macs sync.Pool   // of *keyedMAC
}

// keyedMAC has room for the code, which would be on the heap otherwise.
type keyedMAC struct {
	hash.Hash
	sum [sha256.Size]byte
}

// mark gives an id its code.
func (r *readKey) mark(id *[idBytes]byte, repo string) {
	h := r.macs.Get().(*keyedMAC)
	h.Reset()
	h.Write(id[:idMark])
	io.WriteString(h, repo)
	copy(id[idMark:], h.Sum(h.sum[:0]))
	r.macs.Put(h)
}

// errNoKey is for a file that cannot be the key.
var errNoKey = errors.New("it is no key")

// load returns the key that the directory has now, or nil if it has none.
func (k *uploadKey) load() (*readKey, error) {
	key, _, err := k.look()
	if errors.Is(err, errNoKey) {
		return nil, nil
	}
	return key, err
}

// provide returns the key, and makes it if there is none.
func (k *uploadKey) provide() (*readKey, error) {
	const attempts = 10
	for range attempts {
		key, info, err := k.look()
		if key != nil {
			return key, nil
		}
		if errors.Is(err, errNoKey) {
			k.store.log.Warn("the key of upload sessions is damaged: sessions without bytes end", "file", k.name, "error", err)
			err = k.setAside(info)
		}
		if err == nil {
			err = k.make()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return nil, fmt.Errorf("%s: %w, and does not stay away", k.name, errNoKey)
}

// look returns the key, or nil if there is none, and what the system says of what is
// in its place.
func (k *uploadKey) look() (*readKey, fs.FileInfo, error) {
	info, err := k.store.fs.Lstat(k.name)
	if isAbsent(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if last := k.last.Load(); last != nil && sameFile(last.info, info) {
		return last, info, nil
	}
	if !info.Mode().IsRegular() || info.Size() != keySize {
		return nil, info, errNoKey
	}
	f, err := k.store.fs.OpenFile(k.name, os.O_RDONLY, 0)
	if isAbsent(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, info, err
	}
	defer f.Close()
	var text [keySize]byte
	n, err := f.ReadAt(text[:], 0)
	if err != nil && err != io.EOF {
		return nil, info, err
	}
	if info, err = f.Stat(); err != nil {
		return nil, info, err
	}
	if n < keySize || text == [keySize]byte{} {
		return nil, info, errNoKey
	}
	key := &readKey{info: info}
	key.macs.New = func() any { return &keyedMAC{Hash: hmac.New(sha256.New, text[:])} }
	k.last.Store(key)
	return key, info, nil
}

// setAside takes away what is in the place of the key and was found to be none.
func (k *uploadKey) setAside(found fs.FileInfo) error {
	moved, err := k.store.setAside(k.name)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if now, err := k.store.fs.Lstat(moved); err == nil && !os.SameFile(now, found) {
		return k.store.putBack(moved, k.name) // another process has just made it
	}
	return nil
}

// make makes a key, unless another process is first.
func (k *uploadKey) make() error {
	tmp, err := k.write()
	if err != nil {
		return err
	}
	err = k.store.nameNew(tmp, k.name, func() error { return makeDirs(k.store.fs, k.store.private) })
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// write writes a new key to a staged file.
func (k *uploadKey) write() (tmp string, err error) {
	f, tmp, err := k.store.staging.createWith(keyPerm)
	if err != nil {
		return "", err
	}
	var text [keySize]byte
	rand.Read(text[:])
	if err := fillAndClose(f, text[:]); err != nil {
		k.store.fs.Remove(tmp)
		return "", err
	}
	return tmp, nil
}
