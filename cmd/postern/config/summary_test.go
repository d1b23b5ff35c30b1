package config

import (
	"slices"
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

	got := summaryText(l, time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC))
	compareGolden(t, "summary.golden", strings.ReplaceAll(got, dir+"/", ""))
}

// summaryText is a summary without the end of the certificates, which is a year
// from now.
func summaryText(l *Loaded, now time.Time) string {
	var b strings.Builder
	for _, s := range l.Summary(now) {
		b.WriteString(s.Title + "\n")
		for _, line := range s.Lines {
			if s.Title == "Certificates" {
				line, _, _ = strings.Cut(line, ", until")
			}
			b.WriteString("  " + line + "\n")
		}
	}

	return b.String()
}

// TestSummaryOfOtherConfigurations: each line that the whole one does not have.
func TestSummaryOfOtherConfigurations(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, text string
		role       Role
		want, not  []string
	}{
		{"defaults", smallest, All, []string{
			"submission.listen         0.0.0.0:587           mail from 1 user, after STARTTLS\n",
			"tracking.web.listen       0.0.0.0:8080          the tracker, by http, for t.example.com\n",
			"admin.listen              127.0.0.1:8025        metrics and health\n",
			"admin.socket              /var/lib/postern/admin.sock the commands queue and events replay, profiles: the gateway's user and root\n",
			"accounting.pipe_socket    /var/lib/postern/pipe.sock the command accounting --pipe: the gateway's user and root\n",
			"Who may send without a password\n  nobody\n",
			"Upstreams\n  127.0.0.1:2525 (powermta), TLS opportunistic, no login, at most 64 connections\n" +
				"  the upstream's answer is the client's; what a mixed answer leaves over is queued\n",
			"Domains\n  no key: mail goes unsigned\n",
			"fullchain.pem for mail.example.com",
			"Events\n  kept on this machine for 1d, uploaded nowhere\n" +
				"  no accounting files: deliveries and bounces are known only where PowerMTA pipes them here\n",
		}, []string{"hashes", "is queued first", "obtained by ACME", "made here"}},
		{"a tracker", smallest, Tracker, []string{"tracking.web.listen ", "admin.socket", "Events\n  kept on this machine for 1d, uploaded nowhere\n"},
			[]string{"submission", "pipe_socket", "Who may", "Upstreams", "Domains", "Certificates", "accounting files"}},
		{"a tracker with TLS", smallest + "[tracking.web]\ntls = true\n", Tracker, []string{"the tracker, by https, for t.example.com\n", "Certificates\n"}, []string{"Domains"}},
		{"no socket for commands", smallest + "[admin]\nsocket = \"\"\nlisten = \"\"\n", All, []string{"accounting.pipe_socket"}, []string{"admin."}},
		{"groups", smallest + "[admin]\nsocket_group = \"root\"\n", All, []string{
			"profiles: the gateway's user, root and group root\n", "accounting --pipe: the gateway's user, root and group root\n"}, nil},
		{"logins at the upstream", smallest + "[submission]\nauth = \"upstream\"\n", All, []string{
			"mail from who may log in at the upstream, after STARTTLS", "TLS opportunistic, each client's own login, at most"}, nil},
		{"no STARTTLS required", smallest + "[submission]\nrequire_tls = false\nlisten = [\"127.0.0.1:1\"]\nlisten_tls = [\"127.0.0.1:2\"]\n", All, []string{
			"mail from 1 user, STARTTLS on offer and not required\n", "mail from 1 user, TLS from the start\n"}, nil},
		{"no tracking", "hostname = \"mail.example.com\"\n[tracking]\nopen = false\ninitial_open = false\nclick = false\n", All,
			[]string{"the tracker, by http; no tracking.url, so that no link leads here\n"}, nil},
		{"a source with a password", smallest + "[[submission.source]]\nnetwork = \"10.0.0.0/8\"\n", All, []string{"password\n  nobody\n"}, nil},
		{"store and forward", smallest + "[relay]\nqueue = \"always\"\n", All, []string{"  every message is queued first\n"}, []string{"is the client's"}},
		{"ACME", smallest + "[certs]\nmode = \"acme\"\nacme_domains = [\"a.example\", \"b.example\"]\n", All, []string{
			"Certificates\n  obtained by ACME for a.example, b.example\n",
			"certs.acme_http_listen    0.0.0.0:80            challenges of the certificate authority\n"}, nil},
		{"a local CA", smallest + "[certs]\nmode = \"self-signed\"\n", All, []string{
			"made here, by a local CA that clients do not trust unless they are told to\n"}, nil},
		{"records by a pipe", smallest + "[accounting]\npipe = true\n", All, []string{"deliveries and bounces from PowerMTA's pipe\n"}, nil},
		{"records of files and by a pipe", smallest + "[accounting]\npipe = true\nfiles = [\"/a\", \"/b\"]\n", All, []string{"deliveries and bounces from /a, /b\n"}, nil},
		{"uploads", smallest + "[signals]\nenabled = true\napi_key_file = \"api.key\"\nreport = [\"bounce\", \"delay\"]\n", All, []string{
			"Events\n  to https://api.sparkpost.com/api/v1/ingest/events: bounce, delay\n"}, []string{"hashes"}},
		{"keys and their times", smallest + key("s1", "") + key("s2", "not_before = \"2026-11-25\"\n") + key("s3", "not_before = \"2026-11-24\"\n") +
			key("s4", "not_after = \"2026-11-23\"\n") + key("s5", "not_after = \"2026-11-24\"\n"), All, []string{
			"with selector s1 (ed25519)\n", "with selector s2 (ed25519, from 2026-11-25 on)\n", "with selector s3 (ed25519)\n",
			"with selector s4 (ed25519, ended on 2026-11-23)\n", "with selector s5 (ed25519, until 2026-11-24)\n"}, []string{"no key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, problems := load(write(t, folder(t), c.text), c.role, noEnv)
			if f := problems.Fatal(); len(f) > 0 {
				t.Fatal(f)
			}
			got := summaryText(l, now)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("got\n%s\nwant in it\n%s", got, want)
				}
			}
			for _, not := range c.not {
				if strings.Contains(got, not) {
					t.Errorf("got\n%s\nwant no %q in it", got, not)
				}
			}
		})
	}
}

