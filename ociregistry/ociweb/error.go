package ociweb

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// pageError is an error that the pages know by themselves.
type pageError struct {
	status int
	text   string
}

func (e *pageError) Error() string { return e.text }

var errNoPage = &pageError{http.StatusNotFound, "There is no such page."}

// refusal is the error with which Options.Authorize refused a request.
type refusal struct{ err error }

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

// failure is the page of an error.
type failure struct {
	Status int
	Title  string
	Text   string
}

// fail answers the request with err.
func (x *exchange) fail(err error) {
	f := failure{Status: x.status(err)}
	f.Title, f.Text = http.StatusText(f.Status), x.explain(err, f.Status)
	if f.Title == "" {
		f.Title = "Error"
	}
	body, err := x.render(page{"error", f.Title, f})
	if err != nil {
		body = nil // which no content can bring about
	}
	x.sendPage(f.Status, body)
}

// status returns the status for err, and sets the headers that belong to it.
func (x *exchange) status(err error) int {
	var own *pageError
	if errors.As(err, &own) {
		return own.status
	}
	_, status := ociregistry.MarshalError(err)
	var refused *refusal
	switch {
	case status == http.StatusUnauthorized && errors.As(err, &refused):
		x.w.Header().Set("WWW-Authenticate", ociserver.Challenge(err))
	case status == http.StatusUnauthorized:
		return http.StatusForbidden // of the registry, which the client cannot authenticate to
	case status == http.StatusInternalServerError && x.opts.Remote:
		return http.StatusBadGateway
	}
	return status
}

// explain returns the text for people. If the client is not to blame, that is a reference to
// the log, because the error can contain paths and addresses.
func (x *exchange) explain(err error, status int) string {
	var own *pageError
	if errors.As(err, &own) {
		return own.text
	}
	if status < http.StatusInternalServerError {
		return sentence(messageOf(err))
	}
	if x.ctx.Err() != nil {
		return "The request was ended."
	}
	return fmt.Sprintf("The registry could not answer. Its log says more beside the reference %s.", x.logFailure(err, status))
}

// messageOf returns the message of err without what other parts of a page say.
func messageOf(err error) string {
	body, _ := ociregistry.MarshalError(err)
	var wire ociregistry.WireErrors
	if json.Unmarshal(body, &wire) != nil || len(wire.Errors) == 0 {
		return ""
	}
	e := wire.Errors[0]
	if e.Message == "" {
		return e.Error()
	}
	return e.Message
}

// logFailure logs err, and returns the reference by which it is found.
func (x *exchange) logFailure(err error, status int) string {
	reference := fmt.Sprintf("%016x", rand.Uint64())
	x.opts.Logger.LogAttrs(x.ctx, slog.LevelError, "page failed",
		slog.String("reference", reference), slog.Int("status", status),
		slog.String("path", clip(x.req.URL.Path, 512)), slog.String("error", clip(err.Error(), 512)))
	return reference
}
