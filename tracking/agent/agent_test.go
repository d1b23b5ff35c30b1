package agent

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	r := NewReader()
	for _, c := range []struct {
		name, field string
		want        Agent
	}{
		{"iPhone", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
			Agent{Program: Program{AgentFamily: "Safari", OSFamily: "iOS", OSVersion: "17.5", DeviceBrand: "Apple", DeviceFamily: "iPhone", IsMobile: true}}},
		{"Apple Mail on a Mac", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
			Agent{Program: Program{AgentFamily: "Apple Mail", OSFamily: "macOS", OSVersion: "10.15.7", DeviceBrand: "Apple", DeviceFamily: "Mac"}}},
		{"Apple Mail Privacy Protection", "Mozilla/5.0",
			Agent{Proxy: "apple", Program: Program{AgentFamily: "Apple Mail", OSFamily: "Other", DeviceBrand: "Apple", DeviceFamily: "Other", IsProxy: true, IsPrefetched: true}}},
		{"Gmail's prefetch", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0",
			Agent{Proxy: "google", Program: Program{AgentFamily: "Gmail Image Proxy", OSFamily: "Other", DeviceFamily: "Other", IsProxy: true, IsPrefetched: true}}},
		{"Edge 12, which Gmail's prefetch says it is", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 Safari/537.36 Edge/12.246",
			Agent{Program: Program{AgentFamily: "Edge", OSFamily: "Windows", OSVersion: "10.0", DeviceFamily: "Other"}}},
		{"Gmail's proxy", "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
			Agent{Proxy: "google", Program: Program{AgentFamily: "Gmail Image Proxy", OSFamily: "Other", DeviceFamily: "Other", IsProxy: true}}},
		{"Yahoo's proxy", "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
			Agent{Proxy: "yahoo", Program: Program{AgentFamily: "Yahoo Mail Proxy", OSFamily: "Other", DeviceFamily: "Other", IsProxy: true}}},
		{"Outlook", "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Win64; x64; Trident/7.0; .NET4.0C; Microsoft Outlook 16.0.5134; ms-office; MSOffice 16)",
			Agent{Program: Program{AgentFamily: "Outlook", OSFamily: "Windows", OSVersion: "10.0", DeviceFamily: "Other"}}},
		{"Samsung phone", "Mozilla/5.0 (Linux; Android 13; SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/116.0.0.0 Mobile Safari/537.36",
			Agent{Program: Program{AgentFamily: "Chrome", OSFamily: "Android", OSVersion: "13", DeviceBrand: "Samsung", DeviceFamily: "SM-G991B", IsMobile: true}}},
		{"Chrome's reduced field", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36",
			Agent{Program: Program{AgentFamily: "Chrome", OSFamily: "Android", OSVersion: "10", DeviceBrand: "Generic", DeviceFamily: "Generic Smartphone", IsMobile: true}}},
		{"Thunderbird", "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.8.1",
			Agent{Program: Program{AgentFamily: "Thunderbird", OSFamily: "Linux", OSVersion: "x86_64", DeviceFamily: "Other"}}},
		{"robot", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116 Safari/537.36",
			Agent{Robot: true, Program: Program{AgentFamily: "Bingbot", OSFamily: "Other", DeviceFamily: "Other"}}},
		{"library", "python-requests/2.31.0", Agent{Robot: true, Program: Program{AgentFamily: "python-requests", OSFamily: "Other", DeviceFamily: "Other"}}},
		{"none", "", Agent{Robot: true, Program: Program{AgentFamily: "Other", OSFamily: "Other", DeviceFamily: "Other"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // the second from memory
				if got := r.Read(c.field); got != c.want {
					t.Errorf("got  %+v\nwant %+v", got, c.want)
				}
			}
		})
	}
}

// TestRobots: each robot of the list is known, and the index says what the
// regular expressions would.
func TestRobots(t *testing.T) {
	data, err := os.ReadFile("testdata/robots.txt")
	if err != nil {
		t.Fatal(err)
	}
	r, n := NewReader(), 0
	for line := range strings.Lines(string(data)) {
		ua := strings.TrimRight(line, "\n")
		if strings.HasPrefix(ua, "#") || ua == "" {
			continue
		}
		n++
		if strings.Contains(ua, "CPH2557 Build/AP3A.240617.008") { // a phone, found by what Android it has
			continue
		}
		if a := r.Read(ua); !a.Robot && a.Proxy == "" {
			t.Errorf("not known: %s", ua)
		}
	}
	if n < 500 {
		t.Errorf("%d robots", n)
	}
	for line := range strings.Lines(robotList) {
		p := strings.TrimRight(line, "\n")
		if text, plain := unquote(p); plain && !strings.HasPrefix(p, "#") && !regexp.MustCompile("^(?:"+p+")$").MatchString(text) {
			t.Errorf("%q is not what %q matches", text, p)
		}
	}
}

