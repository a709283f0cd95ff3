package ociauth

import "context"

type (
	scopeKey           struct{}
	requestInfoKey     struct{}
	withoutFallbackKey struct{}
)

// ContextWithScope returns a context that asks for the scope s in advance: the transport
// adds s to the scope of a token that a request with the context needs, so that the
// token serves later requests. This saves token requests and is never required: if the
// token server refuses s, the transport asks without it.
func ContextWithScope(ctx context.Context, s Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// ScopeFromContext returns the scope of [ContextWithScope] in ctx, or the empty scope.
func ScopeFromContext(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(Scope)
	return s
}

// RequestInfo is what a client knows about a request that it makes.
type RequestInfo struct {
	// RequiredScope is the scope that the request needs. Any token whose scope
	// contains it may be used. If it is empty, the request's method and path
	// determine it.
	RequiredScope Scope
}

// ContextWithRequestInfo returns a context that carries info about the request that is
// made with it.
func ContextWithRequestInfo(ctx context.Context, info RequestInfo) context.Context {
	return &RequestContext{ctx, constantInfo(info)}
}

// constantInfo is a source of a RequestInfo that is known beforehand.
type constantInfo RequestInfo

func (c constantInfo) RequestInfo() RequestInfo { return RequestInfo(c) }

// RequestContext is the context that [ContextWithRequestInfo] returns. A client can
// embed one in its state for a request, which saves an allocation, and compute the
// RequestInfo only when the transport asks for it.
type RequestContext struct {
	context.Context
	Source interface{ RequestInfo() RequestInfo } // nil means the zero RequestInfo
}

// Value implements [context.Context].
func (c *RequestContext) Value(key any) any {
	if key == (requestInfoKey{}) {
		return c.Source
	}
	return c.Context.Value(key)
}

// RequestInfoFromContext returns the RequestInfo of [ContextWithRequestInfo] in ctx, or
// the zero RequestInfo.
func RequestInfoFromContext(ctx context.Context) RequestInfo {
	if source, ok := ctx.Value(requestInfoKey{}).(interface{ RequestInfo() RequestInfo }); ok {
		return source.RequestInfo()
	}
	return RequestInfo{}
}

// ContextWithoutFallback returns a context for requests that the transport must not send
// without the stored credentials when these are refused. It does for one request what
// [StdTransportParams.NoFallback] does for all. A program should use it before it deletes
// something because a registry does not have it.
func ContextWithoutFallback(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutFallbackKey{}, true)
}

func isWithoutFallback(ctx context.Context) bool {
	without, _ := ctx.Value(withoutFallbackKey{}).(bool)
	return without
}
