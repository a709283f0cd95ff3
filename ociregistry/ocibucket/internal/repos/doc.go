// Package repos has the repositories of a registry in a bucket: the state of each, the log that
// makes it, and what a process knows of it.
//
// A [Repository] has a queue of calls. One goroutine takes all that wait and makes one record of
// their changes, or reads to the end of the log where nothing is to be changed: so the
// requests of a process do not grow with its callers. What the calls are answered from was the
// end of the log at some time after they began.
package repos
