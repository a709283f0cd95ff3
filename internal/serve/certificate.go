package serve

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a certificate and its key, in files that are replaced now and then.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	files   [2]os.FileInfo // that current was read from
	checked time.Time      // when they were last looked at
}

// certificateAge is the time after which the files are looked at again.
const certificateAge = time.Second

func newCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger, now: time.Now}
	return c, c.read()
}

// get is for [tls.Config.GetCertificate]. If the files have changed and cannot be read, or do
// not belong together, which may be so while they are replaced, it returns what they had before.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= certificateAge {
		c.checked = now
		if c.changed() {
			if err := c.read(); err != nil {
				c.logger.Warn("the certificate was not replaced", "error", err)
			}
		}
	}
	return c.current, nil
}

func (c *certificate) changed() bool {
	for i, info := range c.look() {
		before := c.files[i]
		if info == nil || before == nil || !os.SameFile(info, before) || info.Size() != before.Size() || !info.ModTime().Equal(before.ModTime()) {
			return true
		}
	}
	return false
}

// look returns what the files are, with nil for one that is not there.
func (c *certificate) look() (files [2]os.FileInfo) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			files[i] = info
		}
	}
	return files
}

func (c *certificate) read() error {
	files := c.look() // before the files are read, so that a change in between is seen later
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.files = &pair, files
	return nil
}
