package ociclient

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/seed-40b21970/oci/internal/wire"
)

// maxRedirects is how many requests a call makes at most because of redirects.
const maxRedirects = 10

// redirect returns where a response sends the request, or nil if it does not.
// A request keeps its method: one that is to change something must not become
// one that does not.
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

// location returns the URL in the Location header of a response, resolved
// against the URL that was asked.
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
	case err != nil: // which would repeat the header
		return nil, badLocation(resp, "a Location header that is no URL")
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, badLocation(resp, "a Location header that is no HTTP URL")
	case asked.Scheme == "https" && u.Scheme != "https":
		return nil, badLocation(resp, "a Location header that leads from https to http")
	}
	return u, nil
}

// resolve returns the URL of a reference in the answer to a request.
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
