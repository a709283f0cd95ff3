// Package ocifs is a registry in a directory, in which every repository is an
// OCI image layout: what is pushed over HTTP can be read in place by every tool
// that reads layouts (skopeo's oci:, regctl's ocidir://, oras, crane, umoci), and
// what such a tool wrote is served as it is.
//
// What was acknowledged survives the end of the process and, unless
// [Options.NoSync] is set, a power cut. The cost of a call does not grow with the
// number of repositories, tags and blobs. Several processes may use one directory
// at a time.
//
// # Files
//
// A repository NAME is the directory ROOT/NAME, an image layout (image-spec, "OCI
// Image Layout Specification") with one thing more:
//
//	oci-layout          the mark of a layout
//	index.json          an entry for each tag, and for each manifest without one
//	blobs/ALG/HEX       blobs and manifests
//	.ocifs/journal      changes that index.json does not have yet
//
// An element of NAME that a layout uses itself ("blobs", "index.json",
// "oci-layout"), or that is a device on Windows, has a "_" before it on disk. No
// element of a name begins with "_" or ".", so that names and directories
// correspond, and no name leads out of ROOT. Symbolic links are not followed.
//
// A repository exists while it holds something. Its directory is made in
// ROOT/.ocifs/staging and renamed, so that it is a valid layout as soon as it is
// there. When the last of its content is deleted, it is removed: files that are
// part of an empty layout, and directories that are empty.
//
// What is not part of a layout is in ROOT/.ocifs:
//
//	blobs/ALG/HEX       the pool: a second name (hard link) of each blob
//	uploads/ID.state    how much of an upload counts, and its content if that is small
//	uploads/ID          its content if that is larger
//	uploads.key         what the ids of uploads are known by
//	ended/HOUR          which uploads have ended that began in that hour
//	staging/RANDOM/     files that one process is writing, or has for more uploads
//	staging/RANDOM.lock locked as long as that process lives
//	unfolded/SUM        the name of a repository whose journal is to be folded
//	damaged/            what was damaged and has been moved out of the way
//
// [NewLayout] serves one layout, wherever it is; all of these are in its own
// .ocifs then.
//
// # Changes
//
// All changes of a repository but large blobs go through its journal, a file that
// is appended to: manifests with their contents and their tags, deleted tags and
// manifests, and blobs of up to 16 KiB with their contents. So a push is one
// append and one fsync, however many tags it sets, and whatever index.json has.
// Changes that come while one is being written are written together next, with
// one fsync for all.
//
// A process takes the lock of the journal (flock; LockFileEx on Windows), reads
// what others have appended, checks the change, and appends. The lock is held for
// no longer than that. Reading takes no lock: a call looks whether index.json or
// the journal have changed, and reads on if so. A change may be seen before it is
// durable and acknowledged; if it is seen in one process, it is in all of them.
//
// The journal begins with a header, whose generation is random. Each record has a
// length and a checksum, which is continued from the record before. An end that
// was not written whole has no valid checksum; it is ignored, and overwritten by
// the next change. It was never acknowledged.
//
// A larger blob is written to the staging directory and hashed on the way, synced,
// and linked into the pool and the layout, whose directory is synced. If the pool
// has the blob, what comes is compared with it, and not written again. If they
// differ, the old file was damaged, and the new one takes its place.
//
// # Folding
//
// The journal is folded when a repository was at rest for 0.3 seconds, when the
// Registry is closed, and when the journal has 32 MiB (or less, down to 4 MiB, if
// many repositories have one) and is longer than index.json:
//
//  1. Contents that only the journal has become files: they are written to the
//     staging directory, synced together, and then named, some at a time; their
//     directories are synced.
//  2. index.json is written anew, synced, and renamed into place; the directory is
//     synced. Entries that other programs wrote, and that were not changed, are
//     kept byte for byte.
//  3. The files of deleted manifests are removed.
//  4. The journal is cut to nothing and gets a header with a new generation.
//
// The lock of the journal is held for the naming, and from the rename of
// index.json to the end. What is written without it is of use only if the
// journal still says the same when the lock is held: contents that were deleted
// meanwhile get no name, and an index.json that lacks a change is thrown away.
//
// # Recovery
//
// At any point in this, index.json and the journal say together what was
// acknowledged: to apply a journal to an index.json that has its changes already
// makes no difference. So there is nothing to repair when a process has died. The
// next Registry removes what the dead one was writing (its lock is free), and
// folds the journals that it left.
//
// Upload sessions are not synced. After the end of a process they go on where they
// were when a writer was closed, or when they had more than 16 KiB, with the saved
// state of the hash. After a power cut, which is noticed by the system's boot id, the
// bytes are hashed again and must be what they were; else the session is unknown, or
// begins anew.
//
// # Upload sessions
//
// A session that nothing was written to is only its id: the time, random bits, and a
// code over these and the repository's name (HMAC-SHA-256). Every process knows it by
// the key, which the first one that needs it makes. The code keeps out ids that nobody
// issued, and authorizes nobody. To delete the key ends all sessions that have no bytes;
// a key that is damaged is set aside, and made anew.
//
// The first 16 KiB stay in memory until the writer is closed. When they are committed
// before, as those of a POST and a PUT are, they are in no file but the journal. What
// one process has in memory no other sees: when both have bytes for one session, the
// first that is closed wins, and the other's Close or Commit returns
// [ociregistry.ErrRangeInvalid].
//
// A session that was committed or cancelled is unknown from then on. If it never had
// files, only the process that ended it knows so: in another its id begins an empty
// session. A process remembers about a million of these ids; if there are more within
// [Options.UploadExpiry], it takes those that are as old as the first ones for ended.
//
// # Damage
//
// What is damaged or cannot be read fails the calls that are about it, and no others:
// lists leave it out, and the logger is told.
//
// Of a manifest that is missing, damaged or cannot be read it is not known what it
// names. As long as index.json has it, or something is in the place of an index's
// child, blobs are not deleted, and if it is an index, no manifests: the error is
// [ociregistry.ErrInUse]. The manifest itself can be deleted, and a push repairs it.
// An index's child that is not there is no damage: not all platforms need be here.
//
// A repository with blobs and no index.json, whose journal has no changes, returns
// [ErrNoIndex] and is not written to: the file was lost, or another program is about
// to write it.
//
// A journal is read up to the first record that is not whole, which is how one that
// was not acknowledged looks.
//
// [Registry.Verify] finds what is wrong, and [Registry.Repair] moves it out of the
// way.
//
// # Other programs
//
// They may read layouts at any time. What was pushed less than a second ago may not
// be there yet; what is there is complete: a manifest's file is there before
// index.json names it.
//
// They may add blobs, and replace index.json (by a rename, or in place), while the
// repository is not being pushed to: the next call sees it. Two programs that
// replace index.json at the same time lose one of the changes, as always with
// layouts; a Registry does not replace an index.json that has changed since it read
// it. An entry's tag is its org.opencontainers.image.ref.name if that is one, else
// what follows the last colon there ("repo:tag", or a full reference). Manifests
// that only an index names are served as well. Entries whose content is absent are
// not served, and kept. While there are such entries, no blob is deleted.
//
// They must leave .ocifs alone. When no Registry has the directory open, .ocifs may
// be deleted, except for journals that are longer than their header of 32 bytes;
// a directory that was closed has none.
//
// Without hard links (FAT, some network filesystems) blobs are stored once for each
// repository. Without file locks (Solaris, AIX, Plan 9, WebAssembly) only one
// Registry may have a directory open.
package ocifs
