package integration

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern/tracking/rewrite"
)

// pageView is what a browser makes of a page.
type pageView struct {
	Text     string
	Elements int
	Links    []string
	Sizes    [2]pageSize // at each of pageWidths
}

type pageSize struct {
	Width, Height int
	Boxes         []string // of all elements but the pixels
	Hits          []string // what is at the middle of each link
}

var pageWidths = [2]int{600, 320}

// measurePage returns a pageSize. An element's box is given with its name and
// its number among the elements that are not pixels.
const measurePage = `(() => {
	const pixel = e => e.tagName == "IMG" && e.src.startsWith("http://tracker.test/pixel");
	const all = [...document.querySelectorAll("*")].filter(e => !pixel(e));
	const number = new Map(all.map((e, i) => [e, i]));
	const name = e => !e ? "nothing" : pixel(e) ? "a pixel" : e.tagName + number.get(e);
	const root = document.scrollingElement;
	const size = {Width: root.scrollWidth, Height: root.scrollHeight};
	size.Boxes = all.map(e => {
		const r = e.getBoundingClientRect();
		return name(e) + " " + [r.x, r.y, r.width, r.height].map(n => n.toFixed(2)).join(" ");
	});
	size.Hits = [...document.querySelectorAll("a[href],area[href]")].map(a => {
		a.scrollIntoView({block: "center"});
		const r = a.getClientRects()[0];
		return r ? name(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)) : "not shown";
	});
	root.scrollTo(0, 0);
	return size;
})()`

// view opens a page and looks at it in two widths.
func (b *browser) view(url string) (v pageView, shots [2][]byte) {
	b.t.Helper()
	b.open(url)
	b.eval(`({
		Text: document.body.innerText,
		Elements: document.querySelectorAll("*").length,
		Links: [...document.querySelectorAll("a[href],area[href]")].map(a => a.href),
	})`, &v)
	for i, width := range pageWidths {
		shots[i] = b.screenshot(width)
		b.eval(measurePage, &v.Sizes[i])
	}

	return v, shots
}

// compare holds a rewritten page against the one it was made of.
func (v pageView) compare(t *testing.T, was pageView) {
	t.Helper()
	// (To a browser each picture that is a block ends a line of text.)
	if strings.Join(strings.Fields(v.Text), " ") != strings.Join(strings.Fields(was.Text), " ") {
		t.Errorf("text differs:\n%q\n%q", was.Text, v.Text)
	}

	for i, width := range pageWidths {
		is, was := v.Sizes[i], was.Sizes[i]
		if is.Width != was.Width || is.Height != was.Height {
			t.Errorf("at %d px: page of %d x %d, want %d x %d", width, is.Width, is.Height, was.Width, was.Height)
		}
		for k := range min(len(is.Boxes), len(was.Boxes)) {
			if is.Boxes[k] != was.Boxes[k] {
				t.Errorf("at %d px: %s, want %s", width, is.Boxes[k], was.Boxes[k])
				break
			}
		}
		if !slices.Equal(is.Hits, was.Hits) {
			t.Errorf("at %d px: clicks hit %v, want %v", width, is.Hits, was.Hits)
		}
	}
}

