package main

import (
	"fmt"
	"time"
)

// row is a line of the tables: some work for the servers.
type row struct {
	name    string // as benchmarks are named
	clients int    // at a time
	ops     int    // operations in a sample

	// grows says that operations add content: all of them are done, so that
	// servers end with the same. Others stop after scale.limit.
	grows bool

	// sustained says that servers which wait for the disk do all operations too:
	// so many that none can put off its work until there is a pause.
	sustained bool

	// cold says that the server is not used before the operations: they are the
	// first of its life.
	cold bool

	// stock is what the server has before the work is prepared. Nil is nothing.
	stock stock

	// restart says that the server's process is another one than that which
	// prepared the work, and is not used before the operations.
	restart bool

	// opening says that what the new process does before it can be asked counts
	// as well.
	opening bool

	// delay is how long each request to the store waits, beside what it takes.
	delay time.Duration

	scale scale

	// work returns the work for operations that are numbered from 0 to n-1.
	work func(n int) work
}

// work is what a row does.
type work struct {
	// prepare brings a new server into the state that the operations need, and
	// checks that it answers them as it should. An error means that the server
	// cannot do the row.
	prepare func(c *client, s server) error

	// do is one operation. If the repository is shared, numbers of operations
	// go on from sample to sample.
	do func(c *client, i int) error

	// hash does the hashing that operation i cannot do without. It is nil if
	// there is none.
	hash func(i int)
}

// scale says how much work there is.
type scale struct {
	small, large int64           // sizes of blobs in bytes
	layer        int64           // the size in bytes of the layer of an image that has one
	object       int64           // the size in bytes of a large blob in a bucket
	few, many    int             // numbers of tags
	tags         []int           // numbers of tags for comparison with each other; pushing the last takes long
	page         int             // size of a page of tags
	repos        int             // number of repositories, where there are many
	bucketTags   int             // number of tags of a repository in a bucket
	delays       []time.Duration // of requests to the store
	divisor      int             // of the number of operations
	objectDiv    int             // the same over object storage, where they are few
	limit        time.Duration   // for operations
	rest         time.Duration   // a pause after which a server has nothing left to do
	prepare      time.Duration   // for pushing tags
	counts       int             // default of -counts
	discard      int             // rounds before those that count
}

var (
	fullScale = scale{
		small: 4 << 10, large: 128 << 20, layer: 1 << 20, object: 64 << 20, few: 300, many: 5000, tags: []int{10, 1000, 100_000}, page: 100, repos: 10_000, bucketTags: 1000, delays: storeDelays,
		divisor: 1, objectDiv: 1, limit: time.Second, rest: 400 * time.Millisecond, prepare: 2 * time.Minute, counts: 6, discard: 1,
	}
	// pageScale is that of the committed page.
	pageScale = scale{
		small: 4 << 10, large: 32 << 20, layer: 1 << 20, object: 64 << 20, few: 300, many: 5000, tags: []int{1000, 100_000}, page: 100, repos: 10_000, bucketTags: 1000, delays: storeDelays,
		divisor: 8, objectDiv: 2, limit: 200 * time.Millisecond, rest: 100 * time.Millisecond, prepare: 30 * time.Second, counts: 3,
	}
	shortScale = scale{
		small: 4 << 10, large: 256 << 10, layer: 64 << 10, object: 256 << 10, few: 30, many: 60, tags: []int{10, 20, 40}, page: 10, repos: 40, bucketTags: 10, delays: []time.Duration{time.Millisecond},
		divisor: 500, objectDiv: 500, limit: 50 * time.Millisecond, prepare: 10 * time.Second, counts: 1,
	}
)

// heldBlobs is how many large blobs a server has that is to do something else.
const heldBlobs = 4

// coldOps is how many operations a server that is cold does.
const coldOps = 128