// key is a DKIM key with a selector, and further lines.
func key(selector, lines string) string {
	return "[[dkim.key]]\ndomain = \"example.com\"\nkey_file = \"s2026.example.com.pem\"\nselector = \"" + selector + "\"\n" + lines
}

func TestSummaryOfKeysAndCertificatesThatDoNotRead(t *testing.T) {
	l := &Loaded{Config: Default(), Role: All}
	l.DKIM.Keys = []DKIMKey{{Domain: "a.example", Selector: "s", KeyFile: "/nowhere"}}
	l.Certs.CertFile = "/nowhere"

	got := summaryText(l, time.Now())
	if !strings.Contains(got, "a.example is signed with selector s (unreadable)\n") || !strings.Contains(got, "Certificates\nEvents\n") {
		t.Errorf("got\n%s\nwant the key unreadable, and no certificate", got)
	}
}

// TestDomainsWithoutAKey: a key signs for its domain and all below it.
func TestDomainsWithoutAKey(t *testing.T) {
	l := &Loaded{Config: Default()}
	l.DKIM.Keys = []DKIMKey{{Domain: "Example.com"}, {Domain: "bücher.example"}}
	l.Users = []User{
		{Name: "a", FromDomains: []string{"example.com", "EXAMPLE.com", "a.b.example.com", "*.example.com", "xn--bcher-kva.example"}},
		{Name: "b", FromDomains: []string{"*", "notexample.com", "com", "*.com", "*.example"}},
		{Name: "c", FromDomains: []string{"own.example"}, DKIMKey: "example.com"},
		{Name: "d", FromDomains: []string{"other.example", "notexample.com"}},
		{Name: "e"},
	}

	if got, want := l.unsignedDomains(), []string{"notexample.com", "com", "other.example"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := l.usersOf("notexample.com"), []string{"b", "d"}; !slices.Equal(got, want) {
		t.Errorf("got users %q, want %q", got, want)
	}
	if got := l.usersOf("own.example"); len(got) != 0 {
		t.Errorf("a user with a key of its own: got %q, want none", got)
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
