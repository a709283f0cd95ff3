package ocifs_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// killKey names something that is there or not: a blob, a manifest or a tag. Its
// value is the digest, or "" if it is not there.
type killKey struct {
	repo string
	kind byte // 'b', 'm', 't'
	name string
}

func (key killKey) String() string { return fmt.Sprintf("%c %s %s", key.kind, key.repo, key.name) }

// killOp is an operation that a child has told of.
type killOp struct {
	killEvent
	began, ended int // positions in the log; ended is beyond its end if no end was reported
	pending      bool
	effects      map[killKey]string
	before       map[killKey]string // what its worker's keys were
}

func (op *killOp) String() string {
	state := cmp.Or(op.Refused, op.Unexpected, "acknowledged")
	if op.pending {
		state = "pending"
	}
	return fmt.Sprintf("[%d,%d] worker %d %s %s %.20s %q: %s", op.began, op.ended, op.Worker, op.Op, op.Repository, op.Digest, op.Tags, state)
}

// check compares what is there with what the round's children have told, and
// remembers it.
func (k *killRun) check(r *killRound) {
	ops := k.replay(r)
	var indexes map[string]diskIndex
	if r.stopped {
		indexes = k.readIndexes()
	}
	reg := r.survivor
	if reg == nil {
		reg = k.open()
		k.checkStaging(1)
	}
	k.checkKeys(reg, ops)
	k.checkPending(ops)
	if r.stopped {
		k.checkIndexes("after the children's Close", indexes)
	}
	k.checkLists(reg)
	k.checkSessions(reg)
	qt.Check(k, qt.IsNil(reg.Close()))
	if r.survivor != nil {
		qt.Check(k, qt.IsNil(k.open().Close())) // that removes what the dead have left
	}
	k.checkDisk()
}

// replay makes operations of events.
func (k *killRun) replay(r *killRound) []*killOp {
	type id struct{ child, n int }
	began := make(map[id]*killOp)
	var ops []*killOp
	for i, ev := range r.events {
		key := id{ev.Child, ev.N}
		switch {
		case !ev.Done:
			op := &killOp{killEvent: ev, began: i, ended: len(r.events), pending: true}
			began[key] = op
			ops = append(ops, op)
		case began[key] == nil:
			k.Fatalf("%s: an operation ended that had not begun: %+v", k.round, ev)
		default:
			began[key].killEvent, began[key].ended, began[key].pending = ev, i, false
		}
	}
	now := maps.Clone(k.known) // as each worker sees its own
	k.ended = nil
	for _, op := range ops {
		k.operations++
		if op.Unexpected != "" {
			k.Errorf("%s: unexpected error: %s", k.round, op)
		}
		if op.Refused != "" {
			continue
		}
		op.setEffects(now)
		if !op.pending {
			k.acknowledged++
			maps.Copy(now, op.effects)
		}
		k.replaySession(op)
	}
	return ops
}

// setEffects tells what the operation does, if that is done now.
func (op *killOp) setEffects(now map[killKey]string) {
	blob := killKey{op.Repository, 'b', string(op.Digest)}
	manifest := killKey{op.Repository, 'm', string(op.Digest)}
	op.effects = make(map[killKey]string)
	switch op.Op {
	case "PushBlob", "MountBlob", "Commit":
		op.effects[blob] = string(op.Digest)
	case "DeleteBlob":
		op.effects[blob] = ""
	case "PushManifest":
		op.effects[manifest] = string(op.Digest)
		for _, tag := range op.Tags {
			op.effects[killKey{op.Repository, 't', tag}] = string(op.Digest)
		}
	case "DeleteTag":
		op.effects[killKey{op.Repository, 't', op.Tags[0]}] = ""
	case "DeleteManifest":
		op.effects[manifest] = ""
		for key, to := range now {
			if key.repo == op.Repository && key.kind == 't' && to == string(op.Digest) {
				op.effects[key] = ""
			}
		}
	}
	op.before = make(map[killKey]string)
	for key := range op.effects {
		op.before[key] = now[key]
	}
}

