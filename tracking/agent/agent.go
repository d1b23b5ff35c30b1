// Package agent reads User-Agent fields: the program, its operating system and
// device, whether it is the image proxy of a mail provider, and whether it is a
// robot.
//
// The patterns of robots are in robots.txt, which is the list of
// monperrus/crawler-user-agents (MIT), and in machines.txt, which adds to it.
//
// A Reader is safe for concurrent use. It caches results in bounded memory, since
// most requests have one of a few thousand fields.
package agent

import (
	"cmp"
	_ "embed"
	"strings"
	"sync"

	"github.com/mileusna/useragent"
)

// Agent is what a User-Agent field says.
type Agent struct {
	Program
	Robot bool   // not used by a person: a crawler, a mail gateway, a library
	Proxy string // the provider of an image proxy: google, yahoo, fastmail, apple, microsoft
}

// Reader reads User-Agent fields. Use NewReader to create one.
type Reader struct {
	robots *robots

	// The cache has two generations: when now is full, it becomes before.
	mu     sync.RWMutex
	now    map[string]Agent
	before map[string]Agent
	most   int // entries of a generation
}

const (
	maxAgent = 1024  // bytes of a field that are read
	maxKnown = 10000 // fields in a generation of the cache
)

// NewReader returns a Reader with an empty cache.
func NewReader() *Reader {
	return &Reader{
		robots: readRobots(robotList + machineList),
		now:    map[string]Agent{},
		most:   maxKnown,
	}
}

// Read returns what a User-Agent field says. Only the first 1024 bytes count.
func (r *Reader) Read(field string) Agent {
	if len(field) > maxAgent {
		field = field[:maxAgent]
	}

	if a, ok := r.cached(field); ok {
		return a
	}

	a := r.parse(field)
	r.mu.Lock()
	defer r.mu.Unlock()

	if len(r.now) >= r.most {
		r.before = r.now
		r.now = map[string]Agent{}
	}
	r.now[strings.Clone(field)] = a

	return a
}

// cached returns what is cached for a field.
func (r *Reader) cached(field string) (a Agent, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()

	a, ok = r.now[field]
	if !ok {
		a, ok = r.before[field]
	}

	return a, ok
}

// exact has the complete fields with which mail providers prefetch images.
var exact = map[string]Agent{
	// Apple's Mail Privacy Protection.
	"Mozilla/5.0": {Proxy: "apple", Program: Program{
		AgentFamily:  "Apple Mail",
		OSFamily:     "Other",
		DeviceBrand:  "Apple",
		DeviceFamily: "Other",
		IsProxy:      true,
		IsPrefetched: true,
	}},
	// Gmail, see https://www.sparkpost.com/blog/gmail-prefetching-images/. When the
	// message is opened, GoogleImageProxy fetches the images.
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) " +
		"Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0": {Proxy: "google", Program: Program{
		AgentFamily:  "Gmail Image Proxy",
		OSFamily:     "Other",
		DeviceFamily: "Other",
		IsProxy:      true,
		IsPrefetched: true,
	}},
}

// proxies are the image proxies of mail providers, by words in their fields.
var proxies = []struct{ mark, proxy, family string }{
	{"GoogleImageProxy", "google", "Gmail Image Proxy"},
	{"YahooMailProxy", "yahoo", "Yahoo Mail Proxy"},
	{"FastmailUA", "fastmail", "Fastmail"},
	{"OutlookMobileCloudService", "microsoft", "Outlook"},
	{"OneOutlook", "microsoft", "Outlook"},
}

