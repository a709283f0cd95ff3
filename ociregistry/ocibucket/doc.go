// Package ocibucket implements a registry in a bucket of object storage, for any number of
// processes on any number of machines. They share the bucket and nothing else: there is no database, no lock
// service and no leader, and each of them may be killed at any moment. DESIGN.md of the module says
// what is in the bucket, how it changes, and why.
//
// A [Registry] keeps in memory what it has read of repositories, and reads on from there, so that most
// calls need one or a few requests. It keeps nothing that it could not lose.
//
// # A directory or a bucket
//
// Take package ocifs as long as one machine's disk is enough, with a second machine for the day when the
// first one fails. A call there costs no request over a network; other tools read and write the
// directory; and damage can be repaired in place.
//
// Take a bucket if the content does not fit on one disk, if several machines are to serve it at once, or if
// machines come and go. A change of one repository waits for one request, some 20 ms, which other changes
// of the same process share; so 16 processes together make about a hundred changes of one repository in a
// second. Different repositories do not wait for each other. Clients can be sent to the bucket
// for the bytes ([Registry.BlobURL]), which then do not pass through the process.
//
// # A cache of a fleet
//
// A registry in a bucket can be what several caches of one origin keep: each machine has a Cache of package
// ociunify over a Registry of its own, with Options.Sparse, as images arrive and go in parts.
// What one has fetched, all serve; each asks the origin where a tag points. See the example, and
// ociunify.NewCache for what each knows for itself alone. With CacheOptions.MaxBytes, the
// bucket holds up to that for each process.
//
// # What it costs
//
// Stores charge for requests, for what is stored, and for what leaves their network. DESIGN.md has a table of the requests
// that each call makes, which a test holds. Here are some of them by what most stores charge for: a read is
// a GET, a write is a PUT, a POST or a LIST, and a DELETE is often free.
//
//   - A pull of an image with a config and 10 layers, redirected: 13 reads, and 10 by the client. The bytes that leave the
//     store's network usually cost far more than these.
//   - A push of such an image, all of it new, with layers of up to a part's size by POST, PATCH and PUT: 11 reads and 87
//     writes. A layer whose bytes are there takes a read and 3 writes by [Registry.PushBlob]; one of k parts, up to k+10 requests.
//   - A collection: for each blob 3 reads and a write, or a read if it is small. So collect once a day rather than each hour.
//   - An idle process: none. One from which something is pulled writes down when that was, every ten minutes:
//     a write and a DELETE. One that changes something makes a read in ten seconds, and a write if somebody
//     has asked for [Registry.Usage] in the last two days.
//   - A quota, which asks for the usage while something is pushed: a write in ten seconds, and a read for each process
//     that has changed something, for each blob and for each record of a log that others have written.
//   - [New]: some 100.
//
// To know what that costs, take the prices of your store. If they were 0.40 USD for a million reads and 5 USD
// for a million writes, a million of these pulls would cost 23 × 0.40 = 9.20 USD, and a million of these pushes
// 11 × 0.40 + 87 × 5 = 439.40 USD.
//
// # What a store must do
//
// Reads and lists must show every write that was answered before, and PUT must have the conditions
// If-None-Match and If-Match, also when an upload of parts is completed. [New] tries that and refuses a store that
// does not keep it, with [objstore.ErrConditions]. Amazon S3, Azure Blob Storage and versitygw (from 1.8.0) do; package
// objstore says what is needed for others, and objstore/storetest tests it. A bucket must not have
// rules that expire or archive objects below the prefix of a registry, except for one that aborts
// incomplete uploads after a week or more. Versions of objects are not needed.
//
// # Moving
//
// A pass of ocicopy's Mirror copies all repositories with their tags and referrers from any registry to another, such as
// from a directory into a bucket: see the example. Another pass copies what has come since, and no
// content that is there already. Stop pushes to the directory before the last one. Manifests without a
// tag, an index or a subject are not copied.
package ocibucket
