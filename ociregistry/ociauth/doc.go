// Package ociauth authenticates requests to registries and finds the credentials
// for them.
//
// [NewStdTransport] returns an [http.RoundTripper] that meets the challenges of a
// registry: Basic authentication (RFC 7617), or Bearer authentication with tokens
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
// The transport sends the first request to a registry without credentials; only an
// access token of the [Config] goes along, and only over https. When the registry
// challenges the request, the transport sends it again, if it has credentials that
// meet the challenge or can get a token without any. From then on it knows what the
// registry wants: it adds a token to later requests, a cached one or one that it
// fetches first, which saves the round trip for the challenge. If the [Config] fails,
// so does the first request.
//
// Some registries answer a request without credentials with 401, 403 or 404 and no
// challenge. If there are credentials for such a registry, the transport asks for its
// challenge at /v2/, once, and remembers the answer, even if that has no challenge
// either. It does not ask because of a response that a redirect led to.
//
// A token is valid for a [Scope]. The scope that a request needs comes from its
// context ([ContextWithRequestInfo]), or else from its method and path; a cached token
// for a larger scope serves as well. The transport asks for a new token with the union
// of what the request needs, what the challenge names, and what the context asks for
// in advance ([ContextWithScope]). If the token server refuses that, the transport
// asks for what the challenge names alone. If the token server refuses access to the
// source of a mount, the transport asks for what the destination needs, since the
// registry may open an upload instead. There is one token request in flight for a
// scope, and all requests that need the token wait for it, each until its own context
// ends. A token is used for nine tenths of its lifetime, or until 30 seconds before
// its end if that is later, or until the registry refuses it. The lifetime is a minute
// if the token server does not say. If the registry refuses a new token, the caller
// gets the response.
//
// # When credentials are refused
//
// A token server (401, 403, or OAuth2's invalid_grant) or the registry itself (401)
// may refuse stored credentials. That does not block public content: the transport
// sends a request that reads content once more without them. It believes success, or
// a redirect that may lead to it, and logs a warning. Any other answer leaves the
// refusal standing: the registry's own 401 is the response, and a token server's
// refusal is the error. If the registry answers the second request with a temporary
// status (408, 429, 5xx), the error is both. The token of such a request serves later
// ones until the registry refuses it something; then the transport tries the
// credentials again. It never repeats a request that writes without the credentials.
// [StdTransportParams.NoFallback] disables all of this, and
// [ContextWithoutFallback] does so for one request.
//
// # Where credentials go
//
// Credentials and tokens belong to an origin: scheme, host and port. The transport
// chooses them by the URL of the request itself, so a redirect takes them nowhere
// else. A request to which a redirect led from https to plain HTTP gets none at all.
//
// A challenge may name a token server on another host. Credentials go there over
// https. They go there over plain HTTP only if the registry itself is used over plain
// HTTP, and the token server is on the same host, or both are on this machine. If the
// token server redirects, they stay at its own origin.
//
// Errors show no credentials, and neither does a [ConfigEntry] that is printed or
// logged.
package ociauth
