package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	repoName      = "bench/app"
	repoPath      = "/v2/" + repoName + "/"
	manifestType  = "application/vnd.oci.image.manifest.v1+json"
	manifestTypes = manifestType + ",application/vnd.oci.image.index.v1+json," +
		"application/vnd.docker.distribution.manifest.v2+json,application/vnd.docker.distribution.manifest.list.v2+json"
)

// client is one client of a server. It does no more than the protocol needs:
// what it pulls, it does not hash. It is used by one goroutine at a time.
type client struct {
	ctx   context.Context
	http  *http.Client // shared by all clients
	base  string       // the server's URL
	reads string       // and that for GET and HEAD, if it is another one
	path  string       // of the repository's URLs
	buf   []byte       // for what is pulled
	tee   io.Writer    // gets what is pulled, if it is not nil
	lib   library      // what is measured, in the rows of libraries
}

// clone returns another client of the same server.
func (c *client) clone() *client {
	return &client{ctx: c.ctx, http: c.http, base: c.base, reads: c.reads, path: c.path, buf: make([]byte, len(c.buf))}
}

// in lets the client use another repository from now on.
func (c *client) in(repo string) *client {
	c.path = "/v2/" + repo + "/"
	return c
}

func (c *client) blobURL(b blob) string { return c.path + "blobs/" + b.digest }

func (c *client) manifestURL(ref string) string { return c.path + "manifests/" + ref }

// newHTTPClient returns the one HTTP client of the program. Its buffers are so
// large that small requests are one write.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 1000,
		DisableCompression:  true,
		ReadBufferSize:      64 << 10,
		WriteBufferSize:     64 << 10,
	}}
}

// do sends a request, and fails unless the answer has the given status.
// A negative size is unknown.
func (c *client) do(method, target string, body io.Reader, size int64, want int, header ...string) (*http.Response, error) {
	base := c.base
	if c.reads != "" && (method == http.MethodGet || method == http.MethodHead) {
		base = c.reads
	}
	req, err := http.NewRequestWithContext(c.ctx, method, base+target, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return nil, fmt.Errorf("%s %s: %s, not %d: %s", method, target, resp.Status, want, text)
	}
	return resp, nil
}

// send is do for requests of which only the location in the answer matters.
func (c *client) send(method, target string, body io.Reader, size int64, want int, header ...string) (location string, err error) {
	resp, err := c.do(method, target, body, size, want, header...)
	if err != nil {
		return "", err
	}
	location = strings.TrimPrefix(resp.Header.Get("Location"), c.base)
	if _, err := c.drain(resp); err != nil {
		return "", err
	}
	return location, nil
}

// drain reads the body of an answer into the client's buffer, over and over,
// and returns its size.
func (c *client) drain(resp *http.Response) (size int64, err error) {
	defer resp.Body.Close()
	for {
		n, err := resp.Body.Read(c.buf)
		size += int64(n)
		if c.tee != nil {
			c.tee.Write(c.buf[:n])
		}
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// pushBlob uploads a blob by POST and PUT.
func (c *client) pushBlob(b blob) error {
	location, err := c.send("POST", c.path+"blobs/uploads/", nil, 0, http.StatusAccepted)
	if err != nil {
		return err
	}
	_, err = c.send("PUT", commitURL(location, b), b.reader(), b.size, http.StatusCreated,
		"Content-Type", "application/octet-stream")
	return err
}

// patchBlob uploads a blob by POST, PATCH and PUT, and does not announce its
// size, as docker and crane do.
func (c *client) patchBlob(b blob) error {
	location, err := c.send("POST", c.path+"blobs/uploads/", nil, 0, http.StatusAccepted)
	if err != nil {
		return err
	}
	location, err = c.send("PATCH", location, b.reader(), -1, http.StatusAccepted,
		"Content-Type", "application/octet-stream")
	if err != nil {
		return err
	}
	_, err = c.send("PUT", commitURL(location, b), nil, 0, http.StatusCreated)
	return err
}

func commitURL(location string, b blob) string {
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	return location + sep + "digest=" + url.QueryEscape(b.digest)
}

// putManifest pushes a manifest with a tag.
func (c *client) putManifest(tag string, manifest []byte) error {
	_, err := c.send("PUT", c.manifestURL(tag), bytes.NewReader(manifest), int64(len(manifest)), http.StatusCreated,
		"Content-Type", manifestType)
	return err
}

// get reads what is at target, and returns its size.
func (c *client) get(target string) (size int64, err error) {
	resp, err := c.do("GET", target, nil, 0, http.StatusOK)
	if err != nil {
		return 0, err
	}
	return c.drain(resp)
}

// getManifest reads a manifest by its tag, and returns its size.
func (c *client) getManifest(tag string) (size int64, err error) {
	resp, err := c.do("GET", c.manifestURL(tag), nil, 0, http.StatusOK, "Accept", manifestTypes)
	if err != nil {
		return 0, err
	}
	return c.drain(resp)
}

// head asks for what is at target, and returns the size that is announced.
func (c *client) head(target string) (size int64, err error) {
	resp, err := c.do("HEAD", target, nil, 0, http.StatusOK)
	if err != nil {
		return 0, err
	}
	return resp.ContentLength, resp.Body.Close()
}

// list reads a list to its end, page by page, and returns the size of all pages.
func (c *client) list(target string) (size int64, err error) {
	for target != "" {
		resp, err := c.do("GET", target, nil, 0, http.StatusOK)
		if err != nil {
			return size, err
		}
		n, err := c.drain(resp)
		if err != nil {
			return size, err
		}
		size += n
		if target, err = next(resp); err != nil {
			return size, err
		}
	}
	return size, nil
}

// next returns the target of the link to a list's next page, if there is one.
func next(resp *http.Response) (string, error) {
	link := resp.Header.Get("Link")
	if link == "" {
		return "", nil
	}
	target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	u, err := resp.Request.URL.Parse(target)
	if !ok || err != nil {
		return "", errors.New("malformed Link: " + link)
	}
	return u.RequestURI(), nil
}
