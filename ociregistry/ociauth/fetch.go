package ociauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	maxTokenAnswer = 128 << 10 // bytes
	maxTokenError  = 8 << 10   // bytes

	// defaultLifetime is the lifetime of a token whose server does not say (Token
	// Authentication Specification, section "Token Response Fields").
	defaultLifetime = time.Minute

	// maxLifetime bounds the lifetime that a token server can claim.
	maxLifetime = 24 * time.Hour

	// maxMargin bounds the margin at the end of a token's lifetime in which the token
	// is no longer used, which is otherwise a tenth of the lifetime: the registry's
	// clock may be ahead, and a request takes time to arrive.
	maxMargin = 30 * time.Second
)

// A tokenRequest asks the realm of a challenge for a token.
type tokenRequest struct {
	r         *registry
	b         *bearer
	scope     Scope
	userAgent string
}

// send asks for a token with the credentials of acct: with a refresh token by POST, as
// OAuth2 specifies; with a username and password, or without credentials, by GET. A
// realm that does not take POST gets the refresh token as a password. The returned token
// has no key and no scope yet.
func (q tokenRequest) send(ctx context.Context, acct *account) (*token, error) {
	if !acct.entry.isZero() && !q.r.origin.trusts(q.b.realm) {
		return nil, fmt.Errorf("%w: credentials are not sent to the token server %s: it is not https", ociregistry.ErrUnauthorized, q.b.realm.Host)
	}
	refresh := acct.refreshToken()
	if refresh == "" {
		return q.get(ctx, acct, acct.basic)
	}
	if q.r.takesPost(q.b.realm) {
		tok, err := q.post(ctx, acct, refresh)
		if !isNoPost(err) {
			return tok, err
		}
		q.r.setNoPost(q.b.realm)
	}
	return q.get(ctx, acct, []string{basicAuth(acct.entry.Username, refresh)})
}

// isNoPost reports whether err is the response of a realm that does not take POST.
func isNoPost(err error) bool {
	var herr ociregistry.HTTPError
	if !errors.As(err, &herr) {
		return false
	}
	switch herr.StatusCode() {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

func (r *registry) takesPost(realm *url.URL) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noPost != realm.String()
}

func (r *registry) setNoPost(realm *url.URL) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noPost = realm.String()
}

// get sends the request of the Token Authentication Specification.
func (q tokenRequest) get(ctx context.Context, acct *account, auth []string) (*token, error) {
	u := *q.b.realm
	params := u.Query()
	if q.b.service != "" {
		params.Set("service", q.b.service)
	}
	for _, s := range strings.Fields(q.scope.String()) {
		params.Add("scope", s)
	}
	u.RawQuery = params.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if auth != nil {
		req.Header["Authorization"] = auth
	}
	return q.do(req, acct)
}

// post sends the request of the OAuth2 Token Authentication Specification (RFC 6749,
// section 6).
func (q tokenRequest) post(ctx context.Context, acct *account, refresh string) (*token, error) {
	form := url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh},
		"client_id":     {q.r.t.clientID},
	}
	if q.b.service != "" {
		form.Set("service", q.b.service)
	}
	if !q.scope.IsEmpty() {
		form.Set("scope", strings.Join(strings.Fields(q.scope.String()), " "))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.b.realm.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return q.do(req, acct)
}

func (q tokenRequest) do(req *http.Request, acct *account) (*token, error) {
	if q.userAgent != "" {
		req.Header.Set("User-Agent", q.userAgent)
	}
	client := http.Client{Transport: q.r.t.base, CheckRedirect: checkRedirect}
	start := time.Now()
	timeout := q.r.t.timeout
	if timeout > 0 {
		ctx, cancel := context.WithTimeoutCause(req.Context(), timeout, errTokenTimeout)
		defer cancel()
		req = req.WithContext(ctx)
	}
	late := func(err error) error {
		if context.Cause(req.Context()) == errTokenTimeout {
			return fmt.Errorf("waited %v for the answer: %w", timeout, os.ErrDeadlineExceeded)
		}
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err // without the URL, which is long and says little
		}
		return nil, q.wrap(late(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return nil, q.wrap(statusError(resp, acct))
	}
	a, err := readAnswer(resp.Body)
	if err != nil {
		return nil, q.wrap(late(err))
	}
	if a.RefreshToken != "" && acct.refreshToken() != "" {
		acct.setRefreshToken(a.RefreshToken)
	}
	lifetime := a.lifetime()
	return &token{
		header:  []string{"Bearer " + a.token()},
		expires: start.Add(lifetime - min(lifetime/10, maxMargin)),
	}, nil
}

// errTokenTimeout is the cause of a context that ends because of TokenTimeout.
var errTokenTimeout = errors.New("the token server takes too long")

func (q tokenRequest) wrap(err error) error {
	return fmt.Errorf("token from %s: %w", q.b.realm.Host, err)
}

// checkRedirect follows redirects, but takes credentials to no other origin. A client
// would resend credentials in a body for status 307 and 308, and drop them for others.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first, last := via[0], via[len(via)-1]
	if last.URL.Scheme == "https" && req.URL.Scheme == "http" {
		wire.KeepOrigin(req.URL, last.URL)
	}
	secret := first.Method == http.MethodPost || first.Header.Get("Authorization") != ""
	switch {
	case len(via) >= 10,
		req.Method != first.Method,
		secret && originOf(req.URL) != originOf(first.URL),
		last.URL.Scheme == "https" && req.URL.Scheme != "https":
		return http.ErrUseLastResponse
	}
	return nil
}

