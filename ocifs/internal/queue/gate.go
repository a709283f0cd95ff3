package queue

// Gate is a lock that may be held for long. Unlike a goroutine that waits for a
// mutex, one that waits for a gate counts as idle in a test with a synthetic clock.
type Gate chan struct{}

// NewGate returns a gate that nobody holds.
func NewGate() Gate { return make(Gate, 1) }

// Lock waits until nobody holds the gate, and holds it.
func (g Gate) Lock() { g <- struct{}{} }

// Unlock gives up the gate.
func (g Gate) Unlock() { <-g }
