package ocitest

import (
	"testing"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Run checks that registries keep the contract of [ociregistry.Interface]. Each clause is
// a subtest, for which Run calls newRegistry. Clauses run in parallel, and all have ended
// when Run returns. The registry that newRegistry returns must be empty. To release its
// resources, newRegistry can call t.Cleanup.
//
// Nil opts are the zero Options. With -short, the clauses about concurrency and long lists
// do less. The clauses about memory measure the allocations of the process, so they should
// not run at the same time as other parallel tests.
func Run(t *testing.T, newRegistry func(t testing.TB) ociregistry.Interface, opts *Options) {
	s := newSuite(newRegistry, opts)
	if s.opts.Below == nil && (s.opts.Absent|s.opts.Denied)&(PushBlobs|PushManifests) != 0 {
		t.Fatal("a registry that cannot push can be checked only with Options.Below")
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.clauses {
				if c.when != nil && !c.when(s.opts) {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					if !g.serial {
						t.Parallel()
					}
					s.check(t, c)
				})
			}
		})
	}
}

// group is the clauses about one subject.
type group struct {
	name    string
	serial  bool // the clauses run one after the other, because they measure something
	clauses []clause
}

// clause is a sentence of the contract, or a few related ones.
type clause struct {
	name  string
	needs Capability // the clause is skipped if the registry does not have all of these
	run   func(*test)
	when  func(Options) bool // if not nil, reports whether the clause applies to the registry
}

var groups = []group{
	{name: "Arguments", clauses: argumentClauses},
	{name: "Repository", clauses: repositoryClauses},
	{name: "Read", clauses: readClauses},
	{name: "Snapshot", clauses: snapshotClauses},
	{name: "PushBlob", clauses: pushBlobClauses},
	{name: "Upload", clauses: uploadClauses},
	{name: "Session", clauses: sessionClauses},
	{name: "MountBlob", clauses: mountClauses},
	{name: "PushManifest", clauses: pushManifestClauses},
	{name: "References", clauses: referenceClauses},
	{name: "PushCondition", clauses: conditionClauses},
	{name: "Allowances", clauses: allowanceClauses},
	{name: "Tag", clauses: tagClauses},
	{name: "DeleteBlob", clauses: deleteBlobClauses},
	{name: "DeleteManifest", clauses: deleteManifestClauses},
	{name: "DeleteTag", clauses: deleteTagClauses},
	{name: "List", clauses: listClauses},
	{name: "Referrers", clauses: referrersClauses},
	{name: "Context", clauses: contextClauses},
	{name: "Blocking", clauses: blockingClauses},
	{name: "Concurrency", clauses: concurrencyClauses},
	{name: "Memory", serial: true, clauses: memoryClauses},
	{name: "Absent", clauses: absentClauses},
}

type suite struct {
	newRegistry func(testing.TB) ociregistry.Interface
	opts        Options
}

func newSuite(newRegistry func(testing.TB) ociregistry.Interface, opts *Options) *suite {
	s := &suite{newRegistry: newRegistry}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Remote {
		s.opts.Absent |= Allowances
	}
	s.opts.Absent = s.opts.Absent.closure()
	s.opts.Denied = s.opts.Denied.closure() &^ s.opts.Absent
	if s.opts.Patience == 0 {
		s.opts.Patience = 30 * time.Second
	}
	return s
}

// check runs one clause.
func (s *suite) check(tb testing.TB, c clause) {
	if missing := c.needs & (s.opts.Absent | s.opts.Denied); missing != 0 {
		tb.Skipf("the registry is declared not to have %v", missing)
	}
	t := &test{TB: tb, opts: s.opts, reg: s.newRegistry(tb)}
	t.below = t.reg
	if s.opts.Below != nil {
		t.below = s.opts.Below(t.reg)
	}
	c.run(t)
}
