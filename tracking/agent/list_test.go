package agent

import (
	"strings"
	"sync"
	"testing"

	"github.com/mileusna/useragent"
)

const windowsChrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"

// TestPrograms holds the programs that the library does not know, each by its
// mark.
func TestPrograms(t *testing.T) {
	want := map[string]string{
		"Microsoft Outlook": "Outlook",
		"ms-office":         "Outlook",
		"MSOffice":          "Outlook",
		"Outlook-iOS":       "Outlook",
		"Outlook-Android":   "Outlook",
		"Thunderbird":       "Thunderbird",
		"Airmail":           "Airmail",
		"eM Client":         "eM Client",
		"Superhuman":        "Superhuman",
		"Postbox":           "Postbox",
		"SamsungEmail":      "Samsung Email",
		"Samsung Email":     "Samsung Email",
		"YahooMobile":       "Yahoo Mail",
		"K-9 Mail":          "K-9 Mail",
		"Evolution":         "Evolution",
		"Lotus-Notes":       "Notes",
		"Instagram":         "Instagram App",
		"FBAN":              "Facebook App",
		"FBAV":              "Facebook App",
		"FB_IAB":            "Facebook App",
		"LinkedInApp":       "LinkedIn App",
		"Line":              "Line",
		"MicroMessenger":    "WeChat",
		"Twitter":           "Twitter",
		"Snapchat":          "Snapchat",
		"Pinterest":         "Pinterest",
		"BytedanceWebview":  "TikTok App",
		"musical_ly":        "TikTok App",
		"WhatsApp":          "WhatsApp",
		"Viber":             "Viber",
		"Telegram":          "Telegram",
		"KAKAOTALK":         "KakaoTalk",
		"GSA":               "Google App",
	}
	r := NewReader()
	for mark, family := range want {
		if a := r.Read(windowsChrome + " " + mark + "/1.0"); a.AgentFamily != family || a.Robot || a.Proxy != "" {
			t.Errorf("%s: got %q, robot %v, want %q", mark, a.AgentFamily, a.Robot, family)
		}
		if a := r.Read(windowsChrome + " X" + mark + "x/1.0"); a.AgentFamily == family {
			t.Errorf("%s inside a word: got %q", mark, a.AgentFamily)
		}
	}
	if len(programs) != len(want) {
		t.Errorf("%d programs, want %d", len(programs), len(want))
	}
}

func TestProxies(t *testing.T) {
	want := map[string]struct{ proxy, family string }{
		"GoogleImageProxy":          {"google", "Gmail Image Proxy"},
		"YahooMailProxy":            {"yahoo", "Yahoo Mail Proxy"},
		"FastmailUA":                {"fastmail", "Fastmail"},
		"OutlookMobileCloudService": {"microsoft", "Outlook"},
		"OneOutlook":                {"microsoft", "Outlook"},
	}
	r := NewReader()
	for mark, w := range want {
		expected := Agent{Proxy: w.proxy, Program: Program{
			AgentFamily:  w.family,
			OSFamily:     "Other",
			DeviceFamily: "Other",
			IsProxy:      true,
		}}
		if a := r.Read(windowsChrome + " " + mark + "/1.0"); a != expected {
			t.Errorf("%s: got %+v, want %+v", mark, a, expected)
		}
	}
	if len(proxies) != len(want) {
		t.Errorf("%d proxies, want %d", len(proxies), len(want))
	}
}