// hostileSheets are style sheets that reach pictures they do not mean.
var hostileSheets = []struct{ name, css string }{
	{"none", ""},
	{"wide pictures", `img{width:100%!important;height:auto!important}`},
	{"wide pictures on small screens", `@media (max-width:500px){img{width:100%!important;height:auto!important;max-width:none!important}}`},
	{"least sizes", `img{min-width:300px!important;min-height:200px!important;max-width:none!important;max-height:none!important}`},
	{"pictures in the flow", `img{display:block!important;position:relative!important;top:90px!important}`},
	{"pictures in lines", `img{display:inline!important;position:static!important;vertical-align:top!important}`},
	{"borders and margins", `img{border:9px solid red!important;margin:40px!important;padding:30px!important;outline:5px solid blue!important}`},
	{"everything is a block", `*{display:block!important}`},
	{"everything is positioned", `*{position:relative!important}`},
	{"everything is large", `*{min-height:30px!important;margin-bottom:7px!important;float:none!important}`},
	{"fixed pictures", `img{position:fixed!important;inset:0!important;width:100vw!important;height:100vh!important;z-index:999!important}`},
	{"pictures at the right end", `img{left:auto!important;right:-500px!important;bottom:-900px!important;top:auto!important}`},
	{"transformed pictures", `img{transform:scale(500) translate(50px,80px)!important;zoom:5!important}`},
	{"pictures that take clicks", `img{pointer-events:auto!important;cursor:pointer}`},
	{"dark mode", `@media (prefers-color-scheme:dark),all{img{background:#fff!important;filter:invert(1)!important;opacity:1!important;box-shadow:0 0 40px red!important}}`},
	{"generated content", `img{content:none!important}img::after{content:"x";display:block;height:90px}`},
	{"transition", `img{transition:all 1ms!important;animation:grow 1ms forwards!important}@keyframes grow{to{width:500px;height:500px}}`},
	{"pictures in columns", `body{columns:2}img{column-span:all!important;break-before:always!important}`},
	{"first child", `body>:first-child{margin-top:50px;background:#eee}`},
	{"last child", `body>:last-child{margin-bottom:70px;background:#ddd}`},
	{"every second child", `body>:nth-child(2n){padding:20px;background:#ccc}body>:nth-last-child(2){border:3px solid}`},
	{"first of its type", `img:first-of-type{border:8px solid red}img:last-of-type{border:8px solid blue}`},
	{"only child", `body>:only-child{padding:30px}`},
	{"siblings", `body>*+*{margin-top:30px}img+table{border:9px solid}img~p{color:red}`},
	{"flex body", `body{display:flex;flex-direction:column;gap:20px}img{flex:1 0 200px!important}`},
	{"flex row", `body{display:flex;flex-wrap:wrap;gap:10px;justify-content:space-between}`},
	{"grid body", `body{display:grid;grid-template-columns:1fr 1fr;gap:15px}img{grid-column:1/-1!important}`},
	{"table layout", `body{display:table;width:100%;border-spacing:9px}body>*{display:table-row}img{display:table-cell!important}`},
	{"capitals", `BODY>:FIRST-CHILD{MARGIN-TOP:50px;BACKGROUND:#eee}BODY{DISPLAY:FLEX;GAP:20px}`},
	{"cascade layers", `@layer a,b;@layer a{img{width:300px!important;height:200px!important;position:static!important}}`},
	{"attributes of the pixel", `img[width="1"],[aria-hidden=true]{width:200px!important;height:200px!important;display:block!important}`},
	{"logical sizes", `img{inline-size:200px!important;block-size:200px!important;margin-block:30px!important;inset-inline:9px!important}`},
	{"no margins", `html,body{margin:0;padding:0}p{margin:0}`},
	{"full height", `html,body{height:100%;margin:0}body{overflow:auto}`},
	{"right to left", `body{direction:rtl}`},
	{"lines around it", `body{line-height:60px;font-size:40px}`},
	{"clearing", `*{clear:both!important}`},
}

// hostileBodies are the bodies that they are tried on.
var hostileBodies = []struct{ name, html string }{
	{"pictures alone", `<body><a href="https://x.example/1"><img src="http://pages.test/none.gif" width="80" height="20" alt=""></a><hr></body>`},
	{"tables", `<body><table width="100%" cellpadding="0" cellspacing="0"><tr><td><a href="https://x.example/1">first</a></td>` +
		`<td><p>some text</p></td></tr></table><p>words <a href="https://x.example/2">second</a></p>` +
		`<div><a href="https://x.example/3"><img src="http://pages.test/none.gif" width="80" height="20" alt="third"></a></div></body>`},
	{"a link at each end", `<body><a href="https://x.example/1">first link of the page</a><p>text</p><p>more</p>` +
		`<a href="https://x.example/2">last link of the page</a></body>`},
	{"headings", `<body><h1>Heading</h1><p>One</p><p>Two <a href="https://x.example/1">a link</a></p><ul><li>a<li>b</ul></body>`},
	{"no body tag", `<p>One <a href="https://x.example/1">a link</a><p>Two`},
	{"one table", `<body><table align="center"><tr><td><a href="https://x.example/1">a link</a> and text</td></tr></table></body>`},
	{"a table that is not closed", `<body><p>above</p><table border="1"><tr><td><a href="https://x.example/1">cell</a></td></tr></body>`},
	{"nested tables that are not closed", `<body><table><tr><td>a<table><tr><td><a href="https://x.example/1">x</a></td></tr><tr></body>`},
}

