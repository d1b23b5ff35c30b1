package config

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPatternsOfRewriting(t *testing.T) {
	for s, want := range map[string]bool{
		"*@example.com": true, "a@example.com": true, "*@*.example.com": true,
		"": false, "@": false, "a@": false, "@example.com": false, "example.com": false,
		"a b@example.com": false, "<a@example.com": false, "a@example.com>": false, "a@b@example.com": false,
	} {
		if got := isPattern(s); got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	}
}

// TestListenersOfARole names every address that is listened on, and by which key.
func TestListenersOfARole(t *testing.T) {
	c := Default()
	c.Submission.Listen = []Addr{"a:1", "b:2"}
	c.Submission.ListenTLS = []Addr{"c:3"}
	c.Reports.Listen = []Addr{"d:4"}
	c.Reports.FBLDomains = []string{"f.example"}
	c.Tracking.Web.Listen = []Addr{"e:5"}
	c.Admin.Listen = "f:6"
	c.Certs.Mode = "acme"
	c.Certs.ACMEHTTPListen = "g:7"
	c.Certs.ACMETLSListen = "h:8"
	const mail = "submission.listen[0]=a:1 submission.listen[1]=b:2 submission.listen_tls[0]=c:3 "
	const rest = "tracking.web.listen[0]=e:5 admin.listen=f:6"
	const acme = " certs.acme_http_listen=g:7+ certs.acme_tls_listen=h:8+"

	for _, test := range []struct {
		name   string
		role   Role
		change func(*Config)
		want   string
	}{
		{"everything", All, func(*Config) {}, mail + "reports.listen[0]=d:4 " + rest + acme},
		{"a tracker", Tracker, func(*Config) {}, rest + acme},
		{"no reports", All, func(c *Config) { c.Reports.FBLDomains = nil }, mail + rest + acme},
		{"no ACME", All, func(c *Config) { c.Reports.FBLDomains = nil; c.Certs.Mode = "files" }, mail + rest},
		{"ACME over TLS alone", Tracker, func(c *Config) { c.Certs.ACMEHTTPListen = "" }, rest + " certs.acme_tls_listen=h:8+"},
		{"ACME over http alone", Tracker, func(c *Config) { c.Certs.ACMETLSListen = "" }, rest + " certs.acme_http_listen=g:7+"},
		{"no admin", Tracker, func(c *Config) { c.Admin.Listen = "" }, "tracking.web.listen[0]=e:5" + acme},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := *c
			test.change(&now)
			var got []string
			for _, l := range now.listeners(test.role) {
				text := l.key + "=" + l.addr
				if l.acme {
					text += "+"
				}
				got = append(got, text)
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("got  %s\nwant %s", text, test.want)
			}
		})
	}
}