func TestBrands(t *testing.T) {
	want := map[string]string{
		"SM-": "Samsung", "GT-": "Samsung", "Samsung": "Samsung", "SAMSUNG": "Samsung",
		"Pixel": "Google", "Nexus": "Google",
		"Redmi": "Xiaomi", "POCO": "Xiaomi", "Mi ": "Xiaomi", "M20": "Xiaomi",
		"220": "Xiaomi", "230": "Xiaomi", "231": "Xiaomi", "240": "Xiaomi",
		"HUAWEI": "Huawei", "ONEPLUS": "OnePlus", "moto": "Motorola", "LM-": "LG", "LG-": "LG",
		"Nokia": "Nokia", "CPH": "OPPO", "RMX": "realme", "vivo": "vivo", "V20": "vivo", "V21": "vivo",
		"HTC": "HTC", "XQ-": "Sony", "Xperia": "Sony", "KF": "Amazon",
	}
	for start, brand := range want {
		u := useragent.UserAgent{OS: useragent.Android, Device: start + "9X"}
		if got, family := device(u); got != brand || family != start+"9X" {
			t.Errorf("%s: got %q, %q, want %q", start, got, family, brand)
		}
	}
	if len(brands) != len(want) {
		t.Errorf("%d brands, want %d", len(brands), len(want))
	}
}

func TestDevice(t *testing.T) {
	for _, c := range []struct {
		os, device    string
		brand, family string
	}{
		{useragent.IOS, "iPhone", "Apple", "iPhone"},
		{useragent.IOS, "iPad", "Apple", "iPad"},
		{useragent.MacOS, "", "Apple", "Mac"},
		{useragent.Android, "XSM-1", "Generic_Android", "XSM-1"},
		{useragent.Android, "K", "Generic", "Generic Smartphone"},
		{useragent.Android, "", "Generic", "Generic Smartphone"},
		{useragent.Windows, "SM-1", "", "Other"},
		{useragent.Windows, "", "", "Other"},
	} {
		brand, family := device(useragent.UserAgent{OS: c.os, Device: c.device})
		if brand != c.brand || family != c.family {
			t.Errorf("%s, %q: got %q, %q, want %q, %q", c.os, c.device, brand, family, c.brand, c.family)
		}
	}
}

// TestAppsOfTheRobotsList are people's where a browser names them, robots alone.
func TestAppsOfTheRobotsList(t *testing.T) {
	r := NewReader()
	for _, name := range []string{"WhatsApp", "Viber", "coccoc", "Daum/"} {
		if a := r.Read(windowsChrome + " " + name + "1"); a.Robot {
			t.Errorf("%s in a browser is a robot", name)
		}
		if a := r.Read(name + "1"); !a.Robot {
			t.Errorf("%s alone is not a robot", name)
		}
		if a := r.Read("Mozilla/5.0 (compatible; " + name + "1)"); !a.Robot {
			t.Errorf("%s that says it is compatible is not a robot", name)
		}
	}
	if len(apps) != 4 {
		t.Errorf("%d apps, want 4", len(apps))
	}
	for s, want := range map[string]bool{
		windowsChrome:                      true,
		"Mozilla/5.0 (X) AppleWebKit/1":    true,
		"Mozilla/5.0 (X) XAppleWebKit/1":   false,
		"Mozilla/5.0 AppleWebKit/1":        false,
		"x Mozilla/5.0 (X) AppleWebKit/1":  false,
		"Mozilla/5.0 (compatible) Gecko/1": false,
	} {
		if got := isBrowser(s); got != want {
			t.Errorf("%q is a browser: %v, want %v", s, got, want)
		}
	}
}

func TestFieldIsLookedAtUpToItsBound(t *testing.T) {
	r := NewReader()
	const mark = "Googlebot/"
	for size, robot := range map[int]bool{1023: true, 1024: true, 1025: false} {
		padding := strings.Repeat(" a", 600)[:size-len(windowsChrome)-len(mark)-1]
		field := windowsChrome + padding + " " + mark
		if len(field) != size {
			t.Fatalf("%d bytes, want %d", len(field), size)
		}
		if a := r.Read(field + "2.1 and more"); a.Robot != robot {
			t.Errorf("a mark that ends at byte %d: robot %v, want %v", size, a.Robot, robot)
		}
	}
}

