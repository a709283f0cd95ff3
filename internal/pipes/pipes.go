// Package pipes has a network in memory, for tests in a synctest bubble.
package pipes

import (
	"context"
	"net"
	"sync"
)

// Net is a network whose connections are those of [net.Pipe]. It is the listener of its server,
// and has the dialer of its clients. It is safe for concurrent use.
type Net struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// New returns a network.
func New() *Net { return &Net{conns: make(chan net.Conn), closed: make(chan struct{})} }

// Dial returns a connection when the server has accepted it, for [net/http.Transport].
func (n *Net) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case n.conns <- far:
		return near, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements [net.Listener].
func (n *Net) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (n *Net) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr implements [net.Listener].
func (n *Net) Addr() net.Addr { return &net.TCPAddr{} }
