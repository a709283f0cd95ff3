package ociclient

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/seed-40b21970/oci/internal/wire"
)

// maxRedirects bounds the number of requests in a chain of redirects.
const maxRedirects = 10

// redirect returns the URL that a response redirects the request to, or nil. The request
// keeps its method: one that changes something must not become one that does not.
func redirect(resp *http.Response, method string) (*url.URL, error) {
	reads := method == http.MethodGet || method == http.MethodHead
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	case http.StatusSeeOther:
		if !reads {
			return nil, nil
		}
	default:
		return nil, nil
	}
	return location(resp)
}

// location returns the URL in the Location header of a response, resolved against the
// URL of its request.
func location(resp *http.Response) (*url.URL, error) {
	return locationFrom(resp, resp.Request.URL)
}

func locationFrom(resp *http.Response, asked *url.URL) (*url.URL, error) {
	value := resp.Header.Get("Location")
	if value == "" {
		return nil, badLocation(resp, "no Location header")
	}
	u, err := resolve(asked, value)
	switch {
	case err != nil: // its text would contain the header
		return nil, badLocation(resp, "a Location header that is not a URL")
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, badLocation(resp, "a Location header that is not an HTTP URL")
	case asked.Scheme == "https" && u.Scheme != "https":
		return nil, badLocation(resp, "a Location header that leads from https to http")
	}
	return u, nil
}

// resolve returns the URL of a reference in the response to a request for asked.
func resolve(asked *url.URL, ref string) (*url.URL, error) {
	u, err := asked.Parse(ref)
	if err != nil {
		return nil, err
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	wire.KeepOrigin(u, asked)
	return u, nil
}

func badLocation(resp *http.Response, problem string) error {
	return final(httpError(errors.New("the answer has "+problem), resp, nil))
}
