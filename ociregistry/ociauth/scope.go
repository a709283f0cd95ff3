package ociauth

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// The types of resources and the actions that registries know, as in
// "repository:foo/bar:pull,push".
const (
	TypeRepository = "repository"
	TypeRegistry   = "registry"

	ActionPull   = "pull"
	ActionPush   = "push"
	ActionDelete = "delete"
)

// CatalogScope is what it takes to list the repositories of a registry.
var CatalogScope = ResourceScope{ResourceType: TypeRegistry, Resource: "catalog", Action: "*"}

// ResourceScope is one action on one resource.
type ResourceScope struct {
	// ResourceType is [TypeRepository], [TypeRegistry], or another type that
	// the registry knows. If Resource and Action are empty, it is a whole
	// scope that is not of the form type:resource:actions.
	ResourceType string

	// Resource is the name of the resource: of a repository, for
	// [TypeRepository].
	Resource string

	// Action is one action, such as [ActionPull]. The action "*" is one like
	// the others here: what else it comprises only the registry knows.
	Action string
}

// Compare returns -1, 0 or 1 as r sorts before, with or after r1: by type, then
// by resource, then by action.
func (r ResourceScope) Compare(r1 ResourceScope) int {
	return cmp.Or(
		strings.Compare(r.ResourceType, r1.ResourceType),
		strings.Compare(r.Resource, r1.Resource),
		strings.Compare(r.Action, r1.Action),
	)
}

// Equal reports whether r and r1 are the same.
func (r ResourceScope) Equal(r1 ResourceScope) bool { return r == r1 }

// Scope is a set of [ResourceScope]s: what a token is good for, or needed for.
// The zero Scope is the empty set. A Scope does not change.
type Scope struct {
	unlimited bool
	items     []ResourceScope // in order, each once
	original  string          // as it was written, if it was parsed
}

// NewScope returns the set of the given ResourceScopes.
func NewScope(rss ...ResourceScope) Scope {
	return newScope(slices.Clone(rss))
}

// newScope is NewScope, and keeps items.
func newScope(items []ResourceScope) Scope {
	slices.SortFunc(items, ResourceScope.Compare)
	return Scope{items: slices.Compact(items)}
}

// ParseScope parses a scope as it stands in challenges and token requests:
// elements of the form type:resource:action,action,… with spaces between them
// (the distribution registry's "Token Scope Documentation"). The resource may
// have colons. An element of another form becomes the ResourceType of a
// ResourceScope that has nothing else.
//
// The result's String is s until [Scope.Canonical] is asked for.
func ParseScope(s string) Scope {
	var items []ResourceScope
	for _, field := range strings.Fields(s) {
		resourceType, rest, ok := strings.Cut(field, ":")
		i := strings.LastIndexByte(rest, ':')
		if !ok || i < 0 || resourceType == "" {
			items = append(items, ResourceScope{ResourceType: field})
			continue
		}
		for action := range strings.SplitSeq(rest[i+1:], ",") {
			items = append(items, ResourceScope{resourceType, rest[:i], action})
		}
	}
	scope := newScope(items)
	scope.original = s
	return scope
}

// UnlimitedScope returns the scope that contains all others. It cannot be asked
// for: it stands for whatever a token may be good for.
func UnlimitedScope() Scope { return Scope{unlimited: true} }

// IsUnlimited reports whether s is the [UnlimitedScope].
func (s Scope) IsUnlimited() bool { return s.unlimited }

// IsEmpty reports whether s is the empty set.
func (s Scope) IsEmpty() bool { return !s.unlimited && len(s.items) == 0 }

// Len returns the number of elements of s, or -1 if it is unlimited.
func (s Scope) Len() int {
	if s.unlimited {
		return -1
	}
	return len(s.items)
}

// Iter returns the elements of s, in the order of [ResourceScope.Compare]. The
// unlimited scope has none to show.
func (s Scope) Iter() iter.Seq[ResourceScope] { return slices.Values(s.items) }

// Holds reports whether r is an element of s.
func (s Scope) Holds(r ResourceScope) bool {
	if s.unlimited {
		return true
	}
	_, found := slices.BinarySearchFunc(s.items, r, ResourceScope.Compare)
	return found
}

// Contains reports whether s holds all elements of s1.
func (s Scope) Contains(s1 Scope) bool {
	if s.unlimited || s1.unlimited {
		return s.unlimited
	}
	for _, r := range s1.items {
		if !s.Holds(r) {
			return false
		}
	}
	return true
}

// Equal reports whether s and s1 have the same elements, however they are
// written.
func (s Scope) Equal(s1 Scope) bool {
	return s.unlimited == s1.unlimited && slices.Equal(s.items, s1.items)
}

// Union returns the elements of both sets. If one of them contains the other,
// it is returned as it is, s before s1.
func (s Scope) Union(s1 Scope) Scope {
	switch {
	case s.Contains(s1):
		return s
	case s1.Contains(s):
		return s1
	}
	return newScope(slices.Concat(s.items, s1.items))
}

// Canonical returns the same set, written in one way: in order, with the actions
// on one resource together.
func (s Scope) Canonical() Scope {
	s.original = ""
	return s
}

// String returns the scope as it is written in a token request; a scope that was
// parsed, as it was written before. For the unlimited scope, which is not to be
// written there, it is "*".
func (s Scope) String() string {
	if s.unlimited {
		return "*"
	}
	if s.original != "" {
		return s.original
	}
	var b strings.Builder
	for i, r := range s.items {
		switch {
		case i > 0 && r.sameResource(s.items[i-1]):
			b.WriteString("," + r.Action)
			continue
		case i > 0:
			b.WriteByte(' ')
		}
		b.WriteString(r.ResourceType)
		if !r.opaque() {
			b.WriteString(":" + r.Resource + ":" + r.Action)
		}
	}
	return b.String()
}

// opaque reports whether r is not of the form type:resource:action.
func (r ResourceScope) opaque() bool { return r.Resource == "" && r.Action == "" }

func (r ResourceScope) sameResource(r1 ResourceScope) bool {
	return r.ResourceType == r1.ResourceType && r.Resource == r1.Resource && !r1.opaque()
}
