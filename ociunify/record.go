package ociunify

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A record is a tag: the kind and a hash of the repository's name, the size, the
// time in nanoseconds since 1970, and the digest, separated by dots. It points at a
// manifest that contains the repository's name. Processes that share the cache registry
// have records of their own for the same content, by their times. Earlier versions wrote
// seconds, which are shorter and so sort before.

const mediaTypeRepository = "application/vnd.ociunify.repository+json"

type repositoryRecord struct {
	Repository string `json:"repository"`
}

var recordAlgorithms = map[string]digest.Algorithm{"a": digest.SHA256, "b": digest.SHA512}

// recordTag returns the record of content that is kept from now on.
func recordTag(h holding, size int64) string {
	algorithm := "a"
	if h.digest.Algorithm() == digest.SHA512 {
		algorithm = "b"
	}
	sum, _ := hex.DecodeString(h.digest.Encoded())
	return strings.Join([]string{
		string(rune(h.kind)) + repoHash(h.repo),
		strconv.FormatInt(size, 36),
		strconv.FormatInt(time.Now().UnixNano(), 36),
		algorithm + base64.RawURLEncoding.EncodeToString(sum),
	}, ".")
}

func repoHash(repo string) string {
	sum := sha256.Sum256([]byte(repo))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// parseRecord parses a record. It returns the entry, and the time as it is in the
// record. It looks up the name of each repository once, and adds it to repos.
func (l *ledger) parseRecord(ctx context.Context, tag string, repos map[string]string) (e *entry, time string, ok bool) {
	parts := strings.Split(tag, ".")
	if len(parts) != 4 || len(parts[0]) < 2 || len(parts[3]) < 2 {
		return nil, "", false
	}
	k, hash := kind(parts[0][0]), parts[0][1:]
	size, err := strconv.ParseInt(parts[1], 36, 64)
	sum, sumErr := base64.RawURLEncoding.DecodeString(parts[3][1:])
	d := digest.NewDigestFromEncoded(recordAlgorithms[parts[3][:1]], hex.EncodeToString(sum))
	if err != nil || sumErr != nil || size < 0 || k != kindBlob && k != kindManifest || ociregistry.CheckDigest(d) != nil {
		return nil, "", false
	}
	repo, known := repos[hash]
	if !known {
		repo = l.cache.recordedRepo(ctx, tag)
		repos[hash] = repo
	}
	if repoHash(repo) != hash {
		return nil, "", false
	}
	return &entry{holding: holding{k, repo, d}, size: size, record: tag}, parts[2], true
}

func (c *Cache) recordedRepo(ctx context.Context, tag string) string {
	rd, err := c.kept.GetTag(ctx, stateRepo, tag)
	if err != nil {
		return ""
	}
	m, err := readManifest(call.New("GetTag", stateRepo, tag), rd, "")
	var r repositoryRecord
	if err != nil || json.Unmarshal(m.contents, &r) != nil {
		return ""
	}
	return r.Repository
}

func (c *Cache) writeRecord(ctx context.Context, e *entry) error {
	contents, err := json.Marshal(repositoryRecord{e.repo})
	if err != nil {
		return err
	}
	_, err = c.cache.PushManifest(unconditional(ctx), stateRepo, e.record, contents, mediaTypeRepository)
	return err
}

func (c *Cache) deleteRecord(ctx context.Context, e *entry) {
	if err := c.cache.DeleteTag(ctx, stateRepo, e.record); err != nil && !notFound(err) {
		c.warn("cannot delete a record", call.New("DeleteTag", e.repo, string(e.digest)), err)
	}
}
