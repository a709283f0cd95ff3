package ocicopy

import (
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// sort puts the manifests into c.levels, each after its children. The top comes after
// all others but those that name it, as a referrer can. The time that sort needs is
// proportional to the size of the graph.
func (c *copier) sort() error {
	total := c.link()
	c.top.waits++ // until only manifests that wait for the top are left
	var level []*node
	for _, n := range c.nodes {
		if n.isManifest() && n.waits == 0 {
			level = append(level, n)
		}
	}
	c.nodes = nil
	for held := true; len(c.nodes) < total; {
		switch {
		case len(level) > 0:
			c.levels = append(c.levels, level)
			c.nodes = append(c.nodes, level...)
			level = release(level)
		case held && c.top.waits == 1:
			held = false
			level = []*node{c.top}
		default:
			return fmt.Errorf("%w: the manifests name each other", ociregistry.ErrManifestInvalid)
		}
	}
	return nil
}

// link makes each manifest wait for its children, and returns how many
// manifests there are.
func (c *copier) link() (total int) {
	for _, n := range c.nodes {
		if !n.isManifest() {
			continue
		}
		total++
		for _, child := range n.children {
			if child.isManifest() {
				n.waits++
				child.parents = append(child.parents, n)
			}
		}
	}
	return total
}

// release returns the nodes that waited for the nodes of a level, and wait for no
// others.
func release(level []*node) (next []*node) {
	for _, n := range level {
		for _, p := range n.parents {
			if p.waits--; p.waits == 0 {
				next = append(next, p)
			}
		}
	}
	return next
}

// isManifest reports whether n is to be copied as a manifest.
func (n *node) isManifest() bool { return !n.gone && !n.isBlob }
