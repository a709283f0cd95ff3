package ociserver

import (
	"context"
	"testing"

	"github.com/go-quicktest/qt"
)

// A context that is derived from one that has ended has ended too, even if the request
// continues. Package context panics if Done is closed and Err returns nil.
func TestOutlasting_ContextsDerivedFromItEndWithIt(t *testing.T) {
	type key struct{}
	for _, test := range []struct {
		name    string
		request func() (context.Context, context.CancelFunc)
	}{
		{"request goes on", func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }},
		{"request never ends", func() (context.Context, context.CancelFunc) { return context.Background(), func() {} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, cancel := test.request()
			defer cancel()
			ctx := outlast(context.WithValue(request, key{}, "v"))
			before, stop := context.WithCancel(ctx)
			defer stop()
			qt.Check(t, qt.IsNil(ctx.Err()))
			qt.Check(t, qt.IsNil(before.Err()))
			ctx.end()
			<-before.Done()
			qt.Check(t, qt.ErrorIs(before.Err(), context.Canceled))
			qt.Check(t, qt.ErrorIs(ctx.Err(), context.Canceled))

			after, stop := context.WithCancel(ctx)
			defer stop()
			qt.Check(t, qt.ErrorIs(after.Err(), context.Canceled))
			qt.Check(t, qt.Equals(after.Value(key{}), any("v")))
		})
	}
}

// A context that nobody waited for ends as well. A context whose request has ended continues
// until the upload is stored.
func TestOutlasting_GoesOnWhenTheRequestHasEnded(t *testing.T) {
	unwatched := outlast(context.Background())
	unwatched.end()
	qt.Check(t, qt.ErrorIs(unwatched.Err(), context.Canceled))
	<-unwatched.Done()

	request, cancel := context.WithCancel(context.Background())
	ctx := outlast(request)
	cancel()
	qt.Check(t, qt.IsNil(ctx.Err()))
	ctx.end()
	qt.Check(t, qt.ErrorIs(ctx.Err(), context.Canceled))
}
