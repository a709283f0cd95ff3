package memstore

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

func (s *faulty) Presign(ctx context.Context, key string, opts objstore.PresignOptions) (string, error) {
	until := strconv.FormatInt(s.mem.opts.Now().Add(opts.Expires).Unix(), 10)
	query := url.Values{"until": {until}, "type": {opts.ContentType}, "sign": {s.mem.sign(key, until, opts.ContentType)}}
	return s.mem.opts.URL + "/" + (&url.URL{Path: key}).EscapedPath() + "?" + query.Encode(), ctx.Err()
}

func (m *memory) sign(key, until, contentType string) string {
	mac := hmac.New(sha256.New, []byte(m.secret))
	mac.Write([]byte(key + "\x00" + until + "\x00" + contentType))
	return hex.EncodeToString(mac.Sum(nil))
}

// ServeHTTP answers GET and HEAD of the URLs that Presign returns, with ranges. What is not
// signed, or no longer valid, is forbidden.
func (s *Store) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	key := strings.TrimPrefix(req.URL.Path, "/")
	q := req.URL.Query()
	until, _ := strconv.ParseInt(q.Get("until"), 10, 64)
	signed := hmac.Equal([]byte(q.Get("sign")), []byte(s.mem.sign(key, q.Get("until"), q.Get("type"))))
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case !signed || s.mem.opts.Now().After(time.Unix(until, 0)):
		w.WriteHeader(http.StatusForbidden)
		return
	}
	s.mem.mu.Lock()
	o := s.mem.objects[key]
	s.mem.mu.Unlock()
	if o == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if t := q.Get("type"); t != "" {
		w.Header().Set("Content-Type", t)
	}
	w.Header().Set("ETag", `"`+string(o.etag)+`"`)
	http.ServeContent(w, req, "", o.modified, bytes.NewReader(o.body))
}
