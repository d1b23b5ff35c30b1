package agent

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"postern/tracking/event"
)

func TestRead(t *testing.T) {
	r := NewReader()
	for _, c := range []struct {
		name, field string
		want        Agent
	}{
		{"iPhone", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
			Agent{UserAgent: event.UserAgent{AgentFamily: "Safari", OSFamily: "iOS", OSVersion: "17.5", DeviceBrand: "Apple", DeviceFamily: "iPhone", IsMobile: true}}},
		{"Apple Mail on a Mac", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
			Agent{UserAgent: event.UserAgent{AgentFamily: "Apple Mail", OSFamily: "macOS", OSVersion: "10.15.7", DeviceBrand: "Apple", DeviceFamily: "Mac"}}},
		{"Apple Mail Privacy Protection", "Mozilla/5.0",
			Agent{Proxy: "apple", UserAgent: event.UserAgent{AgentFamily: "Apple Mail", OSFamily: "Other", DeviceBrand: "Apple", DeviceFamily: "Other", IsProxy: true, IsPrefetched: true}}},
		{"Gmail's proxy", "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
			Agent{Proxy: "google", UserAgent: event.UserAgent{AgentFamily: "Gmail Image Proxy", OSFamily: "Other", DeviceFamily: "Other", IsProxy: true}}},
		{"Yahoo's proxy", "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
			Agent{Proxy: "yahoo", UserAgent: event.UserAgent{AgentFamily: "Yahoo Mail Proxy", OSFamily: "Other", DeviceFamily: "Other", IsProxy: true}}},
		{"Outlook", "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Win64; x64; Trident/7.0; .NET4.0C; Microsoft Outlook 16.0.5134; ms-office; MSOffice 16)",
			Agent{UserAgent: event.UserAgent{AgentFamily: "Outlook", OSFamily: "Windows", OSVersion: "10.0", DeviceFamily: "Other"}}},
		{"Samsung phone", "Mozilla/5.0 (Linux; Android 13; SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/116.0.0.0 Mobile Safari/537.36",
			Agent{UserAgent: event.UserAgent{AgentFamily: "Chrome", OSFamily: "Android", OSVersion: "13", DeviceBrand: "Samsung", DeviceFamily: "SM-G991B", IsMobile: true}}},
		{"Chrome's reduced field", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36",
			Agent{UserAgent: event.UserAgent{AgentFamily: "Chrome", OSFamily: "Android", OSVersion: "10", DeviceBrand: "Generic", DeviceFamily: "Generic Smartphone", IsMobile: true}}},
		{"Thunderbird", "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.8.1",
			Agent{UserAgent: event.UserAgent{AgentFamily: "Thunderbird", OSFamily: "Linux", OSVersion: "x86_64", DeviceFamily: "Other"}}},
		{"robot", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116 Safari/537.36",
			Agent{Robot: true, UserAgent: event.UserAgent{AgentFamily: "Bingbot", OSFamily: "Other", DeviceFamily: "Other"}}},
		{"library", "python-requests/2.31.0", Agent{Robot: true, UserAgent: event.UserAgent{AgentFamily: "python-requests", OSFamily: "Other", DeviceFamily: "Other"}}},
		{"none", "", Agent{Robot: true, UserAgent: event.UserAgent{AgentFamily: "Other", OSFamily: "Other", DeviceFamily: "Other"}}},
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
	for _, s := range []string{"", "Mozilla/5.0 (", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit", ")(;;/", "Android"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a := r.parse(s); a.AgentFamily == "" || a.OSFamily == "" || a.DeviceFamily == "" {
			t.Fatalf("%+v", a)
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