// replaySession keeps account of upload sessions.
func (k *killRun) replaySession(op *killOp) {
	s := op.Session
	switch op.Op {
	case "PushBlobChunked":
		if op.pending {
			k.nameless++
			return
		}
		k.sessions[s.ID] = s
	case "Write":
		if !op.pending {
			k.sessions[s.ID] = s
		}
	case "Commit", "Cancel":
		if op.pending {
			s.Ending = op.Op
			k.sessions[s.ID] = s
			return
		}
		delete(k.sessions, s.ID)
		k.ended = append(k.ended, s)
	}
}

// checkKeys checks that everything has a value that it may have. That is the
// value of an operation after which no other one on it can have come, or the one
// that it had before the round, if no operation on it was acknowledged.
func (k *killRun) checkKeys(reg *ocifs.Registry, ops []*killOp) {
	byKey := make(map[killKey][]*killOp)
	for _, op := range ops {
		for key := range op.effects {
			byKey[key] = append(byKey[key], op)
		}
	}
	keys := slices.Collect(maps.Keys(k.known))
	for key := range byKey {
		if _, ok := k.known[key]; !ok {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		may := []string{k.known[key]}
		if slices.ContainsFunc(byKey[key], func(op *killOp) bool { return !op.pending }) {
			may = nil
		}
		for _, op := range byKey[key] {
			if !slices.ContainsFunc(byKey[key], func(later *killOp) bool { return !later.pending && later.began > op.ended }) {
				may = append(may, op.effects[key])
			}
		}
		got, err := readKey(reg, key)
		if err != nil || !slices.Contains(may, got) {
			k.Errorf("%s: %s is %q (%v), and can be %q only. It was %q, then\n\t%v", k.round, key, got, err, may, k.known[key], byKey[key])
		}
		k.known[key] = got
	}
}

// readKey reads the value of a key.
func readKey(reg *ocifs.Registry, key killKey) (string, error) {
	var r ociregistry.BlobReader
	var err error
	switch key.kind {
	case 'b':
		r, err = reg.GetBlob(killCtx, key.repo, ociregistry.Digest(key.name))
	case 'm':
		r, err = reg.GetManifest(killCtx, key.repo, ociregistry.Digest(key.name))
	case 't':
		r, err = reg.GetTag(killCtx, key.repo, key.name)
	}
	switch {
	case errors.Is(err, ociregistry.ErrNameUnknown), errors.Is(err, ociregistry.ErrBlobUnknown), errors.Is(err, ociregistry.ErrManifestUnknown):
		return "", nil
	case err != nil:
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	desc := r.Descriptor()
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest || int64(len(data)) != desc.Size {
		return "", fmt.Errorf("%d bytes of digest %s, want %d of %s", len(data), got, desc.Size, desc.Digest)
	}
	return string(desc.Digest), nil
}

// checkPending checks that what was not acknowledged has happened altogether or
// not at all. What all workers change is left out.
func (k *killRun) checkPending(ops []*killOp) {
	for _, op := range ops {
		var done, undone []killKey
		for key, value := range op.effects {
			switch {
			case !op.pending || value == op.before[key] || slices.Contains(op.Tags, "latest"):
			case k.known[key] == value:
				done = append(done, key)
			default:
				undone = append(undone, key)
			}
		}
		if done != nil && undone != nil {
			k.Errorf("%s: this is half done: %s\n\tdone: %v\n\tnot done: %v", k.round, op, done, undone)
		}
	}
}

// checkLists checks that the lists have what is there, and that nothing there
// names what is not.
func (k *killRun) checkLists(reg *ocifs.Registry) {
	tags := make(map[string][]string)
	for key, value := range k.known {
		if value == "" {
			continue
		}
		tags[key.repo] = append(tags[key.repo], "")
		switch key.kind {
		case 't':
			tags[key.repo] = append(tags[key.repo], key.name)
			if k.known[killKey{key.repo, 'm', value}] == "" {
				k.Errorf("%s: %s points at %s, which is not there", k.round, key, value)
			}
		case 'm':
			for kind, d := range k.refs(reg, key) {
				if k.known[killKey{key.repo, kind, string(d)}] == "" {
					k.Errorf("%s: %s names %c %s, which is not there", k.round, key, kind, d)
				}
			}
		}
	}
	repos, err := ociregistry.All(reg.Repositories(killCtx, ""))
	qt.Check(k, qt.IsNil(err))
	repos = slices.DeleteFunc(repos, isKillGarbage)
	qt.Check(k, qt.DeepEquals(repos, slices.Sorted(maps.Keys(tags))), qt.Commentf("%s", k.round))
	for repo, want := range tags {
		slices.Sort(want)
		got, err := ociregistry.All(reg.Tags(killCtx, repo, ""))
		qt.Check(k, qt.IsNil(err))
		want = slices.DeleteFunc(want, func(tag string) bool { return tag == "" })
		if !slices.Equal(got, want) {
			k.Errorf("%s: the tags of %s are %q, want %q", k.round, repo, got, want)
		}
	}
}

// refs returns what a manifest names, and whether that is a blob or a manifest.
func (k *killRun) refs(reg *ocifs.Registry, key killKey) func(yield func(byte, ociregistry.Digest) bool) {
	var m struct {
		Config            *ociregistry.Descriptor
		Layers, Manifests []ociregistry.Descriptor
	}
	r, err := reg.GetManifest(killCtx, key.repo, ociregistry.Digest(key.name))
	if err == nil {
		err = json.NewDecoder(r).Decode(&m)
		r.Close()
	}
	if err != nil {
		k.Errorf("%s: %s: %v", k.round, key, err)
	}
	return func(yield func(byte, ociregistry.Digest) bool) {
		if m.Config != nil {
			m.Layers = append(m.Layers, *m.Config)
		}
		for _, ref := range m.Layers {
			if !yield('b', ref.Digest) {
				return
			}
		}
		for _, ref := range m.Manifests {
			if !yield('m', ref.Digest) {
				return
			}
		}
	}
}

// checkSessions checks that open upload sessions can be resumed where it was
// acknowledged that they were, and that ended ones are gone: those that never had
// files may begin anew. Some it ends.
func (k *killRun) checkSessions(reg *ocifs.Registry) {
	for _, s := range k.ended {
		w, err := reg.PushBlobChunkedResume(killCtx, s.Repository, s.ID, -1, 0)
		if err == nil && s.Size == 0 && w.Size() == 0 {
			qt.Check(k, qt.IsNil(w.Close()))
		} else if !errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
			k.Errorf("%s: resuming the ended session %+v: error %v", k.round, s, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(k.sessions)) {
		s := k.sessions[id]
		w, err := reg.PushBlobChunkedResume(killCtx, s.Repository, id, -1, 0)
		if s.Ending != "" && errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
			delete(k.sessions, id)
			continue
		}
		blob := killBlob(s.Blob)
		if err != nil || w.Size() < s.Size || w.Size() > blob.Descriptor.Size {
			k.Errorf("%s: resuming the session %+v: error %v", k.round, s, err)
			delete(k.sessions, id)
			continue
		}
		s.Size, s.Ending = w.Size(), ""
		k.sessions[id] = s
		switch k.IntN(6) {
		case 0:
			delete(k.sessions, id)
			qt.Check(k, qt.IsNil(w.Cancel()))
		case 1:
			k.endSession(reg, s, blob.Descriptor.Digest, finishUpload(w, blob))
		case 2:
			prefix := digest.FromBytes(blob.Bytes()[:s.Size])
			_, err := w.Commit(prefix)
			k.endSession(reg, s, prefix, err)
		default:
			qt.Check(k, qt.IsNil(w.Close()))
		}
	}
}

// endSession checks that a session became a blob, with the given result.
func (k *killRun) endSession(reg *ocifs.Registry, s killSession, d ociregistry.Digest, err error) {
	delete(k.sessions, s.ID)
	key := killKey{s.Repository, 'b', string(d)}
	got, readErr := readKey(reg, key)
	if err := cmp.Or(err, readErr); err != nil || got == "" {
		k.Errorf("%s: the session %+v became %q (%v)", k.round, s, got, err)
	}
	k.known[key] = got
}
