package gc

// components finds the strongly connected components of a graph, each after those that can be
// reached from it: Tarjan's algorithm, without recursion, because chains may be long.
type components struct {
	next  func(node int, yield func(int)) // the nodes that an edge leads to
	order []int32                         // when a node was first seen, from 1 on; 0 if it was not
	low   []int32                         // the lowest order that can be reached; done if its component is found
	seen  int32
	stack []int // nodes whose component is not found yet
	path  []step
	found [][]int
}

// step is a node on the path to the one that is looked at, and its edges that are left.
type step struct {
	node int
	left []int
}

const done = int32(1<<31 - 1)

func newComponents(n int, next func(int, func(int))) *components {
	return &components{next: next, order: make([]int32, n), low: make([]int32, n)}
}

// visit finds the components that can be reached from a node.
func (c *components) visit(node int) {
	if c.order[node] > 0 {
		return
	}
	c.enter(node)
	for len(c.path) > 0 {
		top := &c.path[len(c.path)-1]
		if n := len(top.left); n > 0 {
			to := top.left[n-1]
			top.left = top.left[:n-1]
			if c.order[to] == 0 {
				c.enter(to)
			} else if c.low[to] != done {
				c.low[top.node] = min(c.low[top.node], c.order[to])
			}
			continue
		}
		c.leave(top.node)
	}
}

func (c *components) enter(node int) {
	c.seen++
	c.order[node], c.low[node] = c.seen, c.seen
	c.stack = append(c.stack, node)
	var edges []int
	c.next(node, func(to int) { edges = append(edges, to) })
	c.path = append(c.path, step{node, edges})
}

// leave ends the last step of the path.
func (c *components) leave(node int) {
	c.path = c.path[:len(c.path)-1]
	if n := len(c.path); n > 0 {
		parent := c.path[n-1].node
		c.low[parent] = min(c.low[parent], c.low[node])
	}
	if c.low[node] != c.order[node] {
		return
	}
	start := len(c.stack) - 1
	for c.stack[start] != node {
		start--
	}
	group := append([]int(nil), c.stack[start:]...)
	c.stack = c.stack[:start]
	for _, member := range group {
		c.low[member] = done
	}
	c.found = append(c.found, group)
}