// TestAppsOnApplesDevices: a browser inside an app is not Apple's Mail.
func TestAppsOnApplesDevices(t *testing.T) {
	r := NewReader()
	const iPhone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
	for _, c := range []struct{ field, family string }{
		{iPhone + " Mobile/15E148", "Apple Mail"},
		{iPhone, "Apple Mail"},
		{"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148", "Apple Mail"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)", "Apple Mail"},
		{iPhone + " Mobile/15E148 Instagram 331.0.0.29.95 (iPhone14,5; iOS 17_5; en_US; en; scale=3.00; 1170x2532; 601234567)", "Instagram App"},
		{iPhone + " Mobile/21F79 [FBAN/FBIOS;FBAV/463.0.0.37.107;FBBV/600000000;FBDV/iPhone14,5;FBMD/iPhone]", "Facebook App"},
		{iPhone + " Mobile/15E148 [LinkedInApp]/9.29.4543", "LinkedIn App"},
		{iPhone + " Mobile/15E148 Safari Line/14.7.1", "Line"},
		{iPhone + " Mobile/15E148 MicroMessenger/8.0.49(0x18003137) NetType/WIFI Language/zh_CN", "WeChat"},
		{iPhone + " Mobile/15E148 Twitter for iPhone/10.42", "Twitter"},
		{iPhone + " Mobile/15E148 musical_ly_34.6.0 JsSdk/2.0 NetType/WIFI BytedanceWebview/d8a21c6", "TikTok App"},
		{iPhone + " Mobile/15E148 [Pinterest/iOS]", "Pinterest"},
		{iPhone + " Mobile/15E148 Some-App/1.0", "Mobile Safari UI/WKWebView"},
		{iPhone + " Version/17.5 Mobile/15E148 Safari/604.1", "Safari"},
		{iPhone + " GSA/316.0 Mobile/15E148 Safari/604.1", "Google App"},
	} {
		if a := r.Read(c.field); a.AgentFamily != c.family || a.Robot {
			t.Errorf("%s: got %q, robot %v; want %q", c.field, a.AgentFamily, a.Robot, c.family)
		}
	}
}

// TestMachinesAndPeople has programs that are on no list, and people whose app
// or device has the name of one.
func TestMachinesAndPeople(t *testing.T) {
	r := NewReader()
	const android = "Mozilla/5.0 (Linux; Android 13; %s) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36"
	device := func(name string) string { return strings.Replace(android, "%s", name, 1) }
	for _, c := range []struct {
		field string
		robot bool
	}{
		{"-", true},
		{" ", true},
		{"()", true},
		{"null", true},
		{"Java/1.8.0", true},
		{"Java/1.8.0_131", true},
		{"Barracuda Sentinel (EE)", true},
		{"PHP/7.4", true},
		{"Microsoft Office Existence Discovery", true},
		{"Microsoft Office Protocol Discovery", true},
		{"Mozilla/4.0", true},
		{"WhatsApp/2.23.20.0 A", true},
		{"Viber/22.3", true},
		{"Mozilla/5.0 (compatible; coccoc/1.0; +http://help.coccoc.com/)", true},
		{"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", true},

		{device("SM-A536B") + " Viber/22.3.1.0", false},
		{device("SM-A536B; wv") + " WhatsApp/2.24.9.78", false},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 WhatsApp/2.24.10", false},
		{device("CUBOT X18"), false},
		{device("Sonic 5"), false},
		{device("Fever (2023) Build/X"), false},
		{device("Googlebot"), false},
		{device("CPH2557 Build/AP3A.240617.008"), false},
		{"Mozilla/5.0 (Linux; U; Android 9; CUBOT_POWER) AppleWebKit/534.30 (KHTML, like Gecko) Version/4.0 Mobile Safari/534.30", false},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/104.0.5112.148 Safari/537.36 Panasonic/1.0", false},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/104.0.5112.148 Safari/537.36 coccoc/100", false},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/104.0.5112.148 Safari/537.36 SuperSonic/1.0", false},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/104.0.5112.148 Safari/537.36 Feverish/2", false},
	} {
		if a := r.Read(c.field); a.Robot != c.robot {
			t.Errorf("%q: robot %v, want %v", c.field, a.Robot, c.robot)
		}
	}
	for _, name := range []string{"FastmailUA", "Thunderbird 5G", "Airmail Pad", "GoogleImageProxy"} {
		if a := r.Read(device(name)); a.Proxy != "" || a.AgentFamily != "Chrome" || a.DeviceFamily != name {
			t.Errorf("a device named %q: %+v", name, a)
		}
	}
	if a := r.Read(strings.Repeat("x", 500)); a.AgentFamily != "Other" {
		t.Errorf("a field of one long word: family %q", a.AgentFamily)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	r := NewReader()
	r.most = 100
	for i := range 10 * r.most {
		r.Read("x/" + strings.Repeat("a", i%50) + string(rune('a'+i%26)) + strings.Repeat("b", i/50))
	}
	if len(r.now)+len(r.before) > 2*r.most {
		t.Errorf("%d remembered", len(r.now)+len(r.before))
	}
}

func FuzzRead(f *testing.F) {
	r := NewReader()
	for _, s := range []string{"", "Mozilla/5.0 (", "Mozilla/5.0 (Linux; Android", "(Android;", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit", ")(;;/", "Android"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a := r.parse(s); a.AgentFamily == "" || a.OSFamily == "" || a.DeviceFamily == "" {
			t.Fatalf("%+v", a)
		}
		if cut := withoutDevice(s); len(cut) > len(s) || !strings.Contains(s, "Android") && cut != s {
			t.Fatalf("%q without its device is %q", s, cut)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	r := NewReader()
	const ua = "Mozilla/5.0 (Linux; Android 13; SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/116.0.0.0 Mobile Safari/537.36"
	b.Run("known", func(b *testing.B) {
		for b.Loop() {
			r.Read(ua)
		}
	})
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			r.parse(ua)
		}
	})
}
