// Package agent tells what a User-Agent field says: the program, its system and
// device, whether it is a mail provider's image proxy, and whether it is a
// robot. robots.txt holds the patterns of monperrus/crawler-user-agents (MIT).
//
// A Reader is safe for concurrent use. It remembers what it has read, in
// bounded memory, since the same few thousand fields come in all day.
package agent

import (
	_ "embed"
	"regexp"
	"strings"
	"sync"

	"github.com/mileusna/useragent"

	"postern/tracking/event"
)

// Agent is what is known of a program.
type Agent struct {
	event.UserAgent
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
	return &Reader{robots: readRobots(), now: map[string]Agent{}, most: maxKnown}
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

// proxies are the image proxies of mail providers. Apple's Mail Privacy
// Protection says no more than "Mozilla/5.0".
var proxies = []struct{ mark, proxy, family string }{
	{"GoogleImageProxy", "google", "Gmail Image Proxy"},
	{"YahooMailProxy", "yahoo", "Yahoo Mail Proxy"},
	{"FastmailUA", "fastmail", "Fastmail"},
	{"OutlookMobileCloudService", "microsoft", "Outlook"},
	{"OneOutlook", "microsoft", "Outlook"},
}

// programs are mail programs, which the library takes for browsers or does not
// know. The first that fits counts.
var programs = []struct{ mark, family string }{
	{"Microsoft Outlook", "Outlook"}, {"ms-office", "Outlook"}, {"MSOffice", "Outlook"}, {"Outlook-iOS", "Outlook"}, {"Outlook-Android", "Outlook"},
	{"Thunderbird", "Thunderbird"}, {"Airmail", "Airmail"}, {"eM Client", "eM Client"}, {"Superhuman", "Superhuman"}, {"Postbox", "Postbox"},
	{"SamsungEmail", "Samsung Email"}, {"Samsung Email", "Samsung Email"}, {"YahooMobile", "Yahoo Mail"}, {"K-9 Mail", "K-9 Mail"}, {"Evolution/", "Evolution"}, {"Lotus-Notes", "Notes"},
}

func (r *Reader) parse(field string) (a Agent) {
	for _, p := range proxies {
		if strings.Contains(field, p.mark) {
			a.Proxy = p.proxy
			a.UserAgent = event.UserAgent{AgentFamily: p.family, OSFamily: "Other", DeviceFamily: "Other", IsProxy: true}
			return a
		}
	}
	if strings.TrimSpace(field) == "Mozilla/5.0" {
		a.Proxy = "apple"
		a.UserAgent = event.UserAgent{AgentFamily: "Apple Mail", OSFamily: "Other", DeviceBrand: "Apple", DeviceFamily: "Other", IsProxy: true, IsPrefetched: true}
		return a
	}
	u := useragent.Parse(field)
	a.Robot = u.Bot || field == "" || r.robots.match(field)
	a.AgentFamily, a.OSFamily, a.OSVersion = other(u.Name), other(u.OS), u.OSVersion
	a.IsMobile = u.Mobile || u.Tablet
	a.DeviceBrand, a.DeviceFamily = device(u)
	for _, p := range programs {
		if strings.Contains(field, p.mark) {
			a.AgentFamily = p.family
			return a
		}
	}
	// Apple's Mail shows itself by WebKit without a browser's name.
	if strings.Contains(field, "AppleWebKit/") && !strings.Contains(field, "Safari/") && !strings.Contains(field, "Chrome/") && (u.OS == useragent.IOS || u.OS == useragent.MacOS) {
		a.AgentFamily = "Apple Mail"
	}
	return a
}

func other(s string) string {
	if s == "" {
		return "Other"
	}
	return s
}

// brands are how the names of Android devices begin.
var brands = []struct{ start, brand string }{
	{"SM-", "Samsung"}, {"GT-", "Samsung"}, {"Samsung", "Samsung"}, {"SAMSUNG", "Samsung"}, {"Pixel", "Google"}, {"Nexus", "Google"}, {"Redmi", "Xiaomi"}, {"POCO", "Xiaomi"}, {"Mi ", "Xiaomi"}, {"M20", "Xiaomi"}, {"220", "Xiaomi"}, {"230", "Xiaomi"}, {"231", "Xiaomi"}, {"240", "Xiaomi"},
	{"HUAWEI", "Huawei"}, {"ONEPLUS", "OnePlus"}, {"moto", "Motorola"}, {"LM-", "LG"}, {"LG-", "LG"}, {"Nokia", "Nokia"}, {"CPH", "OPPO"}, {"RMX", "realme"}, {"vivo", "vivo"}, {"V20", "vivo"}, {"V21", "vivo"}, {"HTC", "HTC"}, {"XQ-", "Sony"}, {"Xperia", "Sony"}, {"KF", "Amazon"},
}

func device(u useragent.UserAgent) (brand, family string) {
	switch {
	case u.Device == "iPhone" || u.Device == "iPad":
		return "Apple", u.Device
	case u.OS == useragent.MacOS:
		return "Apple", "Mac"
	case u.OS == useragent.Android && u.Device != "" && u.Device != "K": // K stands for any, in Chrome's reduced field
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

// robots finds a robot's pattern: most are plain text, which are looked up by
// their first three bytes; a few are regular expressions.
type robots struct {
	byStart map[[3]byte][]string
	short   []string // plain, under three bytes
	regexps []*regexp.Regexp
}

func readRobots() *robots {
	r := &robots{byStart: map[[3]byte][]string{}}
	for line := range strings.Lines(robotList) {
		p := strings.TrimRight(line, "\n")
		if p == "" || strings.HasPrefix(p, "#") {
			continue
		}
		text, plain := unquote(p)
		switch {
		case !plain:
			r.regexps = append(r.regexps, regexp.MustCompile(p))
		case len(text) < 3:
			r.short = append(r.short, text)
		default:
			key := [3]byte{text[0], text[1], text[2]}
			r.byStart[key] = append(r.byStart[key], text)
		}
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
			if strings.HasPrefix(s[i:], p) {
				return true
			}
		}
	}
	for _, p := range r.short {
		if strings.Contains(s, p) {
			return true
		}
	}
	for _, p := range r.regexps {
		if p.MatchString(s) {
			return true
		}
	}
	return false
}
