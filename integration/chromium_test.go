package integration

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"postern/relay/message"
	"postern/tracking/rewrite"
)

// browser is a headless Chromium, driven over its DevTools protocol.
type browser struct {
	t  *testing.T
	ws *websocket.Conn
	n  int
}

// startBrowser runs Chromium with every name of the web leading to the two
// servers given.
func startBrowser(t *testing.T, plain, secure string) *browser {
	t.Helper()
	need(t, "chromium")
	dir, err := os.MkdirTemp("", "postern-chromium-") // its helpers still write there when it is gone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-allow-origins=*", "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable", "--remote-debugging-port=0", "--ignore-certificate-errors", "--user-data-dir="+dir,
		"--host-resolver-rules=MAP *:80 "+plain+",MAP *:443 "+secure, "about:blank")
	errOut, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	sc := bufio.NewScanner(errOut)
	var port string
	for sc.Scan() {
		if m := regexp.MustCompile(`DevTools listening on ws://127\.0\.0\.1:(\d+)/`).FindStringSubmatch(sc.Text()); m != nil {
			port = m[1]
			break
		}
	}
	go func() {
		for sc.Scan() {
		}
	}()
	var targets []struct {
		Type string `json:"type"`
		URL  string `json:"webSocketDebuggerUrl"`
	}
	res, err := http.Get("http://127.0.0.1:" + port + "/json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&targets); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t}
	for _, target := range targets {
		if target.Type == "page" && b.ws == nil {
			if b.ws, err = websocket.Dial(target.URL, "", "http://127.0.0.1/"); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.ws.MaxPayloadBytes = 256 << 20
	t.Cleanup(func() { b.ws.Close() })
	b.call("Page.enable", nil)
	return b
}

type devtools struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func (b *browser) read() devtools {
	var m devtools
	b.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	if err := websocket.JSON.Receive(b.ws, &m); err != nil {
		b.t.Fatalf("Chromium: %v", err)
	}
	return m
}

// call runs a command and gives its result.
func (b *browser) call(method string, params any) json.RawMessage {
	b.n++
	if err := websocket.JSON.Send(b.ws, map[string]any{"id": b.n, "method": method, "params": params}); err != nil {
		b.t.Fatalf("Chromium: %v", err)
	}
	for {
		if m := b.read(); m.ID == b.n {
			if m.Error != nil {
				b.t.Fatalf("Chromium: %s: %s", method, m.Error)
			}
			return m.Result
		}
	}
}

// until waits for an event.
func (b *browser) until(event string) {
	for b.read().Method != event {
	}
}

func (b *browser) open(url string) {
	b.n++
	if err := websocket.JSON.Send(b.ws, map[string]any{"id": b.n, "method": "Page.navigate", "params": map[string]any{"url": url}}); err != nil {
		b.t.Fatal(err)
	}
	b.until("Page.loadEventFired")
}

func (b *browser) eval(script string, into any) {
	b.t.Helper()
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	if err := json.Unmarshal(b.call("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true}), &r); err != nil || r.Exception != nil {
		b.t.Fatalf("Chromium: %s: %v %s", script, err, r.Exception)
	}
	if into != nil {
		if err := json.Unmarshal(r.Result.Value, into); err != nil {
			b.t.Fatalf("Chromium: %s: %v", script, err)
		}
	}
}

func (b *browser) screenshot(width int) []byte {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 1600, "deviceScaleFactor": 1, "mobile": false})
	var shot struct{ Data string }
	if err := json.Unmarshal(b.call("Page.captureScreenshot", map[string]any{"format": "png"}), &shot); err != nil {
		b.t.Fatal(err)
	}
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}

// samePicture compares pixels.
func samePicture(a, b []byte) error {
	if bytes.Equal(a, b) {
		return nil
	}
	x, err := png.Decode(bytes.NewReader(a))
	if err != nil {
		return err
	}
	y, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if x.Bounds() != y.Bounds() {
		return fmt.Errorf("sizes %v and %v", x.Bounds(), y.Bounds())
	}
	for py := x.Bounds().Min.Y; py < x.Bounds().Max.Y; py++ {
		for px := x.Bounds().Min.X; px < x.Bounds().Max.X; px++ {
			if x.At(px, py) != y.At(px, py) {
				return fmt.Errorf("they differ from (%d, %d) on", px, py)
			}
		}
	}
	return nil
}

// webStamps makes URLs on a tracker of the test's, and remembers the targets.
type webStamps struct {
	mu      sync.Mutex
	targets []string
}

func (w *webStamps) Link(l rewrite.Link) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.targets = append(w.targets, l.Target)
	return fmt.Sprintf("http://tracker.test/t/%d", len(w.targets)-1)
}

func (w *webStamps) Pixel(bool, bool) string { return "http://tracker.test/pixel.gif" }

// rewritten gives the HTML of a page after the rewriter.
func rewritten(t *testing.T, page []byte, s rewrite.Stamper) (out []byte, links, pixels int) {
	t.Helper()
	header := []byte("MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n")
	var body bytes.Buffer
	e := base64.StdEncoding.EncodeToString(page)
	for ; len(e) > 76; e = e[76:] {
		body.WriteString(e[:76] + "\r\n")
	}
	body.WriteString(e + "\r\n")
	p := rewrite.Parse(header, body.Bytes(), true, rewrite.Options{Open: true, InitialOpen: true, Click: true, Tracker: "http://tracker.test",
		MaxURL: func(rewrite.Link) int { return 100 }})
	var msg bytes.Buffer
	if err := p.Render(&msg, s); err != nil {
		t.Fatal(err)
	}
	_, coded, _ := message.Split(msg.Bytes())
	out, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(coded), "\r\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return out, p.Links, p.Pixels
}