// positions say what a mail program makes of the position of the pixels: Gmail
// drops it.
var positions = []struct{ name, old string }{
	{"kept", ""},
	{"dropped", "position:absolute!important;"},
}

// withoutPosition are the sheets under which a page shows a picture that is not
// positioned, though it takes no room: a float changes where others are cleared.
var withoutPosition = map[string]bool{"clearing": true}

// besideNothing are the sheets under which a page of pictures alone, where the
// pixel can be put behind no text, is laid out in another way.
var besideNothing = map[string]bool{
	"first child": true, "last child": true, "every second child": true, "only child": true, "siblings": true, "first of its type": true,
	"flex body": true, "flex row": true, "grid body": true, "table layout": true, "capitals": true,
}

// TestChromiumHostileStyles looks at pages with style sheets that would blow a
// careless pixel up: the page keeps its text, its size, the box of each element
// and its picture, and a click at the middle of each link still hits it. A third
// of the pairs of sheets and bodies is tried; all of them where POSTERN_PAGES is
// 60 or more, as in integration/soak.
func TestChromiumHostileStyles(t *testing.T) {
	var pages sync.Map
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "tracker.test") {
			w.Header().Set("Content-Type", "image/gif")
			gif, _ := base64.StdEncoding.DecodeString("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
			w.Write(gif)
			return
		}
		page, ok := pages.Load(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page.([]byte))
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	b := startBrowser(t, plain.Listener.Addr().String(), plain.Listener.Addr().String())

	everything := setting("POSTERN_PAGES", 12) >= 60
	for i, body := range hostileBodies {
		for k, sheet := range hostileSheets {
			if !everything && (i+k)%3 > 0 {
				continue
			}
			if body.name == "pictures alone" && besideNothing[sheet.name] {
				continue
			}
			page := []byte("<!doctype html><html><head><style>" + sheet.css + "</style></head>" + body.html + "</html>")
			after, links, pixels := rewritten(t, page, &webStamps{})
			if links == 0 || pixels != 2 {
				t.Errorf("%s, %s: %d links, %d pixels", body.name, sheet.name, links, pixels)
			}
			pages.Store("/before", page)
			b.t = t
			was, shotsBefore := b.view("http://pages.test/before")
			for _, position := range positions {
				t.Run(body.name+"/"+sheet.name+"/position "+position.name, func(t *testing.T) {
					if position.old != "" && withoutPosition[sheet.name] {
						t.Skip("only a positioned picture has no effect here")
					}
					b.t = t
					pages.Store("/after", []byte(strings.ReplaceAll(string(after), position.old, "")))
					is, shotsAfter := b.view("http://pages.test/after")
					is.compare(t, was)
					for i, width := range pageWidths {
						if err := samePicture(shotsBefore[i], shotsAfter[i]); err != nil {
							t.Errorf("pictures at %d px: %v", width, err)
						}
					}
				})
			}
		}
	}
}

// leftAlone are targets that Chromium's parser of URLs accepts, though no name
// in them can be looked up, or only Chromium's does.
var leftAlone = map[string]bool{
	"https:javascript://x.example/": true,
	"https://x example/":            true,
	"https://xn--a.example/":        true,
	"javascript:alert(1)":           true,
	"java\x01script://x.example/":   true,
}

