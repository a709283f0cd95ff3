package ociweb

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

//go:embed pages
var embedded embed.FS

// page is what a template shows.
type page struct {
	template string // the name of its file
	title    string // of the window
	data     any
}

// layout is what all templates are given.
type layout struct {
	Root  string // the relative URL of the first page
	Style string // the name of the style sheet
	Title string
	Host  string // may be empty
	Crumb string // the repository; empty on pages that are about none
	Tags  string // the URL of its tags
	Page  any
}

// templates has those of the pages by the names of their files.
var templates = func() map[string]*template.Template {
	base := template.Must(template.ParseFS(embedded, "pages/layout.html", "pages/parts.html"))
	all := make(map[string]*template.Template)
	for _, name := range []string{"repositories", "tags", "manifest", "compare", "json", "error"} {
		all[name] = template.Must(template.Must(base.Clone()).ParseFS(embedded, "pages/"+name+".html"))
	}
	return all
}()

// file is an answer that is always the same.
type file struct {
	mediaType string
	content   []byte
}

// files has the files by their paths.
var files = map[string]file{
	"/style.css":  {"text/css; charset=utf-8", mustRead("pages/style.css")},
	"/icon.svg":   {"image/svg+xml", mustRead("pages/icon.svg")},
	"/robots.txt": {"text/plain; charset=utf-8", []byte("User-agent: *\nDisallow: /\n")},
}

// styleURL has a part of the digest of the style sheet, so that browsers can keep it for ever.
var styleURL = func() string {
	sum := sha256.Sum256(files["/style.css"].content)
	return "style.css?" + hex.EncodeToString(sum[:6])
}()

func mustRead(name string) []byte {
	content, err := embedded.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return content
}

// setSecurity sets the headers that keep pages from loading or doing anything else, and others
// from using them.
func (x *exchange) setSecurity() {
	h := x.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Robots-Tag", "noindex, nofollow")
}

// render returns the text of a page.
func (x *exchange) render(p page) ([]byte, error) {
	l := layout{Root: x.root(), Style: x.root() + styleURL, Title: p.title, Host: x.host(), Page: p.data}
	if x.repo != "" {
		l.Crumb, l.Tags = x.repo, x.manifestURL("")
	}
	var b bytes.Buffer
	err := templates[p.template].ExecuteTemplate(&b, "layout.html", l)
	return b.Bytes(), err
}

// sendPage answers with the text of a page.
func (x *exchange) sendPage(status int, body []byte) {
	x.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	x.w.Header().Set("Cache-Control", "private, no-cache")
	x.send(status, body)
}

func (x *exchange) sendFile(f file) {
	x.w.Header().Set("Content-Type", f.mediaType)
	age := "3600"
	if x.req.URL.RawQuery != "" {
		age = "31536000, immutable"
	}
	x.w.Header().Set("Cache-Control", "max-age="+age)
	x.send(http.StatusOK, f.content)
}

func (x *exchange) send(status int, body []byte) {
	if d := x.opts.AnswerTimeout; d > 0 {
		http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(d)) // if that is not supported, there is no other way
	}
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	x.w.Write(body) // an error means that the client has gone away
}

// host returns the host that clients pull from, or "" if the request names none.
func (x *exchange) host() string {
	host := x.opts.Host
	if host == "" {
		host = x.req.Host
	}
	if !ociref.IsValidHost(host) && !ociref.IsValidHost(host+":443") {
		return ""
	}
	return host
}
