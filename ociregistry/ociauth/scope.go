package ociauth

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Resource types and actions that registries know, as in
// "repository:foo/bar:pull,push".
//
// Packages ociserver and ocifilter have words of their own for what these permit:
//
//	ociauth       ociserver     ocifilter
//	ActionPull    ActionPull    AccessRead, and AccessList of tags and referrers
//	ActionPush    ActionPush    AccessWrite
//	ActionDelete  ActionDelete  AccessDelete
//	CatalogScope  ActionList    AccessList of "*"
//
// What pushes is asked to have [ActionPull] too: registries expect both.
const (
	TypeRepository = "repository"
	TypeRegistry   = "registry"

	ActionPull   = "pull"
	ActionPush   = "push"
	ActionDelete = "delete"
)

// CatalogScope is the scope for listing the repositories of a registry.
var CatalogScope = ResourceScope{ResourceType: TypeRegistry, Resource: "catalog", Action: "*"}

// ResourceScope is one action on one resource.
type ResourceScope struct {
	// ResourceType is [TypeRepository], [TypeRegistry], or another type that
	// the registry knows. If Resource and Action are empty, it is a whole
	// scope that does not have the form type:resource:actions.
	ResourceType string

	// Resource is the name of the resource; for [TypeRepository], the
	// repository's.
	Resource string

	// Action is one action, such as [ActionPull]. This package does not
	// interpret the action "*": only the registry knows what it includes.
	Action string
}

// Compare returns -1 if r sorts before r1, 0 if they are equal, and 1 otherwise. It
// compares by type, then by resource, then by action.
func (r ResourceScope) Compare(r1 ResourceScope) int {
	return cmp.Or(
		strings.Compare(r.ResourceType, r1.ResourceType),
		strings.Compare(r.Resource, r1.Resource),
		strings.Compare(r.Action, r1.Action),
	)
}

// Equal reports whether r and r1 are equal.
func (r ResourceScope) Equal(r1 ResourceScope) bool { return r == r1 }

// Scope is an immutable set of [ResourceScope]s: those that a token is valid for, or
// that a request needs. The zero value is the empty set.
type Scope struct {
	unlimited bool
	items     []ResourceScope // sorted, without duplicates
	original  string          // the text, if it was parsed
}

// NewScope returns the set of the given ResourceScopes.
func NewScope(rss ...ResourceScope) Scope {
	return newScope(slices.Clone(rss))
}

// newScope is like NewScope, and takes ownership of items.
func newScope(items []ResourceScope) Scope {
	slices.SortFunc(items, ResourceScope.Compare)
	return Scope{items: slices.Compact(items)}
}

// ParseScope parses a scope in the form that challenges and token requests have:
// elements type:resource:action,action,… separated by spaces (the distribution
// registry's "Token Scope Documentation"). The resource may contain colons. An element
// of another form becomes a ResourceScope that has a ResourceType only.
//
// The String method of the result returns s; see [Scope.Canonical].
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

// UnlimitedScope returns the scope that contains all others. It is never sent to a
// token server: it stands for whatever a token may be valid for.
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

// Iter returns an iterator over the elements of s, in the order of
// [ResourceScope.Compare]. It yields nothing for the unlimited scope.
func (s Scope) Iter() iter.Seq[ResourceScope] { return slices.Values(s.items) }

// Holds reports whether r is an element of s.
func (s Scope) Holds(r ResourceScope) bool {
	if s.unlimited {
		return true
	}
	_, found := slices.BinarySearchFunc(s.items, r, ResourceScope.Compare)
	return found
}

// Contains reports whether all elements of s1 are elements of s.
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

// Equal reports whether s and s1 have the same elements, however they were written.
func (s Scope) Equal(s1 Scope) bool {
	return s.unlimited == s1.unlimited && slices.Equal(s.items, s1.items)
}

// Union returns the union of s and s1. If one of them contains the other, Union returns
// it unchanged, preferring s.
func (s Scope) Union(s1 Scope) Scope {
	switch {
	case s.Contains(s1):
		return s
	case s1.Contains(s):
		return s1
	}
	return newScope(slices.Concat(s.items, s1.items))
}

// Canonical returns the same set in canonical form: its String method sorts the
// elements and joins the actions on one resource.
func (s Scope) Canonical() Scope {
	s.original = ""
	return s
}

// String returns s in the form that [ParseScope] parses. For a parsed scope it returns
// the original text, and for the unlimited scope "*".
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

// opaque reports whether r does not have the form type:resource:action.
func (r ResourceScope) opaque() bool { return r.Resource == "" && r.Action == "" }

func (r ResourceScope) sameResource(r1 ResourceScope) bool {
	return r.ResourceType == r1.ResourceType && r.Resource == r1.Resource && !r1.opaque()
}
