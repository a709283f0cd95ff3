// Package patient has connections of HTTP clients, in tests, that hear their servers out.
package patient

import (
	"context"
	"net"
	"sync"
)

// Dial dials as [net.Dialer.DialContext] does, for [net/http.Transport]. A server that answers
// before it has read the whole of a large request hangs up half a second later. If the client is
// held up for so long, it knows of the answer and of the error of its writing, and takes either.
// On the connections that Dial returns, the answer comes first.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// conn is a connection whose writes fail when there is nothing more to be read.
type conn struct {
	net.Conn
	once  sync.Once
	ended chan struct{} // closed when nothing more can be read
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, ended: make(chan struct{})} }

func (c *conn) end() { c.once.Do(func() { close(c.ended) }) }

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		<-c.ended
	}
	return n, err
}

func (c *conn) Close() error {
	c.end()
	return c.Conn.Close()
}
