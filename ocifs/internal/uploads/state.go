package uploads

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// sessionState is the stored state of an upload session. Its file has:
//
//	bytes  what
//	0-15   stateMagic, or zeros if the session has ended
//	16-19  CRC-32 (IEEE) of everything that follows
//	20     1 if the session can only be committed, 2 if its content is a blob's as well
//	21     1 for SHA-256, 2 for SHA-512
//	22     1 if the content is in this file, from stateSize on
//	24-31  size of the content
//	32-47  boot
//	48-51  CRC-32C of the content, if it is in this file
//	52-107 the session's id: the file may have been another's
//	108-   length and text of the repository's name, and of the hash state
//
// Numbers are little-endian, and lengths have two bytes. The state is shorter than a
// page, and is written completely by one call.
type sessionState struct {
	id     string
	repo   string
	alg    digest.Algorithm
	size   int64
	sealed bool // the session can only be committed
	stored bool // the content is a blob's, which accounts for the bytes
	boot   bootID
	hash   []byte // as the hash's MarshalBinary returns it

	inline bool   // the content is in the state file, and sum is its checksum
	sum    uint32 // CRC-32C
}

const (
	stateMagic = "ocifs upload 3\n\x00"
	stateSize  = 640
)

// stateText is a sessionState as it is stored.
type stateText [stateSize]byte

var errState = errors.New("malformed state of an upload session")

// newSessionState returns the state of a session without content. An algorithm that
// cannot name blobs was only a hint, and is replaced by SHA-256.
func newSessionState(id, repo string, alg digest.Algorithm, boot bootID) sessionState {
	if alg != digest.SHA512 {
		alg = digest.SHA256
	}
	st := sessionState{id: id, repo: repo, alg: alg, boot: boot}
	st.setHash(alg.Hash())
	return st
}

// setContent makes text, which is small, the content.
func (st *sessionState) setContent(text string) {
	st.inline, st.size, st.sum = true, int64(len(text)), contentSum(text)
}

// setStaged makes the content that of a file.
func (st *sessionState) setStaged(content *blobs.Staged) {
	st.inline, st.size, st.stored = false, content.Size(), content.Reserved() == 0
	st.setHash(content.Hash())
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func contentSum(text string) uint32 { return crc32.Checksum([]byte(text), castagnoli) }

// setHash saves the state of h. All supported hashes can be saved.
func (st *sessionState) setHash(h hash.Hash) {
	st.hash, _ = h.(encoding.BinaryAppender).AppendBinary(st.hash[:0])
}

// newHash returns the hash that was saved.
func (st *sessionState) newHash() (hash.Hash, error) {
	h := st.alg.Hash()
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(st.hash)
}

// counted returns the number of bytes of the quota that are reserved for the session.
func (st *sessionState) counted() int64 {
	if st.stored {
		return 0
	}
	return st.size
}

// encode returns the stored form of the state. It fails if the id is not one, or the
// repository's name is too long.
func (st *sessionState) encode() (text stateText, err error) {
	b := append(make([]byte, 0, stateSize), stateMagic...)
	b = append(b, 0, 0, 0, 0, 0, 1, 0, 0)
	switch {
	case st.stored:
		b[20] = 2
	case st.sealed:
		b[20] = 1
	}
	if st.alg == digest.SHA512 {
		b[21] = 2
	}
	if st.inline {
		b[22] = 1
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(st.size))
	b = append(b, st.boot[:]...)
	b = binary.LittleEndian.AppendUint32(b, st.sum)
	b = append(b, st.id...)
	b = append(binary.LittleEndian.AppendUint16(b, uint16(len(st.repo))), st.repo...)
	b = append(binary.LittleEndian.AppendUint16(b, uint16(len(st.hash))), st.hash...)
	if len(st.id) != idLen || len(st.repo) > stateSize || len(b) > stateSize {
		return text, errState
	}
	copy(text[:], b)
	binary.LittleEndian.PutUint32(text[16:], crc32.ChecksumIEEE(text[20:]))
	return text, nil
}

// parseSessionState is the inverse of encode. It returns errState for anything that
// encode does not return.
func parseSessionState(text *stateText) (st sessionState, err error) {
	if string(text[:16]) != stateMagic || binary.LittleEndian.Uint32(text[16:]) != crc32.ChecksumIEEE(text[20:]) {
		return st, errState
	}
	switch text[21] {
	case 1:
		st.alg = digest.SHA256
	case 2:
		st.alg = digest.SHA512
	default:
		return st, errState
	}
	st.sealed, st.stored, st.inline = text[20] > 0, text[20] == 2, text[22] == 1
	st.size = int64(binary.LittleEndian.Uint64(text[24:]))
	copy(st.boot[:], text[32:])
	st.sum = binary.LittleEndian.Uint32(text[48:])
	id, rest := text[52:52+idLen], text[52+idLen:]
	repo, rest, ok1 := cutCounted(rest)
	saved, _, ok2 := cutCounted(rest)
	if !ok1 || !ok2 || st.size < 0 || st.inline && st.size > MaxSmall {
		return st, errState
	}
	st.id, st.repo, st.hash = string(id), string(repo), append([]byte(nil), saved...)
	return st, nil
}

// cutCounted splits b, which begins with the length of a text, into the text and the
// rest.
func cutCounted(b []byte) (text, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	b = b[2:]
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// bootID identifies the time between two boots of the system. During that time, bytes
// that were written can be read, synced or not. If the system has no such identifier,
// a bootID identifies the life of one process instead.
type bootID [16]byte

func currentBoot(fsys disk.FS) (id bootID) {
	text, err := readBoot(fsys)
	if err != nil || text == "" {
		rand.Read(id[:])
		return id
	}
	sum := sha256.Sum256([]byte(text))
	copy(id[:], sum[:])
	return id
}

// readBoot reads the boot id of Linux (random(4)).
func readBoot(fsys disk.FS) (string, error) {
	f, err := fsys.OpenFile("/proc/sys/kernel/random/boot_id", os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64))
	return strings.TrimSpace(string(text)), err
}
