// Package ocibucket implements a registry in a bucket of object storage, for any number of
// processes on any number of machines. They share the bucket and nothing else: there is no database, no lock
// service and no leader, and each of them may be killed at any moment. DESIGN.md of the module says
// what is in the bucket, how it changes, and why.
//
// A [Registry] keeps in memory what it has read of repositories, and reads on from there, so that most
// calls need one or a few requests. It keeps nothing that it could not lose.
package ocibucket
