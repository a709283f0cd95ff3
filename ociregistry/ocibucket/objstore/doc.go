// Package objstore has the narrow interface of object storage that a registry in
// a bucket needs, and what serves every implementation of it: the words for
// errors, the checks of arguments and answers, retries, and a probe that finds
// out whether a store keeps its promises.
//
// An object is a key, some bytes and an [ETag] that changes when the bytes do.
// A store is strongly consistent: when a write was answered with success, each
// later Get and List of any process shows it. A write is atomic: a Get returns
// the whole of what one write wrote. A condition is checked and the write is
// carried out in one step.
//
// # Unclear answers
//
// A write that fails leaves one of two states, and its error says which:
//
//   - It was not carried out and will not be: [ErrNotFound], [ErrPrecondition],
//     [ErrConflict], [ErrThrottled], [ErrDenied], [ErrInvalid], [ErrInvalidPart],
//     [ErrUnsupported].
//   - It may have been carried out, and if not, it may be carried out later, even
//     after other requests of the same process: [ErrUnclear]. Any other error of a
//     write has to be taken for that; [Unclear] does it.
//
// That is so between caller and store. Where something in between repeats requests, ErrPrecondition
// and ErrNotFound may be the answer to a repetition of what succeeded.
//
// Who gets an unclear answer reads the object and looks whether it has what was
// written. So what is written under a condition should have something in it
// that no other attempt writes.
//
// # Time
//
// Each answer, an error too, has the Date that the store put on it. Ages are
// differences of such dates and of LastModified, never of a process's clock. A
// date is in whole seconds, and may run a second behind LastModified.
//
// # Implementations
//
// memstore keeps objects in memory and injects faults, s3store and azurestore are
// clients of services, countstore counts requests. storetest is the suite that
// each of them runs.
package objstore
