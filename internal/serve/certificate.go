package serve

import (
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/filestate"
)

// certificate is a certificate and its key, in files that are replaced now and then.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	files   filestate.State // that current was read from
	checked time.Time       // when they were last looked at
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
		if !c.look().Same(c.files) {
			if err := c.read(); err != nil {
				c.logger.Warn("the certificate was not replaced", "error", err)
			}
		}
	}
	return c.current, nil
}

func (c *certificate) look() filestate.State { return filestate.Look(c.certFile, c.keyFile) }

func (c *certificate) read() error {
	files := c.look() // before the files are read, so that a change in between is seen later
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.files = &pair, files
	return nil
}