// TestChromium opens templates before and after the rewriting: the same text,
// the same elements but for the pixels, the same picture at two widths, and a
// click that ends where it would have ended. POSTERN_PAGES says how many (60
// and more in integration/soak); POSTERN_SHEET names a folder for the pictures.
func TestChromium(t *testing.T) {
	var pages sync.Map
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		switch {
		case host == "pages.test":
			if p, ok := pages.Load(r.URL.Path); ok {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.Write(p.([]byte))
				return
			}
			http.NotFound(w, r)
		case host == "tracker.test" && r.URL.Path == "/pixel.gif":
			w.Header().Set("Content-Type", "image/gif")
			gif, _ := base64.StdEncoding.DecodeString("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
			w.Write(gif)
		case host == "tracker.test" && strings.HasPrefix(r.URL.Path, "/t/"):
			var n int
			fmt.Sscanf(r.URL.Path, "/t/%d", &n)
			s, _ := pages.Load("now")
			http.Redirect(w, r, s.(*webStamps).targets[n], http.StatusFound)
		case strings.HasPrefix(r.Header.Get("Accept"), "text/html"):
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<title>landed</title>")
		default:
			http.NotFound(w, r)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	secure.Config.ErrorLog = nil
	defer plain.Close()
	defer secure.Close()
	b := startBrowser(t, plain.Listener.Addr().String(), secure.Listener.Addr().String())
	files, err := filepath.Glob("../tracking/rewrite/testdata/corpus/html/*.html")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.Contains(f, "MimeKit") })  // tokenizer samples, no mails
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(reverse(a), reverse(b)) }) // of several projects
	n := min(setting("POSTERN_PAGES", 12), len(files))
	var clicks []func(*testing.T)
	links := 0
	for _, f := range files[:n] {
		t.Run(filepath.Base(f), func(t *testing.T) {
			b.t = t
			page, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &webStamps{}
			after, nLinks, nPixels := rewritten(t, page, s)
			pages.Store("/before", page)
			pages.Store("/after", after)
			pages.Store("now", s)
			if nPixels != 2 {
				t.Errorf("%d pixels", nPixels)
			}
			links += nLinks
			was, shotsBefore := b.view("http://pages.test/before")
			is, shotsAfter := b.view("http://pages.test/after")
			is.compare(t, was)
			if is.Elements != was.Elements+nPixels {
				t.Errorf("%d elements, before %d and %d pixels", is.Elements, was.Elements, nPixels)
			}
			for i, width := range []int{600, 320} {
				if err := samePicture(shotsBefore[i], shotsAfter[i]); err != nil {
					t.Errorf("pictures at %d px: %v", width, err)
				}
				saveSheet(t, filepath.Base(f), width, shotsBefore[i], shotsAfter[i])
			}
			first := -1
			for i, href := range is.Links {
				if !strings.HasPrefix(href, "http://tracker.test/t/") {
					if href != was.Links[i] && strings.ReplaceAll(href, "/after", "/before") != was.Links[i] {
						t.Errorf("link %d became %s, it was %s", i, href, was.Links[i])
					}
					continue
				}
				var k int
				fmt.Sscanf(href, "http://tracker.test/t/%d", &k)
				var target string
				b.eval(fmt.Sprintf("new URL(%q).href", s.targets[k]), &target)
				if target != was.Links[i] {
					t.Errorf("link %d leads to %s, the browser would have gone to %s", i, target, was.Links[i])
				}
				if first < 0 {
					first = i
				}
			}
			if first >= 0 { // later: a link that was visited looks another way
				clicks = append(clicks, func(t *testing.T) {
					b.t = t
					pages.Store("/after", after)
					pages.Store("now", s)
					b.open("http://pages.test/after")
					b.eval(fmt.Sprintf(`{ const a = [...document.querySelectorAll("a[href],area[href]")][%d]; a.target = ""; setTimeout(() => a.click(), 0); 1 }`, first), nil)
					b.until("Page.loadEventFired")
					var at string
					b.eval("location.href", &at)
					if at != was.Links[first] {
						t.Errorf("the click ended at %s, not at %s", at, was.Links[first])
					}
				})
			}
		})
	}
	t.Run("clicks", func(t *testing.T) {
		for _, click := range clicks {
			click(t)
		}
	})
	b.t = t
	t.Logf("%d templates, %d links wrapped, %d clicked", n, links, len(clicks))
	if len(clicks) == 0 {
		t.Error("no link was clicked")
	}
}

func reverse(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// saveSheet keeps pictures before and after, where POSTERN_SHEET asks for it.
func saveSheet(t *testing.T, name string, width int, before, after []byte) {
	dir := os.Getenv("POSTERN_SHEET")
	if dir == "" {
		return
	}
	base := filepath.Join(dir, fmt.Sprintf("%s-%d", name, width))
	row := fmt.Sprintf("<h2>%s at %d px</h2><img src=%q> <img src=%q>\n", name, width, filepath.Base(base)+"-before.png", filepath.Base(base)+"-after.png")
	f, err := os.OpenFile(filepath.Join(dir, "index.html"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(row)
	if err := errors.Join(err, f.Close(), os.WriteFile(base+"-before.png", before, 0o644), os.WriteFile(base+"-after.png", after, 0o644)); err != nil {
		t.Fatal(err)
	}
}
