// Package ociauth authenticates requests to registries, and finds the credentials
// for that.
//
// [NewStdTransport] returns an [http.RoundTripper] that does what the registry
// asks for: Basic authentication (RFC 7617), or Bearer authentication with tokens
// from the registry's token server (the distribution registry's token and OAuth2
// specifications). [Load] finds credentials where Docker and Podman keep them. With
// both, any HTTP client can talk to registries:
//
//	config, err := ociauth.Load(nil)
//	...
//	client := &http.Client{
//		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{Config: config}),
//	}
//
// # How a request is sent
//
// The first request to a registry goes without credentials, except for an access
// token of the [Config], which it carries over https. When the registry challenges it,
// and there are credentials that meet the challenge, or a token can be had without, it
// is sent again. From then on the transport knows what the registry wants: later
// requests get a token that is at hand, or one that is fetched first, and cost no
// further round trip. If the [Config] fails, so does the first request.
//
// Some registries answer a request without credentials with 401, 403 or 404 and no
// challenge. If there are credentials, the transport asks such a registry for its
// challenge at /v2/, once; it remembers, too, that there is none. The answer of where
// a redirect led to is no reason to ask.
//
// A token is good for a [Scope]. What a request needs is known from its context
// ([ContextWithRequestInfo]), or else from its method and path; a token that is good
// for more serves as well. A new token is asked for with what the request needs,
// what the challenge names, and what the context asks for in advance
// ([ContextWithScope]); where that is too much for the token server, with what the
// challenge names alone; and for a mount, where the token server does not give access
// to the source, with what the destination needs, since the registry may open an
// upload. For one scope, one token request is under way at a time, and all who need the
// token wait for it, each until its own context ends. Tokens are used for nine tenths
// of their life, or until 30 seconds before its end if that is later (the life is a
// minute, where the token server does not say), or until the registry refuses them. A
// new token that is refused is the end: the caller gets the response.
//
// # When credentials are refused
//
// Stored credentials may be refused by a token server (401, 403, or OAuth2's
// invalid_grant) or by the registry itself (401). That does not block what is public:
// a request that reads content is sent once more without them. Only success is
// believed then, or a redirect that may lead to it, and the logger gets a warning.
// Otherwise the refusal stands: the registry's own 401 is the response, and a token
// server's refusal is the error. If the registry answers the second request with a
// status that may pass (408, 429, 5xx), the error is both. The token that such a
// request got serves those that follow, until the registry refuses something to it;
// then the credentials are tried again. A request that writes is never repeated
// without them. [StdTransportParams.NoFallback] forbids all of this, and
// [ContextWithoutFallback] does so for one request.
//
// # Where credentials go
//
// Credentials and tokens belong to an origin: scheme, host and port. They are
// chosen by the request's own URL; so a redirect takes them nowhere else. A request
// to which a redirect led from https to plain HTTP gets none at all.
//
// A challenge may name a token server on another host. Credentials go there over
// https alone; over plain HTTP, only if the registry itself is used so, and the
// token server is on the same host, or both are on this machine. A token server
// that redirects gets them at its own origin only.
//
// Errors show no credentials, and neither does a [ConfigEntry] that is printed or
// logged.
package ociauth
