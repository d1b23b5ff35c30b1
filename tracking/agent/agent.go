// Package agent tells what a User-Agent field says: the program, its system and
// device, whether it is a mail provider's image proxy, and whether it is a
// robot. robots.txt holds the patterns of monperrus/crawler-user-agents (MIT),
// machines.txt further ones.
//
// A Reader is safe for concurrent use. It remembers what it has read, in
// bounded memory, since the same few thousand fields come in all day.
package agent

import (
	_ "embed"
	"regexp"
	"strings"
	"sync"
	"unicode"

	"github.com/mileusna/useragent"
)

// Agent is what is known of a program.
type Agent struct {
	Program
	Robot bool   // on the list of robots, or a library
	Proxy string // whose image proxy it is: google, yahoo, fastmail, apple, microsoft
}

// Reader reads User-Agent fields.
type Reader struct {
	robots *robots
	mu     sync.RWMutex
	now    map[string]Agent
	before map[string]Agent
	most   int // of each
}

const (
	maxAgent = 1024 // bytes of a field that are looked at
	maxKnown = 10000
)

// NewReader makes a Reader.
func NewReader() *Reader {
	return &Reader{robots: readRobots(robotList + machineList), now: map[string]Agent{}, most: maxKnown}
}

// Read reads one field.
func (r *Reader) Read(field string) Agent {
	if len(field) > maxAgent {
		field = field[:maxAgent]
	}
	r.mu.RLock()
	a, ok := r.now[field]
	if !ok {
		a, ok = r.before[field]
	}
	r.mu.RUnlock()
	if ok {
		return a
	}

	a = r.parse(field)
	r.mu.Lock()
	defer r.mu.Unlock()

	if len(r.now) >= r.most {
		r.now, r.before = map[string]Agent{}, r.now
	}
	r.now[strings.Clone(field)] = a
	return a
}

// exact are fields that say nothing else, by which mail providers fetch pictures.
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
	// Gmail's prefetching (https://www.sparkpost.com/blog/gmail-prefetching-images/);
	// when somebody opens the mail, GoogleImageProxy fetches.
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) " +
		"Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0": {Proxy: "google", Program: Program{
		AgentFamily:  "Gmail Image Proxy",
		OSFamily:     "Other",
		DeviceFamily: "Other",
		IsProxy:      true,
		IsPrefetched: true,
	}},
}

// proxies are the image proxies of mail providers.
var proxies = []struct{ mark, proxy, family string }{
	{"GoogleImageProxy", "google", "Gmail Image Proxy"},
	{"YahooMailProxy", "yahoo", "Yahoo Mail Proxy"},
	{"FastmailUA", "fastmail", "Fastmail"},
	{"OutlookMobileCloudService", "microsoft", "Outlook"},
	{"OneOutlook", "microsoft", "Outlook"},
}

// programs are mail programs and apps that show links in a browser of their own,
// which the library takes for browsers or does not know. The first that fits
// counts.
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

// webView is the family of a browser inside an app on Apple's devices that is
// not known by name.
const webView = "Mobile Safari UI/WKWebView"

// maxFamily bounds the name of a program that nobody knows, in bytes.
const maxFamily = 64