// TestReaderRemembers what it has read, in two generations.
func TestReaderRemembers(t *testing.T) {
	r := NewReader()
	if r.most != 10000 {
		t.Errorf("%d fields are remembered, want 10000", r.most)
	}
	planted := Agent{Proxy: "planted"}
	r.now["a"] = planted
	r.before = map[string]Agent{"b": planted}
	for _, field := range []string{"a", "b"} {
		if got := r.Read(field); got != planted {
			t.Errorf("%s: got %+v, want what was read before", field, got)
		}
	}

	r = NewReader()
	r.most = 2
	for i, want := range []struct{ now, before int }{{1, 0}, {2, 0}, {1, 2}, {2, 2}, {1, 2}} {
		field := "field " + string(rune('a'+i))
		got := r.Read(field)
		if len(r.now) != want.now || len(r.before) != want.before {
			t.Errorf("after %d: %d and %d are remembered, want %d and %d", i+1, len(r.now), len(r.before), want.now, want.before)
		}
		if kept, ok := r.now[field]; !ok || kept != got {
			t.Errorf("%s is remembered as %+v, want %+v", field, kept, got)
		}
	}
}

func TestReadDetails(t *testing.T) {
	r := NewReader()
	const iPad = "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
	if a := r.Read(iPad); !a.IsMobile || a.DeviceFamily != "iPad" {
		t.Errorf("a tablet: %+v", a)
	}
	if a := r.Read(windowsChrome); a.IsMobile {
		t.Errorf("a desktop: %+v", a)
	}
	if a := r.Read(" Mozilla/5.0\t"); a.Proxy != "apple" {
		t.Errorf("spaces around: %+v", a)
	}
	for n, want := range map[int]string{64: strings.Repeat("x", 64), 65: "Other"} {
		if a := r.Read(strings.Repeat("x", n)); a.AgentFamily != want {
			t.Errorf("a name of %d bytes: %q, want %q", n, a.AgentFamily, want)
		}
	}
	if a := r.Read(strings.Repeat("x", 70) + "/1.0"); a.AgentFamily != strings.Repeat("x", 70) {
		t.Errorf("a program's name: %q", a.AgentFamily)
	}
}

func TestAppleFamily(t *testing.T) {
	const kit = "Mozilla/5.0 (X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
	for _, c := range []struct{ os, said, want string }{
		{useragent.IOS, kit, "Apple Mail"},
		{useragent.MacOS, kit, "Apple Mail"},
		{useragent.IOS, kit + " Mobile/15E148", "Apple Mail"},
		{useragent.IOS, kit + " 15E148", webView},
		{useragent.IOS, kit + " Mobile/15E148 X/1", webView},
		{useragent.MacOS, kit + " X/1", ""},
		{useragent.IOS, kit + " Safari/604.1", ""},
		{useragent.IOS, kit + " Chrome/1", ""},
		{useragent.MacOS, kit + " Chrome/1 Safari/1", ""},
		{useragent.IOS, "Safari/1 Chrome/1 " + kit, "Apple Mail"},
		{useragent.IOS, "Mozilla/5.0 (X)", ""},
		{useragent.Windows, kit, ""},
		{useragent.IOS, "AppleWebKit/605.1.15", "Apple Mail"},
	} {
		if got := appleFamily(useragent.UserAgent{OS: c.os}, c.said); got != c.want {
			t.Errorf("%s, %q: got %q, want %q", c.os, c.said, got, c.want)
		}
	}
	if webView != "Mobile Safari UI/WKWebView" {
		t.Errorf("a browser inside an app is %q", webView)
	}
}