// TestChromiumRedirects follows targets and their locations in a browser's own
// reading of URLs.
func TestChromiumRedirects(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	b := startBrowser(t, server.Listener.Addr().String(), server.Listener.Addr().String())

	for _, target := range []string{
		"https://x.example/?a=1&b=%20#f", "HTTP://X.Example/A", "https://x.example", "https://x.example?a", "https://x.example#a",
		"https://u:p@x.example:8443/x", "https://a@b@x.example/", "https://ü:ö@x.example/", "https://x.example:/", "https://x.example:443/",
		"https://x.example/100%", "https://bücher.example/ü", "https://x.example/?ü#ü", "https://my_shop.example/a",
		"https://my_shop.müller.de/a", "https://ab--cd.müller.de/", "https://r3---sn.müller.de/", "https://müller-.de/",
		"https://-müller.de/", "https://straße.example/", "https://MÜLLER.de/", "https://x。example/", "https://m%C3%BCller.de/",
		"https://ex%61mple.com/", "https://xn--mller-kva.de/", "https://i❤.ws/", "https://例え.jp/", "https://أهلا.example/",
		"https://नमस्ते.example/", "https://faß.de./", "https://x..example/", `https://x.example\a\b?c\d`, `https:\\x.example\a`,
		" \t\nhttps://x.example/\x01 ", "ht\ntps://x.ex\tample/a\r\nb", "https://x.example/a b?c d#e f", "https://x.example/a\x01b\x7f/",
		"https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://0177.1/", "https://127.1./", "https://[2001:db8::1]:8443/",
		"https://[::127.0.0.1]/", "https://x.e4/", "https://x.0xg/", `https://x.example/"<>{}|^` + "`", `https://x.example/?"<>{}|^'` + "`",
		"https://x.example/../a/./b/%2e%2e/c", "https://x.example/\u00a0a\u3000", "https://x.example/?q=\U0001f600",
		"javascript:alert(1)", "https:javascript://x.example/", "java\x01script://x.example/", "https://", "https://:80/", "https://u@/",
		"https://x example/", "https://x^.example/", "https://x[.example/", "https://x%2F.example/", "https://℀.example/", "https://x%zz.example/",
		"https://x.example:65536/", "https://x.example:8a/", "https://256.1.1.1/", "https://1.2.3.4.5/", "https://x.1/", "https://08.1.1.1/",
		"https://x.0x/", "https://1.2.3.0x100/", "https://4294967296/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://[x]/",
		"https://x%FF.example/", "https://xn--a.example/", "https://a\u00adb.example/", "https://\u200d.example/",
	} {
		t.Run(target, func(t *testing.T) {
			b.t = t
			location, ok := rewrite.Redirect(target)
			want, got := b.href(target), ""
			if ok {
				got = b.href(location)
			}
			if want != got && !leftAlone[target] {
				t.Errorf("leads to %q by %q, a browser goes to %q", got, location, want)
			}
		})
	}
}

// href is what the browser makes of a URL; empty where it makes nothing of it.
func (b *browser) href(target string) (href string) {
	b.t.Helper()
	b.call("Runtime.enable", nil)
	script := `(() => { try { return new URL(` + jsString(target) + `).href } catch { return "" } })()`
	b.eval(script, &href)

	return href
}

func jsString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		b.WriteString(`\u{` + hex(r) + `}`)
	}
	b.WriteByte('"')

	return b.String()
}

func hex(r rune) string {
	const digits = "0123456789abcdef"
	s := ""
	for ; r > 0; r >>= 4 {
		s = string(digits[r&15]) + s
	}
	if s == "" {
		return "0"
	}

	return s
}

// TestChromiumScripts shows where a browser ends a script with a comment that
// holds a < that begins no tag, as the rewriter's scanner has it.
func TestChromiumScripts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(`<body><script><!--<--<script>a</script><a href="https://x.example/1">b</a></script><a href="https://x.example/2">c</a>`))
	}))
	defer server.Close()
	b := startBrowser(t, server.Listener.Addr().String(), server.Listener.Addr().String())

	b.open("http://pages.test/")
	var links []string
	b.eval(`[...document.querySelectorAll("a")].map(a => a.href)`, &links)
	if want := []string{"https://x.example/2"}; !slices.Equal(links, want) {
		t.Errorf("links %v, want %v", links, want)
	}
}
