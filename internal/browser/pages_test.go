package browser

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/go-quicktest/qt"
)

// axe returns the text of axe-core.
func axe(t *testing.T) string {
	t.Helper()
	path := os.Getenv("OCI_BROWSER_AXE")
	if path == "" {
		t.Skip("PAGES ARE NOT TESTED: OCI_BROWSER_AXE names no axe.min.js")
	}
	script, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	return string(script)
}

func TestPages_AreAccessibleAndWholeOnEachScreen(t *testing.T) {
	script := axe(t)
	origin := serve(t, "-mem", "-sparse")
	digest := content{t: t, reg: connect(t, origin)}.push()
	proxy := serve(t, "-proxy", "http://"+origin)
	empty := serve(t, "-mem")
	browser := start(t)
	for _, page := range []struct {
		name, host, path string
		status           int64
	}{
		{"repositories", origin, "/", 200},
		{"no repositories", empty, "/", 200},
		{"search", origin, "/?q=app", 200},
		{"search finds nothing", origin, "/?q=nothing-at-all", 200},
		{"tags", origin, "/r/team/app", 200},
		{"many tags", origin, "/r/team/tools?page=2&sort=newest", 200},
		{"more tags than are ordered", origin, "/r/team/nightly", 200},
		{"tags of a proxy", proxy, "/r/team/app", 200},
		{"no tag", origin, "/r/team/app?q=nothing", 200},
		{"index", origin, "/r/team/app:1.12.0", 200},
		{"index by digest", origin, "/r/team/app@" + digest, 200},
		{"image", origin, "/r/team/frontend:v1", 200},
		{"foreign manifest", origin, "/r/team/app:foreign", 200},
		{"compare", origin, "/compare/team/app?ref=1.9.0&ref=1.12.0", 200},
		{"compare nothing", origin, "/compare/team/app?ref=1.9.0", 200},
		{"JSON", origin, "/json/team/frontend:v1", 200},
		{"unknown manifest", origin, "/r/team/app:unknown", 404},
		{"no page", origin, "/nothing", 404},
	} {
		t.Run(page.name, func(t *testing.T) {
			tab := open(t, browser, page.host, page.path, page.status)
			run(tab, chromedp.Evaluate[chromedp.Void](script))
			for _, screen := range screens {
				tab.show(screen)
				tab.picture(page.name + " " + screen.name)
				width := run(tab, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`))
				qt.Check(t, qt.IsTrue(width <= screen.width), qt.Commentf("%s: the page is %d wide", screen.name, width))
				tab.checkAccess(screen)
			}
			tab.show(screens[0])
			tab.checkKeyboard()
			tab.check()
		})
	}
}

// violation is what axe-core says of a rule that the page does not follow.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

// checkAccess checks that axe-core finds nothing that is serious.
func (tab *tab) checkAccess(s screen) {
	tab.Helper()
	text := run(tab, chromedp.Evaluate[string](`axe.run({resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations))`, chromedp.EvalAwaitPromise))
	var found []violation
	qt.Assert(tab, qt.IsNil(json.Unmarshal([]byte(text), &found)))
	for _, v := range found {
		if v.Impact == "serious" || v.Impact == "critical" {
			tab.Errorf("%s: %s: %s: %s: %+v", s.name, v.Impact, v.ID, v.Help, v.Nodes)
		} else {
			tab.Logf("%s: %s: %s: %s", s.name, v.Impact, v.ID, v.Help)
		}
	}
}

// focused describes the element that has the focus: its number among those that can have it, or
// -1, and whether that can be seen.
const focused = `(() => {
	const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden])")]
	const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect()
	return {
		number: all.indexOf(e), all: all.length, html: e.outerHTML.slice(0, 200),
		outlined: style.outlineStyle != "none" && parseFloat(style.outlineWidth) > 0,
		inside: box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
	}
})()`

// checkKeyboard checks that the tab key leads to everything, in the order of the page, and that
// one sees where it is.
func (tab *tab) checkKeyboard() {
	tab.Helper()
	type element struct {
		Number, All      int
		HTML             string
		Outlined, Inside bool
	}
	number := 0
	for {
		run(tab, chromedp.KeyEvent(kb.Tab))
		e := run(tab, chromedp.Evaluate[element](focused))
		if number == e.All {
			return // and from the last on to the browser, or to the first
		}
		if e.Number != number || !e.Outlined || !e.Inside {
			tab.Errorf("the tab key leads to %+v, which is to be number %d", e, number)
			return
		}
		number++
	}
}