func TestWithoutDevice(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "",
		"no comment; Android; x":               "no comment; Android; x",
		"a (Linux; Android 13; SM-1) b":        "a (Linux; Android 13) b",
		"a (Linux; Android 13; SM-1; wv) b":    "a (Linux; Android 13) b",
		"a (Linux; Android 13) b":              "a (Linux; Android 13) b",
		"a (Linux; Android 13) b; c":           "a (Linux; Android 13) b; c",
		"a (Linux; x) (Android; y)":            "a (Linux; x) (Android; y)",
		"a (Android; X (a; b) Y) b":            "a (Android) b",
		"(Android;":                            "(Android;",
		"(Android;)":                           "(Android)",
		"(Android":                             "(Android",
		"a (;Android 13;x) b":                  "a (;Android 13) b",
		"a (Linux; U; Android 9; de; X) b (y)": "a (Linux; U; Android 9) b (y)",
	} {
		if got := withoutDevice(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]int{"()": 2, "(a)b": 3, "(a(b)c)d": 7, "(a": 2, "(a(b)": 5, "((": 2, "(": 1, "": 0} {
		if got := commentLength(in); got != want {
			t.Errorf("%q: comment of %d, want %d", in, got, want)
		}
	}
}

func TestWholeWords(t *testing.T) {
	for _, c := range []struct {
		s, mark string
		want    bool
	}{
		{"bot", "bot", true},
		{"a bot b", "bot", true},
		{"robot", "bot", false},
		{"bots", "bot", false},
		{"robot bot", "bot", true},
		{"botbot", "bot", false},
		{"bots bots bot", "bot", true},
		{"1bot2", "bot", true},
		{"x/1", "/1", true},
		{"1x", "1", true},
		{"x1", "1", true},
		{"", "bot", false},
		{"ro-bot", "bot", true},
	} {
		if got := hasWords(c.s, c.mark); got != c.want {
			t.Errorf("%q holds %q: %v, want %v", c.s, c.mark, got, c.want)
		}
	}
	for c := range 256 {
		want := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if got := isLetter(byte(c)); got != want {
			t.Errorf("%q is a letter: %v", rune(c), got)
		}
	}
}

func TestUnquote(t *testing.T) {
	for p, want := range map[string]string{`abc`: "abc", `a\/b`: "a/b", `a\.b\+\(\)`: "a.b+()", `\\`: `\`, `\:\ \-`: ": -", ``: ""} {
		if got, plain := unquote(p); !plain || got != want {
			t.Errorf("%s: got %q, %v, want %q", p, got, plain, want)
		}
	}
	for _, c := range `\/.-+()[]{}|?*^$!: &'"=@,;#_<>` {
		if got, plain := unquote(`\` + string(c)); !plain || got != string(c) {
			t.Errorf(`\%c: got %q, %v`, c, got, plain)
		}
	}
	for _, p := range []string{`a.b`, `a+`, `a*`, `a?`, `(a`, `a)`, `[a`, `a]`, `{`, `}`, `a|b`, `^a`, `a$`, `a\`, `\d`, `a\b`} {
		if got, plain := unquote(p); plain {
			t.Errorf("%s is the plain text %q", p, got)
		}
	}
}

// TestRobotsOfAList: plain text as whole words, expressions anywhere.
func TestRobotsOfAList(t *testing.T) {
	r := readRobots("# comment\n\nplainbot\nab\nex[pr]ession\nodd\\/one\nplain")
	if len(r.regexps) != 2 || len(r.byStart) != 2 {
		t.Errorf("%d expressions, %d beginnings; want 2 and 2", len(r.regexps), len(r.byStart))
	}
	for s, want := range map[string]bool{
		"":             false,
		"plainbot":     true,
		"x plainbot":   true,
		"xplainbot":    false,
		"plain":        true,
		"plainx":       false,
		"a plain":      true,
		"xabx":         true,
		"ab":           true,
		"a":            false,
		"my expession": true,
		"my exression": true,
		"my exoession": false,
		"odd/one":      true,
		"# comment":    false,
		"Odd/One":      false,
	} {
		if got := r.match(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// TestReaderIsSafeForConcurrentUse, also where it forgets.
func TestReaderIsSafeForConcurrentUse(t *testing.T) {
	r := NewReader()
	r.most = 5
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				if a := r.Read("x" + string(rune('a'+(i*w)%26))); a.AgentFamily == "" {
					t.Error("got nothing")
				}
			}
		})
	}
	wg.Wait()
}