func (r *Reader) parse(field string) (a Agent) {
	field = strings.TrimSpace(field)
	if a, ok := exact[field]; ok {
		return a
	}

	said := withoutDevice(field)
	for _, p := range proxies {
		if holds(said, p.mark) {
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
	a.AgentFamily, a.OSFamily, a.OSVersion = other(u.Name), other(u.OS), u.OSVersion
	if u.Name == field && len(field) > maxFamily {
		a.AgentFamily = "Other"
	}

	a.IsMobile = u.Mobile || u.Tablet
	a.DeviceBrand, a.DeviceFamily = device(u)

	if a.Robot {
		return a
	}

	for _, p := range programs {
		if holds(said, p.mark) {
			a.AgentFamily = p.family
			return a
		}
	}
	if family := appleFamily(u, said); family != "" {
		a.AgentFamily = family
	}

	return a
}

// appleFamily tells Apple's Mail, whose WebKit is followed by nothing that names
// a browser or an app, from browsers inside apps; empty: it is neither.
func appleFamily(u useragent.UserAgent, said string) string {
	if u.OS != useragent.IOS && u.OS != useragent.MacOS {
		return ""
	}
	_, after, ok := strings.Cut(said, "AppleWebKit/")
	if !ok || strings.Contains(after, "Safari/") || strings.Contains(after, "Chrome/") {
		return ""
	}

	_, after, _ = strings.Cut(after, ")") // behind "(KHTML, like Gecko)"
	products := strings.Fields(after)
	if len(products) == 0 || len(products) == 1 && strings.HasPrefix(products[0], "Mobile/") {
		return "Apple Mail"
	}

	if u.OS == useragent.IOS {
		return webView
	}

	return ""
}

// withoutDevice cuts what an Android program says of the device out of its
// field: names that makers give, which may be any words at all.
func withoutDevice(field string) string {
	open := strings.IndexByte(field, '(')
	if open < 0 {
		return field
	}

	end := open + commentLength(field[open:])
	comment := field[open:end]
	at := strings.Index(comment, "Android")
	if at < 0 {
		return field
	}

	semicolon := strings.IndexByte(comment[at:], ';')
	if semicolon < 0 {
		return field
	}

	return field[:open+at+semicolon] + field[max(open, end-1):]
}

// commentLength is how long the comment is that s begins with; comments nest
// (RFC 9110 section 5.6.5).
func commentLength(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}

	return len(s)
}

// holds reports whether s holds the words of mark, not as a part of others.
func holds(s, mark string) bool {
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
func isWhole(s string, i, j int) bool {
	return (i == 0 || !isLetter(s[i-1]) || !isLetter(s[i])) && (j == len(s) || !isLetter(s[j]) || !isLetter(s[j-1]))
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func other(s string) string {
	if s == "" {
		return "Other"
	}

	return s
}

// brands are how the names of Android devices begin.
var brands = []struct{ start, brand string }{
	{"SM-", "Samsung"},
	{"GT-", "Samsung"},
	{"Samsung", "Samsung"},
	{"SAMSUNG", "Samsung"},
	{"Pixel", "Google"},
	{"Nexus", "Google"},
	{"Redmi", "Xiaomi"},
	{"POCO", "Xiaomi"},
	{"Mi ", "Xiaomi"},
	{"M20", "Xiaomi"},
	{"220", "Xiaomi"},
	{"230", "Xiaomi"},
	{"231", "Xiaomi"},
	{"240", "Xiaomi"},
	{"HUAWEI", "Huawei"},
	{"ONEPLUS", "OnePlus"},
	{"moto", "Motorola"},
	{"LM-", "LG"},
	{"LG-", "LG"},
	{"Nokia", "Nokia"},
	{"CPH", "OPPO"},
	{"RMX", "realme"},
	{"vivo", "vivo"},
	{"V20", "vivo"},
	{"V21", "vivo"},
	{"HTC", "HTC"},
	{"XQ-", "Sony"},
	{"Xperia", "Sony"},
	{"KF", "Amazon"},
}

// anyDevice stands for any in Chrome's reduced field.
const anyDevice = "K"

// device returns the maker of a program's device and its name.
func device(u useragent.UserAgent) (brand, family string) {
	switch {
	case u.Device == "iPhone" || u.Device == "iPad":
		return "Apple", u.Device
	case u.OS == useragent.MacOS:
		return "Apple", "Mac"
	case u.OS == useragent.Android && u.Device != "" && u.Device != anyDevice:
		for _, b := range brands {
			if strings.HasPrefix(u.Device, b.start) {
				return b.brand, u.Device
			}
		}
		return "Generic_Android", u.Device
	case u.OS == useragent.Android:
		return "Generic", "Generic Smartphone"
	}

	return "", "Other"
}

//go:embed robots.txt
var robotList string

//go:embed machines.txt
var machineList string

// isRobot reports whether a program is none that a person uses: on a list, with
// the address of its maker in the field, or without a name.
func (r *Reader) isRobot(u useragent.UserAgent, said string) bool {
	if !strings.ContainsFunc(said, unicode.IsLetter) {
		return true
	}
	if u.Bot && useragent.Parse(said).Bot { // and not for its device's name alone
		return true
	}

	return r.robots.match(said)
}

// apps are on the list of robots for the previews that they fetch. Inside a
// browser's field they name the app that a person follows a link in.
var apps = map[string]bool{"WhatsApp": true, "Viber": true, "coccoc": true, "Daum/": true}

func isBrowser(s string) bool {
	return strings.HasPrefix(s, "Mozilla/5.0 (") && strings.Contains(s, " AppleWebKit/")
}

// robots finds a robot's pattern: most are plain text, which are looked up by
// their first three bytes; a few are regular expressions.
type robots struct {
	byStart map[[3]byte][]string
	regexps []*regexp.Regexp
}

// readRobots reads a list of patterns, one a line; lines that begin with # are
// comments.
func readRobots(list string) *robots {
	r := &robots{byStart: map[[3]byte][]string{}}
	for line := range strings.Lines(list) {
		p := strings.TrimRight(line, "\n")
		if p == "" || strings.HasPrefix(p, "#") {
			continue
		}

		text, plain := unquote(p)
		if !plain || len(text) < 3 {
			r.regexps = append(r.regexps, regexp.MustCompile(p))
			continue
		}
		key := [3]byte{text[0], text[1], text[2]}
		r.byStart[key] = append(r.byStart[key], text)
	}

	return r
}

// unquote gives the text of a pattern that matches no more than itself.
func unquote(p string) (text string, plain bool) {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '\\' && i+1 < len(p) && strings.IndexByte(`\/.-+()[]{}|?*^$!: &'"=@,;#_<>`, p[i+1]) >= 0 {
			i++
			b.WriteByte(p[i])
			continue
		}
		if strings.IndexByte(`\.+*?()[]{}|^$`, c) >= 0 {
			return "", false
		}
		b.WriteByte(c)
	}

	return b.String(), true
}

func (r *robots) match(s string) bool {
	for i := 0; i+3 <= len(s); i++ {
		for _, p := range r.byStart[[3]byte{s[i], s[i+1], s[i+2]}] {
			if strings.HasPrefix(s[i:], p) && isWhole(s, i, i+len(p)) && !(apps[p] && isBrowser(s)) {
				return true
			}
		}
	}
	for _, p := range r.regexps {
		if p.MatchString(s) {
			return true
		}
	}

	return false
}
