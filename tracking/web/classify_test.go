package web

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"postern/tracking/event"
	"postern/tracking/token"
)

const (
	browser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"
	iphone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)

// gmailPrefetch is the User-Agent of Gmail's prefetching of pictures.
const gmailPrefetch = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"

// asked is a request of a message's link or pixel.
type asked struct {
	at     time.Duration // since the message was made
	method string        // empty: GET
	what   string        // open, or a link's target
	agent  string        // empty: browser
	header [2]string
	plain  bool   // no Accept-Language
	from   string // client; empty: 192.0.2.1
}

// TestRules has a case for each rule that recognizes machines, and for what must not
// be taken for one: the last request's event is what counts.
func TestRules(t *testing.T) {
	const a, b, c, d = "https://x.example/a", "https://x.example/b", "https://x.example/c", "https://x.example/d"
	for _, tt := range []struct {
		name  string
		asked []asked
		want  event.Class
	}{
		{"a person who opens", []asked{{at: time.Hour, what: "open"}}, event.Class{}},
		{"a person who opens and clicks", []asked{{at: time.Minute, what: "open"}, {at: time.Minute + time.Second, what: a}}, event.Class{}},
		{"a click without pictures, later", []asked{{at: time.Hour, what: a}}, event.Class{}},
		{"a click without pictures nor language, much later", []asked{{at: time.Hour, what: a, plain: true}}, event.Class{}},
		{"Gmail's proxy, when somebody opens", []asked{{at: time.Hour, what: "open", agent: "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"}}, event.Class{}},
		{"two links", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}}, event.Class{}},
		{"three links, slowly", []asked{{at: time.Hour, what: a}, {at: time.Hour + 5*time.Second, what: b}, {at: time.Hour + 9*time.Second, what: c}}, event.Class{}},
		{"the same link, often", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: a}, {at: time.Hour + time.Second, what: a}}, event.Class{}},

		{"Purpose", []asked{{at: time.Hour, what: a, header: [2]string{"Purpose", "prefetch"}}}, event.Class{Kind: event.Prefetch, Reason: "prefetch_header"}},
		{"Sec-Purpose", []asked{{at: time.Hour, what: a, header: [2]string{"Sec-Purpose", "prefetch;prerender"}}}, event.Class{Kind: event.Prefetch, Reason: "prefetch_header"}},
		{"X-Purpose", []asked{{at: time.Hour, what: "open", header: [2]string{"X-Purpose", "preview"}}}, event.Class{Kind: event.Prefetch, Reason: "prefetch_header"}},
		{"X-Moz", []asked{{at: time.Hour, what: a, header: [2]string{"X-Moz", "prefetch"}}}, event.Class{Kind: event.Prefetch, Reason: "prefetch_header"}},
		{"Apple Mail Privacy Protection", []asked{{at: time.Hour, what: "open", agent: "Mozilla/5.0"}}, event.Class{Kind: event.Prefetch, Reason: "mail_privacy"}},
		{"robot", []asked{{at: time.Hour, what: a, agent: "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}}, event.Class{Kind: event.Scanner, Reason: "robot"}},
		{"SafeLinks' preview", []asked{{at: time.Hour, what: a, agent: "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b"}}, event.Class{Kind: event.Scanner, Reason: "robot"}},
		{"library", []asked{{at: time.Hour, what: a, agent: "python-requests/2.31.0"}}, event.Class{Kind: event.Scanner, Reason: "robot"}},
		{"no agent", []asked{{at: time.Hour, what: a, agent: "-"}}, event.Class{Kind: event.Scanner, Reason: "robot"}},
		{"Yahoo's proxy on delivery", []asked{{at: time.Second, what: "open", agent: "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}}, event.Class{Kind: event.Prefetch, Reason: "proxy_on_delivery"}},
		{"Outlook's service on delivery", []asked{{at: time.Second, what: "open", agent: "OutlookMobileCloudService-Autodetect/1.0"}}, event.Class{Kind: event.Prefetch, Reason: "proxy_on_delivery"}},
		{"HEAD first", []asked{{at: time.Hour, what: a, method: "HEAD"}, {at: time.Hour + time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "head_first"}},
		{"HEAD of another link", []asked{{at: time.Hour, what: b, method: "HEAD"}, {at: time.Hour + time.Second, what: a}}, event.Class{}},
		{"HEAD long before", []asked{{at: time.Hour, what: a, method: "HEAD"}, {at: time.Hour + 2*time.Minute, what: a}}, event.Class{}},
		{"all links within two seconds, with a browser's name", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}, {at: time.Hour + time.Second, what: c}}, event.Class{Kind: event.Scanner, Reason: "all_links"}},
		{"and the fourth", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}, {at: time.Hour, what: c}, {at: time.Hour + time.Second, what: d}}, event.Class{Kind: event.Scanner, Reason: "all_links"}},
		{"on delivery", []asked{{at: time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "on_delivery"}},
		{"soon, unopened", []asked{{at: 8 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"soon, opened", []asked{{at: 7 * time.Second, what: "open"}, {at: 8 * time.Second, what: a}}, event.Class{}},
		{"HEAD of the same network by another program", []asked{{at: time.Hour, what: a, method: "HEAD", agent: iphone}, {at: time.Hour + time.Second, what: a, from: "192.0.2.99"}}, event.Class{Kind: event.Scanner, Reason: "head_first"}},
		{"HEAD of another network by the same program", []asked{{at: time.Hour, what: a, method: "HEAD"}, {at: time.Hour + time.Second, what: a, from: "203.0.113.9"}}, event.Class{Kind: event.Scanner, Reason: "head_first"}},
		{"a gateway's HEAD when a person clicks", []asked{{at: time.Hour, what: a, method: "HEAD", agent: "Mozilla/5.0 (Windows NT 6.1)", from: "40.94.1.1"}, {at: time.Hour + 2*time.Second, what: a, from: "203.0.113.9"}}, event.Class{}},
		{"a HEAD when a person who opened clicks", []asked{{at: time.Hour, what: "open"}, {at: time.Hour + 30*time.Second, what: a, method: "HEAD"}, {at: time.Hour + 32*time.Second, what: a}}, event.Class{}},
		{"a HEAD of a pixel opens nothing", []asked{{at: 7 * time.Second, what: "open", method: "HEAD"}, {at: 8 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"a person behind a scanner's three links", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}, {at: time.Hour, what: c}, {at: time.Hour + time.Second, what: d, from: "203.0.113.9"}}, event.Class{}},
		{"a scanner's three links around a person's click", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}, {at: time.Hour, what: d, from: "203.0.113.9"}, {at: time.Hour + time.Second, what: c, from: "192.0.2.7"}}, event.Class{Kind: event.Scanner, Reason: "all_links"}},
		{"Mail Privacy Protection opens nothing", []asked{{at: 2500 * time.Millisecond, what: "open", agent: "Mozilla/5.0"}, {at: 6 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"Gmail's prefetch opens nothing", []asked{{at: 4 * time.Second, what: "open", agent: gmailPrefetch}, {at: 6 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"a robot opens nothing", []asked{{at: 4 * time.Second, what: "open", agent: "python-requests/2.31.0"}, {at: 6 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"a picture fetched on delivery opens nothing", []asked{{at: time.Second, what: "open"}, {at: 6 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"a clock that is a day behind", []asked{{at: -24 * time.Hour, what: "open"}, {at: -24 * time.Hour, what: a, agent: iphone}}, event.Class{}},
		{"a clock that is seconds behind", []asked{{at: -10 * time.Second, what: a, plain: true}}, event.Class{}},
		{"a proxy's open, by a clock that is behind", []asked{{at: -time.Second, what: "open", agent: "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}}, event.Class{}},
		{"HEAD before the clock was set back", []asked{{at: 2 * time.Hour, what: a, method: "HEAD"}, {at: time.Hour, what: a}}, event.Class{}},
		{"Gmail's prefetch", []asked{{at: time.Hour, what: "open", agent: gmailPrefetch}}, event.Class{Kind: event.Prefetch, Reason: "gmail_prefetch"}},
		{"a click at once", []asked{{at: 0, what: a}}, event.Class{Kind: event.Scanner, Reason: "on_delivery"}},
		{"a click just within two seconds", []asked{{at: 2*time.Second - 1, what: a}}, event.Class{Kind: event.Scanner, Reason: "on_delivery"}},
		{"a click after two seconds", []asked{{at: 2 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"a click just within ten seconds", []asked{{at: 10*time.Second - 1, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"a click after ten seconds", []asked{{at: 10 * time.Second, what: a}}, event.Class{}},
		{"without a language, just within a minute", []asked{{at: time.Minute - 1, what: a, plain: true}}, event.Class{Kind: event.Scanner, Reason: "no_language"}},
		{"without a language, after a minute", []asked{{at: time.Minute, what: a, plain: true}}, event.Class{}},
		{"without a language, opened", []asked{{at: 3 * time.Second, what: "open"}, {at: 30 * time.Second, what: a, plain: true}}, event.Class{}},
		{"a pixel without a language", []asked{{at: 30 * time.Second, what: "open", plain: true}}, event.Class{}},
		{"a pixel soon", []asked{{at: 3 * time.Second, what: "open"}}, event.Class{}},
		{"a pixel at once", []asked{{at: 0, what: "open"}}, event.Class{}},
		{"a proxy's open just within five seconds", []asked{{at: 5*time.Second - 1, what: "open", agent: "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}}, event.Class{Kind: event.Prefetch, Reason: "proxy_on_delivery"}},
		{"a proxy's open after five seconds", []asked{{at: 5 * time.Second, what: "open", agent: "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}}, event.Class{}},
		{"a browser's open within five seconds", []asked{{at: 3 * time.Second, what: "open"}}, event.Class{}},
		{"a click through Apple's proxy", []asked{{at: time.Hour, what: a, agent: "Mozilla/5.0"}}, event.Class{}},
		{"an open after two seconds counts as one", []asked{{at: 2 * time.Second, what: "open"}, {at: 6 * time.Second, what: a}}, event.Class{}},
		{"an open just within two seconds does not", []asked{{at: 2*time.Second - 1, what: "open"}, {at: 6 * time.Second, what: a}}, event.Class{Kind: event.Scanner, Reason: "soon_unopened"}},
		{"a click opens nothing", []asked{{at: 11 * time.Second, what: a}, {at: 30 * time.Second, what: b, plain: true}}, event.Class{Kind: event.Scanner, Reason: "no_language"}},
		{"HEAD at the same time", []asked{{at: time.Hour, what: a, method: "HEAD"}, {at: time.Hour, what: a}}, event.Class{Kind: event.Scanner, Reason: "head_first"}},
		{"HEAD just within a minute", []asked{{at: time.Hour, what: a, method: "HEAD"}, {at: time.Hour + time.Minute - 1, what: a}}, event.Class{Kind: event.Scanner, Reason: "head_first"}},
		{"HEAD a minute before", []asked{{at: time.Hour, what: a, method: "HEAD"}, {at: time.Hour + time.Minute, what: a}}, event.Class{}},
		{"HEAD of a pixel before a click", []asked{{at: time.Hour, what: "open", method: "HEAD"}, {at: time.Hour, what: a}}, event.Class{}},
		{"three links just within two seconds", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}, {at: time.Hour + 2*time.Second - 1, what: c}}, event.Class{Kind: event.Scanner, Reason: "all_links"}},
		{"three links in two seconds", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}, {at: time.Hour + 2*time.Second, what: c}}, event.Class{}},
		{"a pixel behind three links", []asked{{at: time.Hour, what: a}, {at: time.Hour, what: b}, {at: time.Hour, what: c}, {at: time.Hour, what: "open"}}, event.Class{}},
		{"prefetch in capitals", []asked{{at: time.Hour, what: a, header: [2]string{"Purpose", "Prefetch"}}}, event.Class{Kind: event.Prefetch, Reason: "prefetch_header"}},
		{"prerender", []asked{{at: time.Hour, what: a, header: [2]string{"Sec-Purpose", "prerender"}}}, event.Class{Kind: event.Prefetch, Reason: "prefetch_header"}},
		{"another purpose", []asked{{at: time.Hour, what: a, header: [2]string{"Purpose", "navigate"}}}, event.Class{}},
		{"a browser's name without its language", []asked{{at: 30 * time.Second, what: a, plain: true}}, event.Class{Kind: event.Scanner, Reason: "no_language"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, m, keys := setup(t)
			made := time.Now().Truncate(time.Millisecond)
			id := keys.NewID(made)
			for _, q := range tt.asked {
				h.cfg.Now = func() time.Time { return made.Add(q.at) }
				h.cfg.State.repeats = repeats{} // the same request passes, however soon
				h.ServeHTTP(httptest.NewRecorder(), q.request(keys, id))
			}
			if len(m.events) == 0 {
				t.Fatal("no event")
			}
			e := m.events[len(m.events)-1]
			if e.Class != tt.want {
				t.Errorf("%+v, want %+v", e.Class, tt.want)
			}
			machine := tt.want != (event.Class{})
			if e.IsPrefetched != machine || e.UserAgentParsed.IsPrefetched != machine {
				t.Errorf("marked %v %v", e.IsPrefetched, e.UserAgentParsed.IsPrefetched)
			}
			line, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := event.Decode(line); err != nil || back.Class != tt.want {
				t.Errorf("%s: %v", line, err)
			}
		})
	}
}

func (q asked) request(keys *token.Keys, id token.ID) *http.Request {
	tok := token.Token{Kind: token.Click, MessageID: id, Recipient: "r@example.org", Target: q.what}
	if q.what == "open" {
		tok.Kind, tok.Target = token.Open, ""
	}
	method := q.method
	if method == "" {
		method = "GET"
	}
	r := httptest.NewRequest(method, token.PathPrefix+keys.Seal(tok), nil)
	switch q.agent {
	case "":
		r.Header.Set("User-Agent", browser)
	case "-":
	default:
		r.Header.Set("User-Agent", q.agent)
	}
	if !q.plain {
		r.Header.Set("Accept-Language", "en")
	}
	if q.from != "" {
		r.RemoteAddr = q.from + ":5"
	}
	if q.header[0] != "" {
		r.Header.Set(q.header[0], q.header[1])
	}
	return r
}

// TestHistoryIsBounded: however many messages are asked for.
func TestHistoryIsBounded(t *testing.T) {
	_, _, keys := setup(t)
	h := newHistory()
	now := time.Now()
	note := func(id token.ID, text, method string) {
		h.note(httptest.NewRequest(method, "/", nil), hit{text: text, token: token.Token{Kind: token.Click, MessageID: id}, at: now})
	}
	for i := range 2*maxJourneys + 2 {
		var id token.ID
		id[0], id[1], id[2] = byte(i), byte(i>>8), byte(i>>16)
		note(id, "x", "GET")
	}
	if n := len(h.now) + len(h.before); n > 2*maxJourneys {
		t.Errorf("%d journeys", n)
	}
	id := keys.NewID(now)
	for i := range 100 {
		note(id, string(rune('a'+i)), "GET")
		note(id, string(rune('a'+i)), "HEAD")
	}
	if j := h.now[id]; len(j.links) != 8 || len(j.heads) != 8 {
		t.Errorf("%d links, %d heads, want 8 of each", len(j.links), len(j.heads))
	}
}

// TestRememberKeepsTheLast, oldest first.
func TestRememberKeepsTheLast(t *testing.T) {
	var vs []visit
	for i := range 10 {
		vs = remember(vs, visit{link: uint64(i)})
		if i == 7 && (len(vs) != 8 || vs[0].link != 0) {
			t.Errorf("of eight visits %v are kept", vs)
		}
	}
	for i, v := range vs {
		if want := uint64(i + 2); v.link != want {
			t.Errorf("visit %d is that of link %d, want %d", i, v.link, want)
		}
	}
}

// TestGenerationsOfHistory: a message is remembered for more than five minutes,
// and as many are as there is room for.
func TestGenerationsOfHistory(t *testing.T) {
	start := time.Unix(1795500000, 0)
	id, other := token.ID{1}, token.ID{2}

	for _, c := range []struct {
		name  string
		times []time.Duration // of requests for another message
		kept  bool
	}{
		{"within a generation", []time.Duration{5 * time.Minute}, true},
		{"a generation later", []time.Duration{5*time.Minute + 1}, true},
		{"two generations later", []time.Duration{5*time.Minute + 1, 10*time.Minute + 2}, false},
		{"almost two generations later", []time.Duration{5*time.Minute + 1, 10*time.Minute + 1}, true},
		{"by a clock that was set back twice", []time.Duration{-5*time.Minute - 1, -10*time.Minute - 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory()
			h.journeyOf(id, start).opened = true
			for _, d := range c.times {
				h.journeyOf(other, start.Add(d))
			}
			if got := h.journeyOf(id, start.Add(c.times[len(c.times)-1])).opened; got != c.kept {
				t.Errorf("remembered: %v, want %v", got, c.kept)
			}
		})
	}

	h := newHistory()
	numbered := func(i int) token.ID { return token.ID{byte(i), byte(i >> 8), byte(i >> 16), 9} }
	for i := range 1 << 16 {
		h.journeyOf(numbered(i), start)
	}
	if len(h.now) != 1<<16 || len(h.before) != 0 {
		t.Errorf("%d and %d messages are remembered, want 65536 and none", len(h.now), len(h.before))
	}
	h.journeyOf(numbered(1<<16), start)
	if len(h.now) != 1 || len(h.before) != 1<<16 {
		t.Errorf("with one more, %d and %d, want 1 and 65536", len(h.now), len(h.before))
	}
}

// geoFile writes a MaxMind DB that knows one network.
func geoFile(t *testing.T, dir, city string) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	_, n, _ := net.ParseCIDR("81.2.69.0/24")
	if err := w.Insert(n, mmdbtype.Map{
		"country":      mmdbtype.Map{"iso_code": mmdbtype.String("GB")},
		"subdivisions": mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("ENG")}},
		"city":         mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(city), "de": mmdbtype.String("anders")}},
		"location":     mmdbtype.Map{"latitude": mmdbtype.Float64(51.5), "longitude": mmdbtype.Float64(-0.1)},
		"postal":       mmdbtype.Map{"code": mmdbtype.String("SW1")},
	}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "city.mmdb")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestWhatEventsCarry: address, place and program, and the address cut short
// where that is asked for, after the place was looked up.
func TestWhatEventsCarry(t *testing.T) {
	h, m, keys := setup(t)
	dir := t.TempDir()
	geo, err := OpenGeo(geoFile(t, dir, "London"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h.cfg.Geo = geo
	ask := func(remote string) *event.Event {
		t.Helper()
		r := (asked{what: "open", agent: iphone}).request(keys, keys.NewID(time.Now().Add(-time.Hour)))
		r.RemoteAddr = remote
		h.ServeHTTP(httptest.NewRecorder(), r)
		return m.events[len(m.events)-1]
	}
	e := ask("81.2.69.142:1234")
	want := event.GeoIP{Country: "GB", Region: "ENG", City: "London", Latitude: 51.5, Longitude: -0.1, Zip: "SW1", PostalCode: "SW1"}
	if e.IPAddress != "81.2.69.142" || e.GeoIP == nil || *e.GeoIP != want || e.UserAgent != iphone || e.UserAgentParsed.DeviceFamily != "iPhone" || !e.UserAgentParsed.IsMobile {
		t.Errorf("%+v %+v", e, e.GeoIP)
	}
	line, _ := e.Encode()
	var out struct {
		Msys map[string]map[string]any `json:"msys"`
	}
	if err := json.Unmarshal(line, &out); err != nil || out.Msys["track_event"]["geo_ip"].(map[string]any)["city"] != "London" {
		t.Errorf("%s: %v", line, err)
	}
	h.cfg.TruncateIP = true
	if e := ask("81.2.69.142:1234"); e.IPAddress != "81.2.69.0" || e.GeoIP == nil {
		t.Errorf("truncated: %+v", e)
	}
	if e := ask("[2001:db8:1:2:3::4]:1234"); e.IPAddress != "2001:db8:1::" || e.GeoIP != nil {
		t.Errorf("truncated: %+v", e)
	}
	// A changed file is taken, a broken one is not.
	if err := os.Chtimes(geoFile(t, dir, "Bath"), time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	geo.Refresh()
	if e := ask("81.2.69.142:1234"); e.GeoIP.City != "Bath" {
		t.Errorf("%+v", e.GeoIP)
	}
	if err := os.WriteFile(filepath.Join(dir, "city.mmdb"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(filepath.Join(dir, "city.mmdb"), time.Now(), time.Now().Add(2*time.Hour))
	geo.Refresh()
	if e := ask("81.2.69.142:1234"); e.GeoIP.City != "Bath" {
		t.Errorf("%+v", e.GeoIP)
	}
}

func TestWellKnown(t *testing.T) {
	h, m, _ := setup(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"good": `{"applinks":{}}`, "bad": `{"applinks":`, "large": `"` + string(bytes.Repeat([]byte("x"), maxWellKnown)) + `"`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadWellKnown(filepath.Join(dir, name)); (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
	}
	body, _ := ReadWellKnown(filepath.Join(dir, "good"))
	h.cfg.WellKnown = map[string][]byte{AppleAppSitePath: body}
	for path, status := range map[string]int{AppleAppSitePath: 200, AssetLinksPath: 404, "/.well-known/x": 404} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != status || status == 200 && (w.Body.String() != string(body) || w.Header().Get("Content-Type") != "application/json") {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	if len(m.events) > 0 {
		t.Error("events")
	}
}

// TestProxied: a PROXY header of a trusted proxy names the client; of a
// stranger it is not HTTP.
func TestProxied(t *testing.T) {
	for _, c := range []struct {
		name, trusted, header string
		status                int
		remote                string
	}{
		{"trusted", "127.0.0.0/8", "PROXY TCP4 192.0.2.7 192.0.2.1 4000 443\r\n", 200, "192.0.2.7:4000"},
		{"trusted, without", "127.0.0.0/8", "", 200, "127.0.0.1"},
		{"stranger", "10.0.0.0/8", "PROXY TCP4 192.0.2.7 192.0.2.1 4000 443\r\n", 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			remote := make(chan string, 1)
			s := NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { remote <- r.RemoteAddr }), slog.New(slog.DiscardHandler))
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.Serve(Proxied(l, []netip.Prefix{netip.MustParsePrefix(c.trusted)}))
			}()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			conn.Write([]byte(c.header + "GET / HTTP/1.0\r\n\r\n"))
			var answer bytes.Buffer
			answer.ReadFrom(conn)
			conn.Close()
			s.Close()
			<-done
			if got := answer.String(); len(got) < 12 || got[9:12] != map[int]string{200: "200", 400: "400"}[c.status] {
				t.Errorf("answer %q", got)
			}
			if c.status == 200 {
				if got := <-remote; got[:min(len(got), len(c.remote))] != c.remote {
					t.Errorf("client %s", got)
				}
			}
		})
	}
}
