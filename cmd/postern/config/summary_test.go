package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSummary holds what is said of a whole configuration to a file.
func TestSummary(t *testing.T) {
	dir := folder(t)
	users := "[[user]]\nname = \"app\"\nfrom_domains = [\"example.com\", \"*.example.com\", \"other.example.org\"]\n"
	putFile(t, dir, "users.toml", users)
	file := write(t, dir, `hostname = "mail.example.com"
state_dir = "state"
[submission]
listen = ["0.0.0.0:587"]
listen_tls = ["0.0.0.0:465"]
[[submission.source]]
network = "10.1.0.0/16"
require_auth = false
user = "app"
[relay]
upstream = ["127.0.0.1:2525", "192.0.2.7:2525"]
username = "postern"
password = "secret"
[tracking]
url = "https://track.example.com"
[[tracking.rule]]
sender_or_from = "*.customer.example"
url = "https://click.customer.example"
[reports]
bounce_domains = ["b.example.com"]
fbl_domains = ["*.fbl.example.com"]
[[dkim.key]]
domain = "example.com"
selector = "s2026"
key_file = "s2026.example.com.pem"
not_after = "2027-01-01"
[[dkim.key]]
domain = "example.com"
selector = "s2027"
key_file = "s2026.example.com.pem"
not_before = "2027-01-01"
[accounting]
files = ["acct*.csv"]
[signals]
enabled = true
api_key_file = "api.key"
privacy_policy = "sha1"
`)
	l, problems := load(file, All, noEnv)
	if len(problems.Fatal()) > 0 {
		t.Fatal(problems)
	}

	var b strings.Builder
	for _, s := range l.Summary(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)) {
		b.WriteString(s.Title + "\n")
		for _, line := range s.Lines {
			if s.Title == "Certificates" { // its end is a year from now
				line, _, _ = strings.Cut(line, ", until")
			}
			b.WriteString("  " + strings.ReplaceAll(line, dir+"/", "") + "\n")
		}
	}

	golden := filepath.Join("testdata", "summary.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestDurationIsWrittenAsInTheFile(t *testing.T) {
	for text, want := range map[string]string{
		"30s": "30s", "4m": "4m", "1h30m": "1h30m", "24h": "1d", "4d12h": "4d12h", "90s": "1m30s", "0s": "0s", "365d": "365d",
	} {
		var d, again Duration
		if err := d.parse(text); err != nil {
			t.Fatal(err)
		}
		if got := d.String(); got != want {
			t.Errorf("%s is written %s, want %s", text, got, want)
		}
		if err := again.parse(d.String()); err != nil || again != d {
			t.Errorf("%s reads back as %v, %v", d, again, err)
		}
	}
}

func TestSameAddr(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:25", "127.0.0.1:25", true},
		{"127.0.0.1:25", "127.0.0.1:26", false},
		{"127.0.0.1:25", "127.0.0.2:25", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"0.0.0.0:25", "192.0.2.1:25", true},
		{"192.0.2.1:25", "0.0.0.0:25", true},
		{"0.0.0.0:25", "[::]:25", false},
		{"0.0.0.0:25", "[::1]:25", false},
		{"[::]:25", "[::1]:25", true},
		{"[::]:25", "127.0.0.1:25", true},
		{":25", "127.0.0.1:25", true},
		{"localhost:25", "127.0.0.1:25", true},
		{"mail.example.com:25", "MAIL.example.com:25", true},
		{"mail.example.com:25", "192.0.2.1:25", false},
	} {
		if got := sameAddr(c.a, c.b); got != c.want {
			t.Errorf("sameAddr(%s, %s) = %v", c.a, c.b, got)
		}
	}
}

func TestLeadsTo(t *testing.T) {
	for _, c := range []struct {
		upstream, listener string
		want               bool
	}{
		{"127.0.0.1:587", "0.0.0.0:587", true},
		{"127.0.0.1:2525", "0.0.0.0:587", false},
		{"localhost:587", "127.0.0.1:587", true},
		{"gw.example.com:587", "0.0.0.0:587", true},
		{"other.example.com:587", "0.0.0.0:587", false},
		{"192.0.2.7:587", "0.0.0.0:587", false},
		{"127.0.0.2:587", "127.0.0.1:587", false},
		{"[::1]:587", "[::]:587", true},
	} {
		if got := leadsTo(c.upstream, c.listener, "gw.example.com"); got != c.want {
			t.Errorf("leadsTo(%s, %s) = %v", c.upstream, c.listener, got)
		}
	}
}