// tokenAnswer is the response of a token server.
type tokenAnswer struct {
	Token        string          `json:"token"`
	AccessToken  string          `json:"access_token"`
	RefreshToken string          `json:"refresh_token"`
	ExpiresIn    json.RawMessage `json:"expires_in"`
}

func readAnswer(body io.Reader) (*tokenAnswer, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxTokenAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxTokenAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxTokenAnswer)
	}
	var a tokenAnswer
	if json.Unmarshal(data, &a) != nil { // the error could contain a part of the token
		return nil, errors.New("the answer is not the JSON of a token")
	}
	if !isTokenText(a.token()) {
		return nil, errors.New("the answer has no token, or a malformed one")
	}
	return &a, nil
}

// token returns the token, which has either of two names.
func (a *tokenAnswer) token() string {
	if a.Token != "" {
		return a.Token
	}
	return a.AccessToken
}

// isTokenText reports whether s can stand in a header.
func isTokenText(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// lifetime returns how long the token is valid. Some token servers put the number in
// quotes.
func (a *tokenAnswer) lifetime() time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(a.ExpiresIn), `"`), 64)
	if err != nil || !(seconds > 0) {
		return defaultLifetime
	}
	return time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second))
}

// statusError returns the error for a response with an error status.
func statusError(resp *http.Response, acct *account) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxTokenError))
	reason, grantInvalid := readReason(body, acct)
	var err error
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusBadRequest && grantInvalid:
		err = because(ociregistry.ErrUnauthorized, reason)
	case resp.StatusCode == http.StatusForbidden:
		err = because(ociregistry.ErrDenied, reason)
	case resp.StatusCode == http.StatusTooManyRequests:
		err = because(ociregistry.ErrTooManyRequests, reason)
	case reason != "":
		err = errors.New(reason)
	}
	return httpError(err, resp)
}

func because(err ociregistry.Error, reason string) error {
	if reason == "" {
		return err
	}
	return ociregistry.NewError(reason, err.Code(), nil)
}

// readReason returns the reason that a token server gives for its refusal, in any of
// the forms in use, and whether that is OAuth2's code for bad credentials (RFC 6749,
// section 5.2). It omits a reason that contains a secret.
func readReason(body []byte, acct *account) (reason string, grantInvalid bool) {
	var e struct {
		Error            string                  `json:"error"`
		ErrorDescription string                  `json:"error_description"`
		Details          string                  `json:"details"`
		Message          string                  `json:"message"`
		Errors           []ociregistry.WireError `json:"errors"`
	}
	if json.Unmarshal(body, &e) != nil {
		return "", false
	}
	parts := []string{e.Error, e.ErrorDescription, e.Details, e.Message}
	for _, w := range e.Errors {
		parts = append(parts, w.Message)
	}
	for _, part := range parts {
		switch {
		case part == "" || acct.hasSecretIn(part):
		case reason == "":
			reason = part
		default:
			reason += ": " + part
		}
	}
	return printable(reason), e.Error == "invalid_grant"
}

// printable returns the start of s, with spaces in place of unprintable characters.
func printable(s string) string {
	const maxLen = 256 // bytes
	s = strings.ToValidUTF8(s[:min(len(s), maxLen)], "")
	return strings.Map(func(c rune) rune {
		if !strconv.IsPrint(c) {
			return ' '
		}
		return c
	}, s)
}