// programs are mail programs, and apps that open links in a built-in browser, by
// words in their fields. The useragent package takes them for browsers or does not
// know them. The first match counts.
var programs = []struct{ mark, family string }{
	{"Microsoft Outlook", "Outlook"},
	{"ms-office", "Outlook"},
	{"MSOffice", "Outlook"},
	{"Outlook-iOS", "Outlook"},
	{"Outlook-Android", "Outlook"},
	{"Thunderbird", "Thunderbird"},
	{"Airmail", "Airmail"},
	{"eM Client", "eM Client"},
	{"Superhuman", "Superhuman"},
	{"Postbox", "Postbox"},
	{"SamsungEmail", "Samsung Email"},
	{"Samsung Email", "Samsung Email"},
	{"YahooMobile", "Yahoo Mail"},
	{"K-9 Mail", "K-9 Mail"},
	{"Evolution", "Evolution"},
	{"Lotus-Notes", "Notes"},

	{"Instagram", "Instagram App"},
	{"FBAN", "Facebook App"},
	{"FBAV", "Facebook App"},
	{"FB_IAB", "Facebook App"},
	{"LinkedInApp", "LinkedIn App"},
	{"Line", "Line"},
	{"MicroMessenger", "WeChat"},
	{"Twitter", "Twitter"},
	{"Snapchat", "Snapchat"},
	{"Pinterest", "Pinterest"},
	{"BytedanceWebview", "TikTok App"},
	{"musical_ly", "TikTok App"},
	{"WhatsApp", "WhatsApp"},
	{"Viber", "Viber"},
	{"Telegram", "Telegram"},
	{"KAKAOTALK", "KakaoTalk"},
	{"GSA", "Google App"},
}

// webView is the family of a built-in browser on Apple's devices whose app is not
// known.
const webView = "Mobile Safari UI/WKWebView"

// maxFamily bounds the name of an unknown program, in bytes.
const maxFamily = 64

// parse reads a field that is not cached.
func (r *Reader) parse(field string) (a Agent) {
	field = strings.TrimSpace(field)
	if a, ok := exact[field]; ok {
		return a
	}

	said := withoutDevice(field)
	for _, p := range proxies {
		if hasWords(said, p.mark) {
			a.Proxy = p.proxy
			a.Program = Program{
				AgentFamily:  p.family,
				OSFamily:     "Other",
				DeviceFamily: "Other",
				IsProxy:      true,
			}
			return a
		}
	}

	u := useragent.Parse(field)
	a.Robot = r.isRobot(u, said)
	a.AgentFamily = cmp.Or(u.Name, "Other")
	a.OSFamily = cmp.Or(u.OS, "Other")
	a.OSVersion = u.OSVersion
	if u.Name == field && len(field) > maxFamily {
		a.AgentFamily = "Other"
	}

	a.IsMobile = u.Mobile || u.Tablet
	a.DeviceBrand, a.DeviceFamily = device(u)

	if a.Robot {
		return a
	}

	for _, p := range programs {
		if hasWords(said, p.mark) {
			a.AgentFamily = p.family
			return a
		}
	}
	if family := appleFamily(u, said); family != "" {
		a.AgentFamily = family
	}

	return a
}

// appleFamily returns the family of Apple Mail, whose WebKit is not followed by the
// name of a browser or an app, and of unknown built-in browsers, and an empty string
// for other programs.
func appleFamily(u useragent.UserAgent, said string) string {
	if u.OS != useragent.IOS && u.OS != useragent.MacOS {
		return ""
	}

	_, after, ok := strings.Cut(said, "AppleWebKit/")
	if !ok || strings.Contains(after, "Safari/") || strings.Contains(after, "Chrome/") {
		return ""
	}

	_, after, _ = strings.Cut(after, ")") // skip "(KHTML, like Gecko)"
	products := strings.Fields(after)
	if len(products) == 0 || len(products) == 1 && strings.HasPrefix(products[0], "Mobile/") {
		return "Apple Mail"
	}

	if u.OS == useragent.IOS {
		return webView
	}

	return ""
}

// hasWords reports whether s contains mark at word boundaries.
func hasWords(s, mark string) bool {
	for from := 0; ; {
		i := strings.Index(s[from:], mark)
		if i < 0 {
			return false
		}

		i += from
		if isWhole(s, i, i+len(mark)) {
			return true
		}
		from = i + 1
	}
}

// isWhole reports whether s[i:j] neither begins nor ends inside a word.
func isWhole(s string, i, j int) bool { return !insideWord(s, i) && !insideWord(s, j) }

// insideWord reports whether index i of s is between two letters.
func insideWord(s string, i int) bool {
	return i > 0 && i < len(s) && isLetter(s[i-1]) && isLetter(s[i])
}

// isLetter reports whether c is an ASCII letter.
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
