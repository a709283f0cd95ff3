package ociauth

import "context"

type (
	scopeKey           struct{}
	requestInfoKey     struct{}
	withoutFallbackKey struct{}
)

// ContextWithScope returns a context that asks for the scope s in advance: a
// token that a request with it needs is asked for with s as well, so that it
// serves the requests to come. It saves token requests and is never needed: if
// the token server refuses s, the token is asked for without it.
func ContextWithScope(ctx context.Context, s Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// ScopeFromContext returns the scope that ctx carries, else the empty one.
func ScopeFromContext(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(Scope)
	return s
}

// RequestInfo is what a client that makes a request knows about it.
type RequestInfo struct {
	// RequiredScope is what the request needs. Any token that contains it may
	// be used. If it is empty, it is taken from the request's method and path.
	RequiredScope Scope
}

// ContextWithRequestInfo returns a context that says what the request that is
// made with it needs.
func ContextWithRequestInfo(ctx context.Context, info RequestInfo) context.Context {
	return &RequestContext{ctx, known(info)}
}

type known RequestInfo

func (k known) RequestInfo() RequestInfo { return RequestInfo(k) }

// RequestContext is what [ContextWithRequestInfo] returns, for a client that makes it
// a part of what it has for each request, and finds out what is asked for only when
// that is wanted.
type RequestContext struct {
	context.Context
	Source interface{ RequestInfo() RequestInfo } // if it is nil, nothing is known
}

// Value implements [context.Context].
func (c *RequestContext) Value(key any) any {
	if key == (requestInfoKey{}) {
		return c.Source
	}
	return c.Context.Value(key)
}

// RequestInfoFromContext returns the RequestInfo that ctx carries, else the zero
// one.
func RequestInfoFromContext(ctx context.Context) RequestInfo {
	if source, ok := ctx.Value(requestInfoKey{}).(interface{ RequestInfo() RequestInfo }); ok {
		return source.RequestInfo()
	}
	return RequestInfo{}
}

// ContextWithoutFallback returns a context for requests that are never sent without
// the stored credentials because these were refused: it does for them what
// [StdTransportParams.NoFallback] does for all. A program uses it before it deletes
// something because the registry does not have it.
func ContextWithoutFallback(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutFallbackKey{}, true)
}

func isWithoutFallback(ctx context.Context) bool {
	without, _ := ctx.Value(withoutFallbackKey{}).(bool)
	return without
}
