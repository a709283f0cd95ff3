package histories

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// client asks servers over HTTP. It sends each request once, and keeps nothing of
// the answers: package ociclient knows too much for that.
type client struct {
	http     *http.Client
	universe *universe
	prefix   string // of repositories
	sessions *sessions
}

// answer is an answer that was received in whole.
type answer struct {
	*http.Response
	body []byte
}

// request makes a request of an operation.
func (c *client) request(ctx context.Context, host string, op *Op) (*http.Request, error) {
	base := "http://" + host + "/v2/"
	repo := base + c.prefix + "/" + op.Repository
	method, target, body := http.MethodGet, "", []byte(nil)
	query, header := url.Values{}, http.Header{}
	switch op.Do {
	case putManifest:
		method, target = http.MethodPut, repo+"/manifests/"+c.ref(op)
		m := c.universe.byName[op.Manifest]
		body = m.data
		header.Set("Content-Type", m.mediaType)
		for _, tag := range op.Tags {
			query.Add("tag", tag)
		}
		c.setCondition(header, "If-Match", op.IfMatch)
		c.setCondition(header, "If-None-Match", op.IfNoneMatch)
	case getTag, headTag, deleteTag:
		method, target = methodOf(op.Do), repo+"/manifests/"+op.Tag
	case getManifest, headManifest, deleteManifest:
		method, target = methodOf(op.Do), repo+"/manifests/"+c.digest(op.Manifest)
	case getBlob, headBlob, deleteBlob:
		method, target = methodOf(op.Do), repo+"/blobs/"+c.digest(op.Blob)
	case pushBlob:
		method, target, body = http.MethodPost, repo+"/blobs/uploads/", c.universe.byName[op.Blob].data
		query.Set("digest", c.digest(op.Blob))
	case mountBlob:
		method, target = http.MethodPost, repo+"/blobs/uploads/"
		query.Set("mount", c.digest(op.Blob))
		if op.From != "" {
			query.Set("from", c.prefix+"/"+op.From)
		}
	case openUpload:
		method, target = http.MethodPost, repo+"/blobs/uploads/"
	case sendChunk, askUpload, commitUpload, cancelUpload:
		return c.uploadRequest(ctx, base, op)
	case listTags:
		target = repo + "/tags/list"
		query = page(op, op.After)
	case listReferrers:
		target = repo + "/referrers/" + c.digest(signed)
	case listCatalog:
		target = base + "_catalog"
		query = page(op, c.prefix+"/")
	}
	return newRequest(ctx, method, target, query, header, body)
}

func methodOf(do string) string {
	verb, _, _ := strings.Cut(do, " ")
	return strings.ToUpper(verb)
}

func page(op *Op, last string) url.Values {
	q := url.Values{}
	if op.N > 0 {
		q.Set("n", strconv.Itoa(op.N))
	}
	if last != "" {
		q.Set("last", last)
	}
	return q
}

// uploadRequest makes a request to an upload session, with the last location that
// anybody was told.
func (c *client) uploadRequest(ctx context.Context, base string, op *Op) (*http.Request, error) {
	location := c.sessions.location(sessionKey{op.Repository, op.Session})
	target, err := url.Parse(base)
	if err == nil {
		target, err = target.Parse(location)
	}
	if err != nil {
		return nil, err
	}
	if host, err := url.Parse(base); err == nil {
		target.Scheme, target.Host = host.Scheme, host.Host // of the server that is asked now
	}
	query, header, body := target.Query(), http.Header{}, []byte(nil)
	if op.Piece != nil {
		body = c.universe.bytes(*op.Piece)
		header.Set("Content-Type", "application/octet-stream")
		if op.Offset >= 0 {
			header.Set("Content-Range", fmt.Sprintf("%d-%d", op.Offset, op.Offset+op.Piece.size()-1))
		}
	}
	method := map[string]string{sendChunk: http.MethodPatch, askUpload: http.MethodGet, commitUpload: http.MethodPut, cancelUpload: http.MethodDelete}[op.Do]
	if op.Do == commitUpload {
		query.Set("digest", c.digest(op.Blob))
	}
	target.RawQuery = ""
	return newRequest(ctx, method, target.String(), query, header, body)
}

func newRequest(ctx context.Context, method, target string, query url.Values, header http.Header, body []byte) (*http.Request, error) {
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err == nil {
		req.Header = header
	}
	return req, err
}

func (c *client) digest(name string) string { return string(c.universe.byName[name].digest) }

// ref returns the ref of a push.
func (c *client) ref(op *Op) string {
	if op.Tag != "" {
		return op.Tag
	}
	return c.digest(op.Manifest)
}