func TestListenersThatCannotAllBeOpened(t *testing.T) {
	listen := func(table, addr string) string { return "[" + table + "]\nlisten = [\"" + addr + "\"]\n" }
	admin := func(addr string) string { return "[admin]\nlisten = \"" + addr + "\"\n" }
	for _, c := range []struct{ name, text, want string }{
		{"apart", listen("submission", "127.0.0.1:1") + listen("tracking.web", "127.0.0.1:2"), ""},
		{"the tracker on submission's", listen("submission", "127.0.0.1:1") + listen("tracking.web", "127.0.0.1:1"),
			"7: tracking.web.listen[0]: 127.0.0.1:1 cannot be opened: submission.listen[0] listens on 127.0.0.1:1 already"},
		{"admin on the tracker's", listen("tracking.web", "127.0.0.1:1") + admin("127.0.0.1:1"),
			"7: admin.listen: 127.0.0.1:1 cannot be opened: tracking.web.listen[0] listens on 127.0.0.1:1 already"},
		{"ACME on the tracker's", listen("tracking.web", "0.0.0.0:80") + "[certs]\nmode = \"acme\"\n", ""},
		{"ACME beside the tracker's wildcard", listen("tracking.web", "127.0.0.1:80") + "[certs]\nmode = \"acme\"\n",
			"6: certs.acme_http_listen: 0.0.0.0:80 cannot be opened: tracking.web.listen[0] listens on 127.0.0.1:80 already"},
		{"ACME on submission's", listen("submission", "127.0.0.1:80") + "[certs]\nmode = \"acme\"\n",
			"6: certs.acme_http_listen: 0.0.0.0:80 cannot be opened: submission.listen[0] listens on 127.0.0.1:80 already"},
		{"an upstream in another case", "[relay]\nupstream = [\"P.example:25\", \"q.example:25\", \"p.example:25\"]\n",
			"5: relay.upstream[2]: p.example:25 is named already, by relay.upstream[0]"},
		{"an upstream at port 0", "[relay]\nupstream = [\"p.example:00\"]\n",
			"5: relay.upstream[0]: nothing can be reached at port 0; PowerMTA's smtp-listener has a port such as 2525"},
		{"an upstream that is the tracker", listen("tracking.web", "127.0.0.1:1") + "[relay]\nupstream = [\"p.example:25\", \"127.0.0.1:1\"]\n",
			"7: relay.upstream[1]: 127.0.0.1:1 is this gateway's own tracking.web.listen[0]: mail would go round in a loop"},
		{"an upstream on this host's name", listen("submission", "0.0.0.0:1") + "[relay]\nupstream = [\"mail.example.com:1\"]\n",
			"7: relay.upstream[0]: mail.example.com:1 is this gateway's own submission.listen[0]: mail would go round in a loop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(problemsOf(t, All, smallest+c.text, nil), "\n")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestAddressesThatAreOne(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"[::]:25", "[::]:25", true}, {"[::1]:25", "[::]:25", true}, {"[::1]:25", "[::1]:25", true}, {"[::1]:25", "[::2]:25", false},
		{"127.0.0.1:25", "[::]:25", true}, {"[::1]:25", "0.0.0.0:25", false}, {"a.example:25", "b.example:25", false},
		{"a.example:25", "0.0.0.0:25", false}, {"0.0.0.0:25", "a.example:25", false}, {"0.0.0.0:25", "0.0.0.0:25", true},
		{":25", "[::]:25", true}, {":25", "0.0.0.0:25", false}, {"[::ffff:127.0.0.1]:25", "127.0.0.1:25", true},
		{"LOCALHOST:25", "127.0.0.1:25", true}, {"localhost:00", "localhost:00", false},
	} {
		if got := sameAddr(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: got %v, want %v", c.a, c.b, got, c.want)
		}
		if got := sameAddr(c.b, c.a); got != c.want {
			t.Errorf("%s and %s: got %v, want %v", c.b, c.a, got, c.want)
		}
	}
}

func TestConnectionsThatLeadHere(t *testing.T) {
	for _, c := range []struct {
		upstream, listener string
		want               bool
	}{
		{"Gw.example.com:587", "0.0.0.0:587", true}, {"gw.example.com:587", "192.0.2.7:587", false},
		{"0.0.0.0:587", "0.0.0.0:587", true}, {"[::]:587", "0.0.0.0:587", true}, {"192.0.2.7:587", "192.0.2.7:587", true},
		{"192.0.2.8:587", "192.0.2.7:587", false}, {"Other.example:587", "other.example:587", true},
		{"other.example:587", "third.example:587", false}, {"other.example:0", "other.example:0", false},
		{"192.0.2.7:587", "other.example:587", false}, {"other.example:587", "192.0.2.7:587", false},
		{"127.0.0.1:587", "[::ffff:127.0.0.1]:587", true},
	} {
		if got := leadsTo(c.upstream, c.listener, "gw.example.com"); got != c.want {
			t.Errorf("%s to %s: got %v, want %v", c.upstream, c.listener, got, c.want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		"0.0.0.0:1": false, ":1": false, "192.0.2.1:1": false, "mail.example.com:1": false, "nothing": false,
	} {
		if got := isLoopback(addr); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

// TestAccessThatIsTooWide names networks that are an open relay, and what is not.
func TestAccessThatIsTooWide(t *testing.T) {
	source := func(network, auth string) string {
		return "[[submission.source]]\nnetwork = \"" + network + "\"\nrequire_auth = " + auth + "\nuser = \"a\"\n"
	}
	relay := func(who string) string {
		return "5: submission.source[0].network: warning: an open relay: " + who + " may send mail to everybody without a password"
	}
	const plain = "5: submission.require_tls: warning: false: passwords and mail may cross the network to "
	for _, c := range []struct{ name, text, want string }{
		{"everybody", source("0.0.0.0/0", "false"), relay("anybody on the Internet")},
		{"everybody of IPv6", source("::/0", "false"), relay("anybody on the Internet")},
		{"everybody with a password", source("0.0.0.0/0", "true"), ""},
		{"half of the Internet", source("128.0.0.0/1", "false"), relay("all of 128.0.0.0/1")},
		{"wide", source("203.0.0.0/15", "false"), relay("all of 203.0.0.0/15")},
		{"one organisation", source("203.0.0.0/16", "false"), ""},
		{"wide, of IPv6", source("2001:da8::/31", "false"), relay("all of 2001:da8::/31")},
		{"one organisation, of IPv6", source("2001:da8::/32", "false"), ""},
		{"a private network", source("10.0.0.0/8", "false"), ""},
		{"this machine", source("127.0.0.0/8", "false"), ""},
		{"admin for others", "[admin]\nlisten = \"192.0.2.1:8025\"\n", "5: admin.listen: warning: 192.0.2.1:8025 is reached from other machines, " +
			"and metrics and health ask for no password: listen on \"127.0.0.1:8025\", or let a firewall decide who reaches it"},
		{"admin for this machine", "[admin]\nlisten = \"[::1]:8025\"\n", ""},
		{"no admin", "[admin]\nlisten = \"\"\n", ""},
		{"plain text", "[submission]\nrequire_tls = false\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:2\", \"0.0.0.0:3\"]\n", plain + "0.0.0.0:2 in plain text"},
		{"plain text within this machine", "[submission]\nrequire_tls = false\nlisten = [\"127.0.0.1:1\"]\n", ""},
		{"TLS for others", "[submission]\nrequire_tls = true\nlisten = [\"0.0.0.0:2\"]\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(problemsOf(t, All, smallest+c.text, nil), "\n")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	got := strings.Join(problemsOf(t, Tracker, smallest+source("0.0.0.0/0", "false")+"[admin]\nlisten = \"0.0.0.0:1\"\n", nil), "\n")
	if !strings.HasPrefix(got, "9: admin.listen: warning: ") || strings.Contains(got, "open relay") {
		t.Errorf("a tracker: got %q, want a word of admin.listen alone", got)
	}
}

// leafOf is a certificate that is valid between two times.
func leafOf(from, until time.Time, names ...string) tls.Certificate {
	return tls.Certificate{Leaf: &x509.Certificate{NotBefore: from, NotAfter: until, DNSNames: names}}
}

func TestCertificatesThatClientsRefuse(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	year := now.AddDate(1, 0, 0)
	old := now.AddDate(-1, 0, 0)
	const host = "mail.example.com"
	for _, c := range []struct {
		name string
		list []tls.Certificate
		tls  bool
		want string
	}{
		{"good", []tls.Certificate{leafOf(old, year, host)}, false, ""},
		{"ends now", []tls.Certificate{leafOf(old, now, host)}, false,
			"certs.cert_file: warning: the certificate ran out on 2026-11-24: clients that verify it refuse to connect"},
		{"ends in a second", []tls.Certificate{leafOf(old, now.Add(time.Second), host)}, false, "certs.cert_file: warning: the certificate runs out on 2026-11-24"},
		{"ends in a second less than 14 days", []tls.Certificate{leafOf(old, now.Add(14*24*time.Hour-time.Second), host)}, false,
			"certs.cert_file: warning: the certificate runs out on 2026-12-08"},
		{"ends in 14 days", []tls.Certificate{leafOf(old, now.Add(14*24*time.Hour), host)}, false, ""},
		{"begins now", []tls.Certificate{leafOf(now, year, host)}, false, ""},
		{"begins in a second", []tls.Certificate{leafOf(now.Add(time.Second), year, host)}, false,
			"certs.cert_file: warning: the certificate is not valid before 2026-11-24"},
		{"the third ran out", []tls.Certificate{leafOf(old, year, host), leafOf(old, year, host), leafOf(old, old, host)}, false,
			"certs.pair[1].cert_file: warning: the certificate ran out on 2025-11-24: clients that verify it refuse to connect"},
		{"for another host", []tls.Certificate{leafOf(old, year, "a.example", "b.example"), leafOf(old, year, "c.example")}, false,
			"certs.cert_file: warning: no certificate is for mail.example.com: clients that verify it refuse to connect; the names are a.example, b.example, c.example"},
		{"for no host", []tls.Certificate{leafOf(old, year)}, false,
			"certs.cert_file: warning: no certificate is for mail.example.com: clients that verify it refuse to connect; the names are none"},
		{"the host is the second one's", []tls.Certificate{leafOf(old, year, "a.example"), leafOf(old, year, host)}, false, ""},
		{"not for the tracker", []tls.Certificate{leafOf(old, year, host)}, true,
			"certs.cert_file: warning: no certificate is for t.example.com: clients that verify it refuse to connect; the names are mail.example.com"},
		{"for the tracker", []tls.Certificate{leafOf(old, year, host, "t.example.com")}, true, ""},
		{"none that reads", []tls.Certificate{{}, {}}, false, ""},
		{"one that reads", []tls.Certificate{{}, leafOf(old, old, host)}, false,
			"certs.pair[0].cert_file: warning: the certificate ran out on 2025-11-24: clients that verify it refuse to connect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := Default()
			conf.Hostname = host
			conf.Tracking.URL = "https://t.example.com"
			conf.Tracking.Web.TLS = c.tls
			b := newBinder("postern.toml", noEnv)

			b.checkCertificates(conf, c.list, now)

			if got := strings.ReplaceAll(b.problems.Error(), "postern.toml:1: ", ""); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNamesForTLS(t *testing.T) {
	c := Default()
	c.Tracking.URL = "https://t.example:8443/x"
	c.Tracking.Rules = []TrackingRule{{URL: "https://u.example"}, {URL: "http://plain.example"}, {}, {URL: "https://t.example"}, {URL: "https://gw.example"}}

	if got := c.tlsNames(); len(got) != 0 {
		t.Errorf("no hostname: got %v, want none", got)
	}
	c.Hostname = "gw.example"
	if got := c.tlsNames(); !slices.Equal(got, []string{"gw.example"}) {
		t.Errorf("without TLS at the tracker: got %v, want the hostname", got)
	}
	c.Tracking.Web.TLS = true
	if got := c.tlsNames(); !slices.Equal(got, []string{"gw.example", "t.example", "u.example"}) {
		t.Errorf("with TLS at the tracker: got %v, want every https host once", got)
	}

	urls := func(us []*url.URL) (out []string) {
		for _, u := range us {
			out = append(out, u.Host)
		}
		return out
	}
	if got := urls(c.trackingURLs()); !slices.Equal(got, []string{"t.example:8443", "u.example", "plain.example", "t.example", "gw.example"}) {
		t.Errorf("got tracking hosts %v", got)
	}
}

func TestNamesOfCertificates(t *testing.T) {
	ip := &x509.Certificate{DNSNames: []string{"a.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}
	if got := certificateNames(ip, &x509.Certificate{DNSNames: []string{"b.example"}}); !slices.Equal(got, []string{"a.example", "192.0.2.1", "b.example"}) {
		t.Errorf("got %v", got)
	}
	if got := certificateNames(&x509.Certificate{}); !slices.Equal(got, []string{"none"}) {
		t.Errorf("no name: got %v", got)
	}
}

// TestStateDirHasToBeUsable asks for what is there, and for what is not yet.
func TestStateDirHasToBeUsable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                              "",
		filepath.Join(dir, "new"):        "",
		filepath.Join(dir, "a/b/c"):      "",
		file:                             file + " is a file, not a folder",
		filepath.Join(file, "below"):     "stat " + file + "/below: not a directory",
		"/proc/self":                     "/proc/self cannot be written by user",
		"/proc/self/nowhere/and/further": "/proc/self cannot be written by user",
	} {
		b := newBinder("postern.toml", noEnv)
		b.checkStateDir(path)
		got := b.problems.Error()
		if want != "" {
			want = "postern.toml:1: state_dir: " + want
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// TestSecretsThatOthersReadAreNamed: every file with a secret is looked at, and
// only the bit for others counts.
func TestSecretsThatOthersReadAreNamed(t *testing.T) {
	const text = smallest + `[[certs.pair]]
cert_file = "fullchain.pem"
key_file = "pair.pem"
[[dkim.key]]
domain = "example.com"
selector = "s"
key_file = "s2026.example.com.pem"
[relay]
username = "u"
password = "p"
`
	warn := func(line, key, file, what string) string {
		return line + ": " + key + ": warning: every user of this machine can read " + file + ", which holds " + what + ": chmod o-r " + file
	}
	for _, c := range []struct {
		file string
		want string
	}{
		{"token.keys", warn("2", "tracking.key_file", "token.keys", "the keys of all tracked links")},
		{"privkey.pem", warn("1", "certs.key_file", "privkey.pem", "a private key")},
		{"pair.pem", warn("6", "certs.pair[0].key_file", "pair.pem", "a private key")},
		{"s2026.example.com.pem", warn("10", "dkim.key[0].key_file", "s2026.example.com.pem", "a private key")},
		{"postern.toml", warn("13", "relay.password", "postern.toml", "this secret")},
		{"fullchain.pem", ""},
	} {
		t.Run(c.file, func(t *testing.T) {
			dir := folder(t)
			key, err := os.ReadFile(filepath.Join(dir, "privkey.pem"))
			if err != nil {
				t.Fatal(err)
			}
			putFile(t, dir, "pair.pem", string(key))
			file := write(t, dir, text)
			for mode, want := range map[os.FileMode]string{0o600: "", 0o660: "", 0o604: c.want, 0o444: c.want, 0o603: ""} {
				if err := os.Chmod(filepath.Join(dir, c.file), mode); err != nil {
					t.Fatal(err)
				}
				_, problems := load(file, All, noEnv)
				if got := strings.ReplaceAll(problems.Error(), file+":", ""); got != want {
					t.Errorf("mode %o: got %q, want %q", mode, got, want)
				}
			}
		})
	}

	// What is wrong already is not said again, and a key that is not used is nobody's secret.
	dir := folder(t)
	putFile(t, dir, "privkey.pem:644", "no key")
	putFile(t, dir, "self.toml", "")
	_, problems := load(write(t, dir, smallest+"[certs]\nmode = \"self-signed\"\n"), All, noEnv)
	if len(problems) > 0 {
		t.Errorf("a key that is not used: got %v", problems)
	}
}

func TestInodesTellFilesApart(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	when := time.Unix(1795500000, 0)
	for _, file := range []string{a, b} {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	var st syscall.Stat_t
	if err := syscall.Stat(a, &st); err != nil {
		t.Fatal(err)
	}

	got := StampFile(a)
	if want := (FileStamp{size: 1, modified: when.UnixNano(), inode: st.Ino}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got == StampFile(b) {
		t.Error("two files of one size and time have one stamp")
	}
	if got := StampFile(filepath.Join(dir, "nowhere")); got != (FileStamp{}) {
		t.Errorf("no file: got %+v, want none", got)
	}
}

func TestTokenKeyAdvice(t *testing.T) {
	dir := folder(t)
	putFile(t, dir, "broken.keys", "1 nonsense\n")
	for _, c := range []struct{ file, want string }{
		{"nowhere.keys", "nowhere.keys: no such file or directory; `postern token keygen nowhere.keys` makes it, where no links were sent before"},
		{"fullchain.pem", "fullchain.pem holds PEM, a certificate or another kind of key: name the file that `postern token keygen` made"},
		{".", "; the gateway's user has to be able to read it"},
		{"broken.keys", "token: "},
	} {
		got := problemsOf(t, All, smallest+"key_file = \""+c.file+"\"\n", map[string]string{"broken.keys": "1 nonsense\n"})
		if len(got) != 1 || !strings.HasPrefix(got[0], "4: tracking.key_file: ") || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: got %q, want %q", c.file, got, c.want)
		}
		if c.file == "broken.keys" && strings.Contains(got[0], ";") {
			t.Errorf("%s: got %q, want no advice to make another", c.file, got)
		}
	}
}
