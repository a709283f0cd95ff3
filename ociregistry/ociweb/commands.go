package ociweb

import "strings"

// command is a command to copy.
type command struct{ Name, Text string }

// plain reports whether the browser reached the registry without TLS, as clients then do too.
func (x *exchange) plain() bool {
	return x.req.TLS == nil && !strings.EqualFold(x.req.Header.Get("X-Forwarded-Proto"), "https")
}

// commands returns how to pull a manifest with common programs. It returns nil if the host is
// not known.
func (x *exchange) commands(d *document) []command {
	host, plain := x.host(), x.plain()
	if host == "" {
		return nil
	}
	name := host + "/" + reference(x.repo, x.ref)
	flag := func(s string) string {
		if plain {
			return s + " "
		}
		return ""
	}
	switch {
	case d.isImage() || d.isIndex():
		return []command{
			{"docker", "docker pull " + name},
			{"podman", "podman pull " + flag("--tls-verify=false") + name},
			{"skopeo", "skopeo copy " + flag("--src-tls-verify=false") + "docker://" + name + " oci:" + directory(x.repo)},
		}
	case d.layers() != nil:
		return []command{{"oras", "oras pull " + flag("--plain-http") + name}}
	}
	return []command{{"crane", "crane manifest " + flag("--insecure") + name}}
}

// directory returns a name for a directory with what is pulled from repo.
func directory(repo string) string { return repo[strings.LastIndexByte(repo, '/')+1:] }