func (c *client) setCondition(h http.Header, name string, manifests []string) {
	var tags []string
	for _, m := range manifests {
		if m != "*" {
			m = `"` + c.digest(m) + `"`
		}
		tags = append(tags, m)
	}
	if tags != nil {
		h.Set(name, strings.Join(tags, ", "))
	}
}

// do carries out an operation. It reports false if nothing of it was sent.
func (c *client) do(ctx context.Context, host string, op *Op, how manner) (Outcome, bool) {
	if how == hangUp {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rand.N(hangUpTime))
		defer cancel()
	}
	req, err := c.request(ctx, host, op)
	if err != nil {
		return Outcome{Wrong: err.Error()}, true
	}
	if how == cutOff && req.ContentLength > 0 {
		req.Body = halfBody{io.LimitReader(req.Body, req.ContentLength/2)}
		req.GetBody = nil
	}
	a, err := c.send(req)
	if err != nil {
		c.sessions.lost(op)
		return Outcome{Size: -1}, !neverSent(err)
	}
	return c.outcome(op, a), true
}

func (c *client) send(req *http.Request) (answer, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, body}, err
}

// outcome returns what an answer says.
func (c *client) outcome(op *Op, a answer) Outcome {
	if indefinite(a.StatusCode) {
		return Outcome{Size: -1, Failure: fmt.Sprintf("%d %s", a.StatusCode, a.body)}
	}
	out := Outcome{Status: a.StatusCode, Size: -1}
	if a.StatusCode >= 400 {
		out.Code = codeOf(a.body)
		out.Size = c.sessions.heard(op, a)
		return out
	}
	if err := c.read(op, a, &out); err != nil {
		out.Wrong = err.Error()
	}
	return out
}

// codeOf returns the code of an error, or "" if there is none.
func codeOf(body []byte) string {
	var e struct{ Errors []struct{ Code string } }
	if json.Unmarshal(body, &e) != nil || len(e.Errors) == 0 {
		return ""
	}
	return e.Errors[0].Code
}

// read reads a success.
func (c *client) read(op *Op, a answer, out *Outcome) error {
	switch op.Do {
	case putManifest:
		for _, tag := range op.Tags {
			if !strings.Contains(strings.Join(a.Header["Oci-Tag"], ","), tag) {
				return fmt.Errorf("OCI-Tag has no %s: %q", tag, a.Header["Oci-Tag"])
			}
		}
		return c.checkDigest(op.Manifest, a)
	case pushBlob, commitUpload:
		return c.checkDigest(op.Blob, a)
	case getTag, headTag:
		out.Got = c.universe.name(digest.Digest(a.Header.Get("Docker-Content-Digest")))
		if c.universe.byName[out.Got] == nil {
			return errors.New(out.Got)
		}
		return c.checkContent(out.Got, a)
	case getManifest, headManifest:
		return c.checkContent(op.Manifest, a)
	case getBlob, headBlob:
		return c.checkContent(op.Blob, a)
	case openUpload, mountBlob, sendChunk, askUpload:
		out.Size = c.sessions.heard(op, a)
	case listTags, listReferrers, listCatalog:
		return c.readList(op, a, out)
	}
	return nil
}

func (c *client) checkDigest(name string, a answer) error {
	if got := a.Header.Get("Docker-Content-Digest"); got != c.digest(name) {
		return fmt.Errorf("the digest is that of %s", c.universe.name(digest.Digest(got)))
	}
	return nil
}

// checkContent checks what an answer to GET or HEAD says of content.
func (c *client) checkContent(name string, a answer) error {
	want := c.universe.byName[name]
	switch {
	case a.ContentLength != int64(len(want.data)):
		return fmt.Errorf("%s has %d bytes", name, a.ContentLength)
	case a.Request.Method == http.MethodGet && !bytes.Equal(a.body, want.data):
		return fmt.Errorf("this is not %s", name)
	}
	return c.checkDigest(name, a)
}

// readList reads a page of a list.
func (c *client) readList(op *Op, a answer, out *Outcome) error {
	var page struct {
		Repositories, Tags []string
		Manifests          []struct{ Digest digest.Digest }
	}
	if err := json.Unmarshal(a.body, &page); err != nil {
		return err
	}
	out.List = append([]string{}, page.Tags...)
	for _, repo := range page.Repositories {
		if name, ok := strings.CutPrefix(repo, c.prefix+"/"); ok {
			out.List = append(out.List, name)
		}
	}
	previous := op.After
	for _, name := range out.List {
		if name <= previous {
			return fmt.Errorf("not in order: %q", out.List)
		}
		previous = name
	}
	for _, m := range page.Manifests {
		out.List = append(out.List, c.universe.name(m.Digest))
	}
	return nil
}

// timeLimit is how long an operation may take; then it is not known what becomes of
// it.
const timeLimit = 20 * time.Second
