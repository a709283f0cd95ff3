// Package ocifs implements a registry in a directory. Every repository is an OCI image
// layout: tools that read layouts (skopeo's oci:, regctl's ocidir://, oras, crane,
// umoci) can read in place what was pushed over HTTP, and what such a tool wrote is
// served as it is.
//
// Changes are durable by default. The cost of a call does not grow with the number of
// repositories, tags and blobs. Several processes may use one directory at the same
// time.
//
// # Layout on disk
//
// The repository NAME is the directory ROOT/NAME, an image layout (image-spec, "OCI
// Image Layout Specification") with additions in .ocifs:
//
//	oci-layout          marks the directory as a layout
//	index.json          an entry for each tag, and for each manifest without a tag
//	blobs/ALG/HEX       blobs and manifests
//	.ocifs/journal      changes that index.json does not have yet
//	.ocifs/snapshot     what index.json says, and what manifests say
//
// An element of NAME that a layout uses itself ("blobs", "index.json", "oci-layout"),
// or that is a device on Windows, has the prefix "_" on disk. No element of a name
// begins with "_" or ".", so names correspond to directories one to one, and no name
// leads out of ROOT. Symbolic links are not followed.
//
// A repository exists while it holds a blob, a manifest or a tag. Its directory is
// made in ROOT/.ocifs/staging and then renamed, so it is a valid layout as soon as it
// appears. When the last content of a repository is deleted, the files that belong to
// an empty layout are removed, and so are the directories that are empty.
//
// ROOT/.ocifs has everything that is not part of a layout:
//
//	blobs/ALG/HEX       the pool: a second name (hard link) of each blob
//	uploads/ID.state    the size and state of an upload, and its content if small
//	uploads/ID          the content of a larger upload
//	uploads.key         the key by which ids of uploads are recognized
//	ended/HOUR          which of the uploads that began in that hour have ended
//	staging/RANDOM/     files that one process is writing, or keeps for more uploads
//	staging/RANDOM.lock locked as long as that process lives
//	unfolded/NAME       a mark that the repository was changed, and is to be folded; ! is a slash
//	watched/NAME        the same, once [Registry.Usage] was called
//	changes             the names of repositories that were folded, for that method
//	usage               how many bytes repositories had when they were counted
//	pulls/SUM           when manifests of a repository were last pulled
//	damaged/            damaged files that were moved out of the way
//
// [NewLayout] serves a single layout, wherever it is. All of these files are then in
// the layout's own .ocifs directory.
//
// # Durability
//
// A call that changes something returns when the change is durable: it survives the
// end of the process at any instant, and a power cut.
//
// With [Options.NoSync], calls return without waiting for the disk. Only index files
// are synced, in the background, before they replace others. An acknowledged change
// still survives the end of the process at any instant, but not a power cut:
// afterwards content may be missing or damaged, index.json included. [Registry.Repair]
// moves what is damaged out of the way.
//
// Upload sessions are not synced, with or without NoSync. See "Upload sessions" below
// for what becomes of them.
//
// # Changes
//
// All changes of a repository except large blobs go through its journal, a file that
// is appended to: manifests with their contents and their tags, deletions of tags and
// manifests, and blobs of up to 16 KiB with their contents. A push is therefore one
// append and one fsync, regardless of how many tags it sets and how much index.json
// has. Changes that arrive during a write are written together in the next one, with
// one fsync for all.
//
// The journal begins with a header that has a random generation. Each record has a
// length and a checksum that continues the checksum of the record before. A record
// that was not written completely has no valid checksum. It was never acknowledged; it
// is ignored, and the next change overwrites it.
//
// A larger blob is written to the staging directory and hashed on the way, synced, and
// linked into the pool and the layout, whose directory is then synced. If the pool
// already has the blob, the incoming bytes are compared with it and not written again.
// If they differ, the old file was damaged, and the new one replaces it.
//
// # Several processes
//
// Several processes may use one directory at the same time. To make a change, a process
// takes the lock of the repository's journal (flock; LockFileEx on Windows), reads the
// records that others have appended, checks the change, and appends it. It holds the
// lock no longer than that.
//
// Reading takes no lock. A call checks whether index.json or the journal has changed,
// and if so, reads the rest. A change may be visible before it is durable and
// acknowledged. Once one process sees it, all of them do.
//
// Without file locks (Solaris, AIX, Plan 9, WebAssembly) only one [Registry] may have
// a directory open.
//
// # Folding
//
// To fold a journal is to bring index.json up to date with it. This happens when a
// repository was at rest for 0.3 seconds, when the Registry is closed, and when the
// journal has reached 32 MiB (or less, down to 4 MiB, if many repositories have a
// journal) and is longer than index.json:
//
//  1. Contents that only the journal has become files. They are written to the
//     staging directory, synced together, and then named a few at a time. Their
//     directories are synced.
//  2. A new index.json is written, synced, and renamed into place. The directory is
//     synced. Entries that other programs wrote, and that were not changed, are kept
//     byte for byte. A snapshot for the new index.json follows, which is not synced.
//  3. The files of deleted manifests are removed.
//  4. The journal is truncated and gets a header with a new generation.
//
// The journal is locked while contents are named, and from the rename of index.json to
// the end. Files that were written without the lock are used only if the journal still
// says the same once the lock is held: contents that were deleted in the meantime get
// no name, and an index.json that lacks a change is discarded.
//
// # Snapshots
//
// A snapshot has what index.json says and what manifests say: their types, what they
// name, their subjects. A process that opens a repository with a snapshot parses no
// index.json and reads no manifests. The snapshot is used as it lies in the file, and takes
// little memory.
//
// It says for which index.json it was made, by the length and two checksums of the text,
// and has a checksum of its own. One that is missing, damaged or for another index.json is
// ignored. It can be deleted at any time, and a copy of the tree keeps it. If another
// program replaces index.json, the first process that has to read all manifests writes a
// new snapshot, unless [Options.ReadOnly] is set. An index.json of less than 1 KiB has none.
//
// # Recovery
//
// At every point of a fold, index.json and the journal together contain everything
// that was acknowledged: applying a journal to an index.json that already has its
// changes makes no difference. There is nothing to repair after a process has died. The
// next Registry removes the files that the dead process was writing (its lock is free),
// and folds the journals that it left.
//
// # Upload sessions
//
// After the end of a process, an upload session continues where it was when a writer
// was closed, or with everything it had if that was more than 8 MiB. The state of the
// hash is saved with it. After a power cut, which the system's boot id reveals, the
// bytes are hashed again and must be what they were. Otherwise the session is unknown,
// or begins anew.
//
// A session without bytes consists of its id alone: the time, random bits, and an
// authentication code (HMAC-SHA-256) over these and the repository's name. Every
// process recognizes the id by the key, which the first process that needs it makes.
// The code rejects ids that nobody issued; it authorizes nobody. Deleting the key ends
// all sessions without bytes. A damaged key is set aside and replaced.
//
// Until the writer is closed, the first 16 KiB stay in memory, and up to 8 MiB in the
// process's staging directory. If they are committed before that, as those of a POST
// and a PUT are, nothing is locked or written for the session. Other processes do not
// see what one process has in this way. If two processes have bytes for one session,
// the first whose writer is closed wins, and Close or Commit of the other returns
// [ociregistry.ErrRangeInvalid].
//
// A session that was committed or cancelled is unknown from then on. If it never had
// files, only the process that ended it knows: in another process its id begins an
// empty session. A process remembers about a million of these ids. If more sessions
// end within [Options.UploadExpiry], it treats all that are as old as the first ones
// as ended.
//
// # Garbage
//
// The delay of [Registry.GC] counts from the modification times of files. They are set anew
// when content is pushed or mounted again, reported as present, or loses what kept it, but not
// more often than every few seconds; to make up for that, everything stays for 10 seconds
// longer. A file that several repositories share is as young in each as in the youngest. The
// time of a file that belongs to another user stays as it is. Times are not synced.
//
// The times at which tags were set are in the journal and the snapshot. For a tag that has
// none there, the time of its manifest counts. Pulls are written down every 10 minutes, and by
// Close: those of other processes since then are unknown.
//
// In the journal, a process announces what it may delete before it looks how old that is. A
// call that is about to report it as present waits then, and looks again. So several processes
// can collect garbage while others use the directory. Nobody waits for longer than it takes to
// delete a few things.
//
// A manifest that cannot be read, or an entry of index.json that is not understood, keeps
// everything in its repository. Programs that add blobs with old modification times before
// they write index.json must not run during a collection.
//
// # Errors
//
// Methods return the errors of [ociregistry.Interface], wrapped in an
// [ociregistry.OpError] that has the operation, the repository and the reference.
// Other errors are those of the filesystem and of the context. After Close, the error
// is an [fs.ErrClosed].
//
// Damaged or unreadable content fails the calls that are about it, and no others. Lists
// omit it and report it to [Options.Logger].
//
// The references of a manifest that is missing, damaged or unreadable are unknown, unless
// a snapshot has them. As long as index.json names a manifest of unknown references, or something damaged or unreadable is in the
// place of a child of an index, no blob can be deleted. If the manifest is an index, no
// manifest can be deleted, either. The error is [ociregistry.ErrInUse]. The manifest
// itself can be deleted, and a push repairs it. A missing child of an index is not
// damage, because not every platform need be present.
//
// A repository that has blobs but no index.json, and whose journal has no changes,
// returns [ErrNoIndex] and is not written to: the file was lost, or another program is
// about to write it.
//
// A journal is read up to the first incomplete record, since a change that was not
// acknowledged looks the same.
//
// [Registry.Verify] finds damage, and [Registry.Repair] moves it out of the way.
//
// # Other programs
//
// Other programs may read layouts at any time. What was pushed less than a second ago
// may be absent, but what is there is complete: the file of a manifest exists before
// index.json names it.
//
// Other programs may add blobs, and replace index.json (by a rename or in place), while
// nothing is pushed to the repository. The next call sees the change. As always with
// layouts, if two programs replace index.json at the same time, one change is lost; a
// Registry does not replace an index.json that has changed since it read it. The tag of
// an entry is its org.opencontainers.image.ref.name if that is a tag, and otherwise
// what follows the last colon in it ("repo:tag", or a full reference). Manifests that
// only an index names are served as well. Entries whose content is absent are kept but
// not served. While there are such entries whose references are unknown, no blob is deleted.
//
// Other programs must not touch .ocifs. When no Registry has the directory open, .ocifs
// may be deleted, except for journals longer than their header of 32 bytes. A directory
// that was closed has none.
//
// Without hard links (FAT, some network filesystems) blobs are stored once for each
// repository.
package ocifs
