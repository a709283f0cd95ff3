package ocicerts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const httpsPort = ":443"

// directory is the directory of a host.
type directory struct {
	path    string
	entries []fs.FileInfo // by name, what symbolic links lead to
}

// findDirectory returns the directory of a host, or nil if there is none. A directory that may
// not be read does not keep others from being found, since it is somebody else's.
func findDirectory(dirs []string, host string) (*directory, error) {
	for _, dir := range dirs {
		for _, name := range spellings(host) {
			d, err := readDirectory(filepath.Join(dir, name))
			switch {
			case err == nil:
				return d, nil
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			default:
				return nil, err
			}
		}
	}
	return nil, nil
}

// spellings returns the names that the directory of a host may have: with and without the port
// of HTTPS.
func spellings(host string) []string {
	if name, ok := strings.CutSuffix(host, httpsPort); ok {
		return []string{host, name}
	}
	if full := withPort(host); full != host {
		return []string{host, full}
	}
	return []string{host}
}

// withPort returns a host with its port.
func withPort(host string) string {
	if _, port, _ := strings.Cut(host[strings.LastIndexByte(host, ']')+1:], ":"); port != "" {
		return host
	}
	return host + httpsPort
}

func readDirectory(path string) (*directory, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path}
	for _, entry := range entries {
		info, err := os.Stat(filepath.Join(path, entry.Name()))
		if err != nil {
			return nil, err
		}
		d.entries = append(d.entries, renamed{info, entry.Name()})
	}
	return d, nil
}

// renamed is what a symbolic link leads to, under the name of the link.
type renamed struct {
	fs.FileInfo
	name string
}

func (r renamed) Name() string { return r.name }

// files returns a text that changes when the files do.
func (d *directory) files() string {
	if d == nil {
		return ""
	}
	text := d.path
	for _, info := range d.entries {
		text += fmt.Sprintf("\n%q %d %d", info.Name(), info.Size(), info.ModTime().UnixNano())
	}
	return text
}

// config returns base with the authorities in the directory and, for the registry itself, the
// certificates of the client.
func (d *directory) config(base *tls.Config, withClient bool) (*tls.Config, error) {
	config := base.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	for _, info := range d.entries {
		var err error
		name := filepath.Join(d.path, info.Name())
		switch filepath.Ext(name) {
		case ".crt":
			err = addAuthority(config, name)
		case ".cert":
			if withClient {
				err = addClient(config, name, strings.TrimSuffix(name, ".cert")+".key")
			}
		case ".key":
			if withClient && !d.has(strings.TrimSuffix(info.Name(), ".key")+".cert") {
				err = fmt.Errorf("%s: the certificate of the key is missing", name)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return config, nil
}

func (d *directory) has(name string) bool {
	for _, info := range d.entries {
		if info.Name() == name {
			return true
		}
	}
	return false
}

// addAuthority makes config trust the certificates in a file, too.
func addAuthority(config *tls.Config, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	switch {
	case config.RootCAs != nil:
		config.RootCAs = config.RootCAs.Clone()
	default:
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			return err
		}
	}
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s: no certificates in it", name)
	}
	return nil
}

func addClient(config *tls.Config, certFile, keyFile string) error {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	config.Certificates = append(config.Certificates, pair)
	return nil
}
