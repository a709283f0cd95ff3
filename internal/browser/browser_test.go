package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/go-quicktest/qt"
)

// start starts Chromium, until the test ends, and returns the context of its tabs. It has a directory
// of chromedp's, which knows that processes of Chromium may write to it for a while after its end.
func start(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	qt.Assert(t, qt.IsNil(chromedp.Do(ctx)))
	return ctx
}

// A tab has one page of a host.
type tab struct {
	*testing.T
	ctx  context.Context
	host string

	mu     sync.Mutex
	faults []string // that the browser has told of
}

// open opens a page, until the test ends.
func open(t *testing.T, browser context.Context, host, path string, status int64) *tab {
	t.Helper()
	tab := &tab{T: t, host: host}
	var end context.CancelFunc
	tab.ctx, end = chromedp.NewContext(browser)
	t.Cleanup(end)
	qt.Assert(t, qt.IsNil(chromedp.Listen(tab.ctx, tab.note)))
	send(tab, network.Enable, network.EnableParams{})
	send(tab, log.Enable, cdp.Empty{})
	response := run(tab, chromedp.NavigateResponse("http://"+host+path))
	qt.Check(t, qt.Equals(response.Status, status))
	return tab
}

// run does something in the tab.
func run[T any](tab *tab, action chromedp.Action[T]) T {
	tab.Helper()
	v, err := chromedp.Run(tab.ctx, action)
	qt.Assert(tab, qt.IsNil(err))
	return v
}

// send sends a command of the protocol.
func send[P, R any](tab *tab, command cdp.Command[P, R], params P) {
	tab.Helper()
	_, err := chromedp.Call(tab.ctx, command, params)
	qt.Assert(tab, qt.IsNil(err))
}

// note notes what the browser tells that should not be.
func (tab *tab) note(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	fault := func(format string, args ...any) { tab.faults = append(tab.faults, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "http" || u.Host != tab.host {
			fault("request of %s", e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Type != network.ResourceTypeDocument && e.Response.Status >= 400 {
			fault("%s: status %d", e.Response.URL, e.Response.Status)
		}
	case *network.EventLoadingFailed:
		fault("%s: %s", e.ErrorText, e.BlockedReason)
	case *log.EventEntryAdded:
		if e.Entry.Source != log.EntrySourceNetwork {
			fault("%s: %s", e.Entry.Source, e.Entry.Text)
		}
	case *runtime.EventConsoleAPICalled:
		fault("console: %s", e.Type)
	case *runtime.EventExceptionThrown:
		fault("exception: %s", e.ExceptionDetails.Text)
	}
}

// check checks that the browser has told of no fault.
func (tab *tab) check() {
	tab.Helper()
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, fault := range tab.faults {
		tab.Error(fault)
	}
}

// screen is what a page is seen on.
type screen struct {
	name          string
	width, height int64
	scheme        string // of colors
}

var screens = []screen{
	{"wide-light", 1280, 800, "light"},
	{"wide-dark", 1280, 800, "dark"},
	{"narrow-light", 390, 844, "light"},
	{"narrow-dark", 390, 844, "dark"},
}

// show shows the page on a screen.
func (tab *tab) show(s screen) {
	tab.Helper()
	scheme := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: s.scheme}
	send(tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: s.height, DeviceScaleFactor: 1, Mobile: s.width < 600})
	send(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{scheme}})
}

// picture leaves a picture of the page, if somebody wants to look at it.
func (tab *tab) picture(name string) {
	tab.Helper()
	dir := os.Getenv("OCI_BROWSER_SCREENSHOTS")
	if dir == "" {
		return
	}
	png := run(tab, chromedp.FullScreenshot(100))
	qt.Assert(tab, qt.IsNil(os.MkdirAll(dir, 0o777)))
	file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".png")
	qt.Assert(tab, qt.IsNil(os.WriteFile(file, png, 0o666)))
}