// rows returns all rows. The numbers of operations are those of about half a
// second, or at least one for each client.
func rows(s scale) []row {
	data := randomBytes(s.large)
	small, large := data[:s.small], data
	push, patch := (*client).pushBlob, (*client).patchBlob
	fewTags, manyTags := newTagged(s.few, s), newTagged(s.many, s)
	table := []row{
		{name: "BlobPush/size=" + size(s.small), clients: 1, ops: 4000, grows: true, work: pushBlobs(small, push)},
		{name: "BlobPush/size=" + size(s.small), clients: 16, ops: 8000, grows: true, work: pushBlobs(small, push)},
		{name: "BlobPush/size=" + size(s.small), clients: 64, ops: 8000, grows: true, sustained: true, work: pushBlobs(small, push)},
		{name: "BlobPush/size=" + size(s.large), clients: 1, ops: 5, grows: true, work: pushBlobs(large, push)},
		{name: "BlobPush/size=" + size(s.large), clients: 16, ops: 16, grows: true, work: pushBlobs(large, push)},
		{name: "BlobPatch/size=" + size(s.small), clients: 1, ops: 3000, grows: true, work: pushBlobs(small, patch)},
		{name: "BlobPatch/size=" + size(s.small), clients: 16, ops: 6000, grows: true, work: pushBlobs(small, patch)},
		{name: "BlobPatch/size=" + size(s.large), clients: 1, ops: 5, grows: true, work: pushBlobs(large, patch)},
		{name: "BlobPushCold/size=" + size(s.small), clients: 1, ops: coldOps, grows: true, sustained: true, cold: true, work: pushBlobs(small, push)},
		{name: "BlobPushCold/size=" + size(s.small), clients: 16, ops: coldOps, grows: true, sustained: true, cold: true, work: pushBlobs(small, push)},
		{name: "BlobPatchCold/size=" + size(s.small), clients: 1, ops: coldOps, grows: true, sustained: true, cold: true, work: pushBlobs(small, patch)},
		{name: "BlobPatchCold/size=" + size(s.small), clients: 16, ops: coldOps, grows: true, sustained: true, cold: true, work: pushBlobs(small, patch)},
		{name: "BlobPull/size=" + size(s.small), clients: 1, ops: 8000, work: pullBlobs(small, 16)},
		{name: "BlobPull/size=" + size(s.small), clients: 16, ops: 16000, work: pullBlobs(small, 16)},
		{name: "BlobPull/size=" + size(s.large), clients: 1, ops: 10, work: pullBlobs(large, 1)},
		{name: "BlobPull/size=" + size(s.large), clients: 16, ops: 16, work: pullBlobs(large, 1)},
		{name: "BlobHead/size=" + size(s.large), clients: 1, ops: 10000, work: headBlob(large)},
		{name: "ManifestPut", clients: 1, ops: 5000, grows: true, work: putManifests},
		{name: "ManifestPut", clients: 16, ops: 10000, grows: true, work: putManifests},
		{name: "ManifestPut", clients: 64, ops: 12000, grows: true, sustained: true, work: putManifests},
		{name: "ManifestGet", clients: 1, ops: 8000, work: getManifests(16)},
		{name: "ManifestGet", clients: 16, ops: 16000, work: getManifests(16)},
		{name: "ManifestGet/beside=" + size(heldBlobs*s.large), clients: 16, ops: 16000, work: getManifestsBeside(large, heldBlobs, 16)},
		{name: tags("TagPage", s.few), clients: 1, ops: 8000, stock: fewTags, work: fewTags.page(s.page)},
		{name: tags("TagPage", s.many), clients: 1, ops: 8000, stock: manyTags, work: manyTags.page(s.page)},
		{name: tags("TagList", s.few), clients: 1, ops: 8000, stock: fewTags, work: fewTags.list()},
		{name: tags("TagList", s.many), clients: 1, ops: 1000, stock: manyTags, work: manyTags.list()},
	}
	for i, n := range s.tags {
		repo := newTagged(n, s)
		repo.shared = i == len(s.tags)-1
		table = append(table,
			row{name: tags("TagPage", n), clients: 1, ops: 8000, stock: repo, work: repo.page(s.page)},
			row{name: tags("ManifestGet", n), clients: 1, ops: 8000, stock: repo, work: repo.get(16)},
			row{name: tags("ReopenGet", n), ops: 1, restart: true, opening: true, stock: repo, work: repo.get(16)},
			row{name: tags("TagPut", n), clients: 1, ops: 2000, grows: true, stock: repo, work: repo.put},
		)
	}
	repos := &manyRepos{s.repos, s.prepare}
	table = append(table,
		row{name: fmt.Sprintf("RepoPage/repos=%d", s.repos), ops: 2000, stock: repos, work: repos.page(s.page)},
		row{name: fmt.Sprintf("ReopenRepoPage/repos=%d", s.repos), ops: 1, restart: true, opening: true, stock: repos, work: repos.page(s.page)},
	)
	for _, clients := range []int{2, 10} {
		table = append(table,
			row{name: "ImagePush/layer=" + size(s.layer), clients: clients, ops: 200, grows: true, work: pushImages(s.layer, (*ownImage).push)},
			row{name: "ImagePull/layer=" + size(s.layer), clients: clients, ops: 400, work: pullImages(s.layer)},
			row{name: "ImageMixed/layer=" + size(s.layer), clients: clients, ops: 400, grows: true, work: mixImages(s.layer)},
		)
	}
	table = append(table, cacheRows(s)...)
	table = append(table, bucketRows(s)...)
	table = append(table, libraryRows(s)...)
	for i := range table {
		r := &table[i]
		r.clients = max(r.clients, 1)
		r.name += fmt.Sprintf("/clients=%d", r.clients)
		divisor := s.divisor
		if isBucketRow(r.name) {
			divisor = s.objectDiv
		}
		r.ops = max(r.ops/divisor, r.clients)
		r.scale = s
	}
	return table
}

// opsOn returns the number of operations for a server: fewer where each one
// waits for the disk.
func (r *row) opsOn(s server) int {
	if r.grows && !r.sustained && s.storage == durable {
		return max(r.ops/10, min(r.ops, 16), r.clients)
	}
	return r.ops
}

func tags(name string, n int) string { return fmt.Sprintf("%s/tags=%d", name, n) }

// size returns a number of bytes as people write it.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprintf("%dB", n)
}
