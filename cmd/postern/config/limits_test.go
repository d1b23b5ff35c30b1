package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// problemsOf loads a text beside the files of a folder, and returns what is
// said, a line each, without the folder's name.
func problemsOf(t *testing.T, role Role, text string, files map[string]string) []string {
	t.Helper()
	dir := folder(t)
	for name, content := range files {
		putFile(t, dir, name, content)
	}

	_, problems := load(write(t, dir, text), role, noEnv)
	var out []string
	for _, p := range problems {
		out = append(out, strings.TrimPrefix(strings.ReplaceAll(p.Error(), dir+string(filepath.Separator), ""), "postern.toml:"))
	}
	return out
}

// TestLimitsAreExact takes each limit at its last good value and at the first
// bad one.
func TestLimitsAreExact(t *testing.T) {
	const reports = "[reports]\nbounce_domains = [\"b.example\"]\n"
	sub := func(line string) string { return smallest + "[submission]\n" + line + "\n" }
	relay := func(line string) string { return smallest + "[relay]\n" + line + "\n" }
	signals := func(line string) string { return smallest + "[signals]\n" + line + "\n" }
	for _, c := range []struct{ name, good, bad, want string }{
		{"memory for two messages", "memory_budget = \"100MiB\"\n" + smallest, "memory_budget = 104857599\n" + smallest,
			"1: memory_budget: smaller than twice submission.max_message_size: such a message could never come in"},
		{"no limit of memory", "memory_budget = 0\n" + smallest, "memory_budget = 1\n" + smallest, "1: memory_budget: "},
		{"max_message_size", sub("max_message_size = 1"), sub("max_message_size = 0"), "5: submission.max_message_size: must be greater than zero"},
		{"max_recipients", sub("max_recipients = 1"), sub("max_recipients = 0"), "5: submission.max_recipients: must be greater than zero"},
		{"max_connections", sub("max_connections = 1"), sub("max_connections = 0"), "5: submission.max_connections: must be greater than zero"},
		{"max_connections_per_source", sub("max_connections_per_source = 1"), sub("max_connections_per_source = 0"),
			"5: submission.max_connections_per_source: must be greater than zero"},
		{"idle_timeout", sub("idle_timeout = \"1ns\""), sub("idle_timeout = \"0s\""), "5: submission.idle_timeout: must be greater than zero"},
		{"message_timeout", sub("message_timeout = \"1ns\""), sub("message_timeout = \"0s\""), "5: submission.message_timeout: must be greater than zero"},
		{"no plain listener beside one with TLS", sub("listen = []\nlisten_tls = [\"127.0.0.1:465\"]"), sub("listen = []"),
			`5: submission.listen: is empty, write for example ["0.0.0.0:587"]`},
		{"users_file", sub("users_file = \"users.toml\""), sub("users_file = \"\""), "5: submission.users_file: must not be empty"},
		{"state_dir", "state_dir = \"x\"\n" + smallest, "state_dir = \"\"\n" + smallest, "1: state_dir: missing; the folder for spools and certificates"},
		{"relay.max_connections", relay("max_connections = 1"), relay("max_connections = 0"), "5: relay.max_connections: want at least 1"},
		{"max_messages_per_connection", relay("max_messages_per_connection = 1"), relay("max_messages_per_connection = 0"),
			"5: relay.max_messages_per_connection: want at least 1"},
		{"answer_within", relay("answer_within = \"1ns\""), relay("answer_within = \"0s\""), `5: relay.answer_within: must be greater than zero, for example "4m"`},
		{"retry_after", relay("retry_after = [\"1m\"]"), relay("retry_after = []"), `5: relay.retry_after: is empty, write for example ["1m", "5m", "15m", "1h"]`},
		{"second pause", relay("retry_after = [\"1m\", \"1ns\"]"), relay("retry_after = [\"1m\", \"0s\"]"),
			`5: relay.retry_after[1]: must be greater than zero, for example "1m"`},
		{"bounce_after and the first pause", relay("bounce_after = \"1m\""), relay("bounce_after = \"59s\""),
			"5: relay.bounce_after: shorter than the first pause of relay.retry_after: a copy would come back to its sender before it is tried again"},
		{"bounce_after", relay("bounce_after = \"1h\""), relay("bounce_after = \"0s\""), `5: relay.bounce_after: must be greater than zero, for example "4d12h"`},
		{"upstream", relay("upstream = [\"127.0.0.1:1\"]"), relay("upstream = []"), `5: relay.upstream: is empty, write for example ["127.0.0.1:2525"]`},
		{"username and password", relay("username = \"u\"\npassword = \"p\""), relay("username = \"u\""), "5: relay.username: relay.username and relay.password go together"},
		{"password and username", relay("username = \"u\"\npassword = \"p\""), relay("password = \"p\""), "4: relay.username: relay.username and relay.password go together"},
		{"verp_domain", relay("verp_domain = \"v.example\""), relay("verp_domain = \"v v\""), `5: relay.verp_domain: not a host name, write for example "mail.example.com"`},
		{"tracking.web.max_connections", smallest + "[tracking.web]\nmax_connections = 1\n", smallest + "[tracking.web]\nmax_connections = 0\n",
			"5: tracking.web.max_connections: must be greater than zero"},
		{"max_link_length", smallest + "max_link_length = 200\n", smallest + "max_link_length = 199\n", "4: tracking.max_link_length: want at least 200, or 0 for no limit"},
		{"no max_link_length", smallest + "max_link_length = 0\n", smallest + "max_link_length = 1\n", "4: tracking.max_link_length: "},
		{"batch_size, least", signals("batch_size = 1024"), signals("batch_size = 1023"), `5: signals.batch_size: want from "1KiB" to "5MB", the API's limit`},
		{"batch_size, most", signals("batch_size = 5000000"), signals("batch_size = 5000001"), `5: signals.batch_size: want from "1KiB" to "5MB", the API's limit`},
		{"batch_age", signals("batch_age = \"1ns\""), signals("batch_age = \"0s\""), `5: signals.batch_age: must be greater than zero, for example "30s"`},
		{"upload_url", signals("upload_url = \"https://a.example\""), signals("upload_url = \"\""), "5: signals.upload_url: must not be empty"},
		{"reports.max_message_size", smallest + reports + "max_message_size = 1\n", smallest + reports + "max_message_size = 0\n",
			`6: reports.max_message_size: must be greater than zero, for example "10MiB"`},
		{"reports.memory_budget", smallest + reports + "memory_budget = 42205184\n", smallest + reports + "memory_budget = 42205183\n",
			"6: reports.memory_budget: less than four times reports.max_message_size and 64KiB: such a message could never come in"},
		{"no reports.memory_budget", smallest + reports + "memory_budget = 0\n", smallest + reports + "memory_budget = 1\n", "6: reports.memory_budget: "},
		{"reports.listen", smallest + reports + "listen = [\"127.0.0.1:25\"]\n", smallest + reports + "listen = []\n",
			`6: reports.listen: is empty, write for example ["0.0.0.0:25"]`},
		{"no reports, no listener", smallest + "[reports]\nlisten = []\nmax_message_size = 0\nmemory_budget = 1\n", smallest + reports + "listen = []\n", "6: reports.listen: "},
		{"signature of a day more", smallest + "[dkim]\nexpire = \"5d12h\"\n", smallest + "[dkim]\nexpire = \"5d11h59m59s\"\n",
			"5: dkim.expire: warning: shorter than relay.bounce_after and a day (5d12h): mail that waits in the retry spool may go out with an expired signature"},
		{"signatures that do not expire", smallest + "[dkim]\nexpire = \"0s\"\n", smallest + "[dkim]\nexpire = \"1s\"\n", "5: dkim.expire: warning: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := problemsOf(t, All, c.good, nil); len(got) != 0 {
				t.Errorf("the last good value: got %q, want nothing", got)
			}
			got := problemsOf(t, All, c.bad, nil)
			if len(got) == 0 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("the first bad value: got %q, want %q", got, c.want)
			}
			if len(got) > 1 && !strings.Contains(c.name, "users_file") {
				t.Errorf("besides: %q", got[1:])
			}
		})
	}
}

// TestWordsAreThoseOfTheExample takes every word of each choice, and one that
// is none.
func TestWordsAreThoseOfTheExample(t *testing.T) {
	for _, c := range []struct {
		table, key string
		words      []string
		besides    string // further lines that the words want
	}{
		{"log", "level", []string{"debug", "info", "warn", "error"}, ""},
		{"log", "format", []string{"text", "json"}, ""},
		{"submission", "received_header", []string{"full", "anonymous", "off"}, ""},
		{"submission", "bare_newlines", []string{"refuse", "normalise"}, ""},
		{"submission", "auth", []string{"users", "upstream"}, ""},
		{"certs", "min_version", []string{"1.2", "1.3"}, ""},
		{"certs", "mode", []string{"files", "acme", "self-signed"}, ""},
		{"relay", "tls", []string{"off", "opportunistic", "required"}, ""},
		{"relay", "upstream_kind", []string{"powermta", "other"}, ""},
		{"relay", "queue", []string{"partial", "always"}, ""},
		{"tracking.web", "ip_privacy", []string{"full", "truncate"}, ""},
		{"dkim", "rsa", []string{"auto", "go"}, ""},
		{"signals", "prefetch", []string{"mark", "drop", "person"}, ""},
		{"signals", "scanner", []string{"mark", "drop", "person"}, ""},
		{"signals", "privacy_policy", []string{"retain", "sha1"}, ""},
	} {
		t.Run(c.table+"."+c.key, func(t *testing.T) {
			for _, word := range c.words {
				for _, p := range problemsOf(t, All, smallest+"["+c.table+"]\n"+c.key+" = \""+word+"\"\n", nil) {
					if !strings.Contains(p, "warning: ") {
						t.Errorf("%s: got %q, want it accepted", word, p)
					}
				}
			}

			got := problemsOf(t, All, smallest+"["+c.table+"]\n"+c.key+" = \"else\"\n", nil)
			want := "5: " + c.table + "." + c.key + ": want one of " + strings.Join(c.words, ", ") + `, not "else"`
			if len(got) != 1 || got[0] != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestReportTakesEveryClass(t *testing.T) {
	for _, class := range reportClasses {
		if got := problemsOf(t, All, smallest+"[signals]\nreport = [\""+class+"\"]\n", nil); len(got) != 0 {
			t.Errorf("%s: got %q, want it accepted", class, got)
		}
	}
	got := problemsOf(t, All, smallest+"[signals]\nreport = [\"bounce\", \"clack\"]\n", nil)
	want := "; write some of injection, delivery, bounce, delay, out_of_band, spam_complaint, policy_rejection, engagement, unsubscribe"
	if len(got) != 1 || !strings.HasPrefix(got[0], "5: signals.report[1]: ") || !strings.HasSuffix(got[0], want) {
		t.Errorf("got %q, want the second one refused, and %q", got, want)
	}
}

// TestRefusals holds the rules that go beyond one value to their words. All
// that is said is listed.
func TestRefusals(t *testing.T) {
	const upstreamAuth = smallest + "[submission]\nauth = \"upstream\"\n"
	const key40 = "abababababababababababababababababababab"
	const leftOver = `5: submission.auth: warning: "upstream" without relay.username: what a mixed answer leaves over has no login to be tried again with`
	const rule = "[[tracking.rule]]\nsender_or_from = \"a.example\"\n"
	acme := func(lines string) string { return smallest + "[certs]\nmode = \"acme\"\n" + lines }
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		// Pools, VirtualMTAs, rewriting.
		{"a pool without name", smallest + "[[pool]]\n", []string{"4: pool[0].name: missing, or the name of another one"}},
		{"two pools of one name", smallest + "[[pool]]\nname = \"a\"\n[[pool]]\nname = \"b\"\n[[pool]]\nname = \"a\"\n",
			[]string{"9: pool[2].name: missing, or the name of another one"}},
		{"a VirtualMTA without name", smallest + "[[virtual_mta]]\n", []string{"4: virtual_mta[0].name: missing, or the name of another one"}},
		{"two VirtualMTAs of one name", smallest + "[[virtual_mta]]\nname = \"a\"\n[[virtual_mta]]\nname = \"a\"\n",
			[]string{"7: virtual_mta[1].name: missing, or the name of another one"}},
		{"a VirtualMTA in a pool", smallest + "[[pool]]\nname = \"p\"\n[[virtual_mta]]\nname = \"a\"\npool = \"p\"\nsource_host = \"192.0.2.1\"\n", nil},
		{"a VirtualMTA in a pool that is none", smallest + "[[virtual_mta]]\nname = \"a\"\npool = \"p\"\nsource_host = \"h\"\n",
			[]string{`6: virtual_mta[0].pool: no [[pool]] is named "p"`, `7: virtual_mta[0].source_host: not an IP address, write for example "192.0.2.10"`}},
		{"rewriting", smallest + "[[relay.rewrite]]\nmail_from = \"*@*.example.com\"\nto = \"*@b.example.com\"\n", nil},
		{"rewriting to many domains", smallest + "[[relay.rewrite]]\nmail_from = \"*@a.example\"\nto = \"*@*.b.example\"\n",
			[]string{`6: relay.rewrite[0].to: not an address, write for example "*@bounces.example.com"`}},
		{"rewriting of nothing", smallest + "[[relay.rewrite]]\n", []string{`4: relay.rewrite[0].mail_from: not a pattern, write for example "*@example.com"`,
			`4: relay.rewrite[0].to: not an address, write for example "*@bounces.example.com"`}},

		// Tracking.
		{"a rule for nobody", smallest + "[[tracking.rule]]\n", []string{`4: tracking.rule[0].sender_or_from: missing; a domain, "*.domain" or "*"`}},
		{"a filter for nobody", smallest + "[[signals.filter]]\n", []string{`4: signals.filter[0].sender_or_from: missing; a domain, "*.domain" or "*"`}},
		{"no URL and opens", "hostname = \"mail.example.com\"\n[tracking]\nopen = true\ninitial_open = false\nclick = false\n",
			[]string{`2: tracking.url: missing; where recipients reach the tracker, for example "https://track.example.com"`}},
		{"no URL and initial opens", "hostname = \"mail.example.com\"\n[tracking]\nopen = false\ninitial_open = true\nclick = false\n", []string{`2: tracking.url: missing; where recipients reach the tracker, for example "https://track.example.com"`}},
		{"no URL and clicks", "hostname = \"mail.example.com\"\n[tracking]\nopen = false\ninitial_open = false\nclick = true\n", []string{`2: tracking.url: missing; where recipients reach the tracker, for example "https://track.example.com"`}},
		{"no URL and unsubscribing", "hostname = \"mail.example.com\"\n[tracking]\nopen = false\ninitial_open = false\nclick = false\nlist_unsubscribe = true\n", []string{`2: tracking.url: missing; where recipients reach the tracker, for example "https://track.example.com"`}},
		{"no URL and a rule", "hostname = \"mail.example.com\"\n[tracking]\nopen = false\ninitial_open = false\nclick = false\n" + rule, []string{`2: tracking.url: missing; where recipients reach the tracker, for example "https://track.example.com"`}},
		{"no URL and no tracking", "hostname = \"mail.example.com\"\n[tracking]\nopen = false\ninitial_open = false\nclick = false\n", nil},
		{"plain http to this machine", "hostname = \"mail.example.com\"\n[tracking]\nurl = \"http://127.0.0.1:8080\"\n", nil},
		{"plain http to localhost", "hostname = \"mail.example.com\"\n[tracking]\nurl = \"http://localhost:8080\"\n", nil},
		{"plain http to others", "hostname = \"mail.example.com\"\n[tracking]\nurl = \"http://t.example\"\n",
			[]string{"3: tracking.url: warning: links over plain http show mail programs' warnings; an https address is better"}},
		{"a file for apps that is none", smallest + "[tracking.web]\napple_app_site_association = \"nowhere\"\n",
			[]string{"5: tracking.web.apple_app_site_association: web: open nowhere: no such file or directory"}},

		// Logins at the upstream.
		{"logins at the upstream", upstreamAuth, []string{leftOver}},
		{"logins at the upstream, and our own", upstreamAuth + "[relay]\nusername = \"u\"\npassword = \"p\"\n", nil},
		{"logins over loopback of each kind", upstreamAuth + "[relay]\nupstream = [\"localhost:25\", \"[::1]:25\", \"127.9.9.9:25\"]\n", []string{leftOver}},
		{"logins over verified TLS", upstreamAuth + "[relay]\nupstream = [\"192.0.2.1:25\"]\ntls = \"required\"\n", []string{leftOver}},
		{"logins over what may be plain", upstreamAuth + "[relay]\nupstream = [\"127.0.0.1:25\", \"192.0.2.1:25\"]\n", []string{leftOver,
			`7: relay.upstream[1]: submission.auth = "upstream" would send clients' passwords to 192.0.2.1:25 without verified TLS; write relay.tls = "required"`}},
		{"queueing without logins at the upstream", smallest + "[relay]\nqueue = \"always\"\nupstream = [\"192.0.2.1:25\"]\n", nil},
		{"logins of mail that waits", upstreamAuth + "[relay]\nqueue = \"always\"\n", []string{leftOver,
			`7: relay.queue: "always" with submission.auth = "upstream": mail that waits could not go over its sender's own login`}},

		// ACME.
		{"ACME", acme(""), nil},
		{"ACME for no domain", acme("acme_domains = [\"\"]\n"), []string{`6: certs.acme_domains[0]: not a host name, write for example "mail.example.com"`}},
		{"ACME over http alone", acme("acme_tls_listen = \"\"\n"), nil},
		{"ACME over TLS alone", acme("acme_http_listen = \"\"\n"), nil},
		{"ACME over neither", acme("acme_http_listen = \"\"\nacme_tls_listen = \"\"\n"),
			[]string{"6: certs.acme_http_listen: one of acme_http_listen and acme_tls_listen has to answer challenges"}},
		{"ACME on one address", acme("acme_http_listen = \"0.0.0.0:443\"\n"), []string{"4: certs.acme_tls_listen: the same address as acme_http_listen, which speaks no TLS"}},
		{"ACME over https", acme("acme_directory = \"https://ca.example/\"\n"), nil},
		{"ACME over http", acme("acme_directory = \"http://ca.example/\"\n"),
			[]string{`6: certs.acme_directory: want an https address, for example "https://acme-v02.api.letsencrypt.org/directory"`}},
		{"ACME with a CA that is none", acme("acme_ca_file = \"users.toml\"\n"), []string{"6: certs.acme_ca_file: certs: users.toml: no PEM certificate"}},
		{"ACME with a CA", acme("acme_ca_file = \"fullchain.pem\"\n"), nil},
		{"ACME beside files", acme("cert_file = \"fullchain.pem\"\nkey_file = \"privkey.pem\"\n[[certs.pair]]\n"), []string{
			`6: certs.cert_file: warning: is not used: certs.mode is "acme"`, `7: certs.key_file: warning: is not used: certs.mode is "acme"`,
			`8: certs.pair: warning: is not used: certs.mode is "acme"`}},
		{"ACME and the tracker, both http", acme("[tracking.web]\nlisten = [\"0.0.0.0:80\"]\n"), nil},
		{"ACME and the tracker, both TLS", acme("[tracking.web]\nlisten = [\"0.0.0.0:443\"]\ntls = true\n"), nil},
		{"the tracker speaks TLS where ACME speaks http", acme("[tracking.web]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:80\"]\ntls = true\n"),
			[]string{"7: tracking.web.listen[1]: the tracker speaks the other of http and https there than ACME's challenge: give one of them another address"}},
		{"the tracker speaks http where ACME speaks TLS", acme("[tracking.web]\nlisten = [\"0.0.0.0:443\"]\n"),
			[]string{"7: tracking.web.listen[0]: the tracker speaks the other of http and https there than ACME's challenge: give one of them another address"}},
		{"self-signed beside files", smallest + "[certs]\nmode = \"self-signed\"\nkey_file = \"privkey.pem\"\n",
			[]string{`6: certs.key_file: warning: is not used: certs.mode is "self-signed"`}},
		{"a second certificate", smallest + "[[certs.pair]]\ncert_file = \"fullchain.pem\"\nkey_file = \"privkey.pem\"\n", nil},
		{"a second certificate that is missing", smallest + "[[certs.pair]]\ncert_file = \"nowhere.pem\"\nkey_file = \"privkey.pem\"\n",
			[]string{"5: certs.pair[0].cert_file: certs: open nowhere.pem: no such file or directory"}},
		{"a CA for the upstream", smallest + "[relay]\nca_file = \"fullchain.pem\"\n", nil},
		{"a CA for the upstream that is none", smallest + "[relay]\nca_file = \"users.toml\"\n", []string{"5: relay.ca_file: certs: users.toml: no PEM certificate"}},

		// Keys.
		{"a key without selector", smallest + "[[dkim.key]]\ndomain = \"a.example\"\nkey_file = \"s2026.example.com.pem\"\n",
			[]string{"4: dkim.key[0]: a key wants domain, selector and key_file"}},
		{"a key without domain", smallest + "[[dkim.key]]\nselector = \"a\"\nkey_file = \"s2026.example.com.pem\"\n",
			[]string{"4: dkim.key[0]: a key wants domain, selector and key_file"}},
		{"a key without file", smallest + "[[dkim.key]]\nselector = \"a\"\ndomain = \"a.example\"\n", []string{"4: dkim.key[0]: a key wants domain, selector and key_file"}},
		{"two keys, selectors in another case", smallest + "[[dkim.key]]\nselector = \"a\"\ndomain = \"a.example\"\nkey_file = \"s2026.example.com.pem\"\n" +
			"[[dkim.key]]\nselector = \"A\"\ndomain = \"A.example\"\nkey_file = \"s2026.example.com.pem\"\n",
			[]string{"9: dkim.key[1].selector: A.example has a key with selector A already"}},

		// Reports, accounting, uploads.
		{"VERP within the domains for bounces", smallest + "[relay]\nverp_domain = \"v.b.example\"\n[reports]\nbounce_domains = [\"a.example\", \"*.b.example\"]\n", nil},
		{"VERP without reports", smallest + "[relay]\nverp_domain = \"v.example\"\n", nil},
		{"VERP among complaints alone", smallest + "[relay]\nverp_domain = \"v.example\"\n[reports]\nfbl_domains = [\"v.example\"]\n",
			[]string{"5: relay.verp_domain: v.example is not among reports.bounce_domains: bounces to it would be refused"}},
		{"domains that are none", smallest + "[reports]\nbounce_domains = [\"\", \"*.\", \"a.*.example\", \"*.ok.example\"]\n", []string{
			`5: reports.bounce_domains[0]: "" is not a domain, write for example "bounces.example.com", or "*.example.com" for what is below`,
			`5: reports.bounce_domains[1]: "*." is not a domain, write for example "bounces.example.com", or "*.example.com" for what is below`,
			`5: reports.bounce_domains[2]: "a.*.example" is not a domain, write for example "bounces.example.com", or "*.example.com" for what is below`}},
		{"every bounce class", smallest + "[accounting.bounce_class]\na = 1\nb = 10\nc = 20\nd = 25\ne = 30\nf = 40\ng = 50\nh = 54\ni = 60\nj = 70\nk = 80\nl = 90\nm = 100\n", nil},
		{"a bounce class that is none", smallest + "[accounting.bounce_class]\na = 26\n", []string{
			"5: accounting.bounce_class.a: 26 is not a bounce class, which are 1, 10, 20 to 25, 30, 40, 50 to 54, 60, 70, 80, 90 and 100"}},
		{"a pattern that is none", smallest + "[accounting]\nfiles = [\"postern.toml\", \"[\"]\n", []string{"5: accounting.files[1]: syntax error in pattern"}},
		{"a pattern that nothing matches", smallest + "[accounting]\nfiles = [\"*.csv\", \"*.toml\"]\n", []string{"5: accounting.files[0]: warning: no file matches *.csv yet"}},
		{"uploads without a key", smallest + "[signals]\nenabled = true\n", []string{"4: signals.api_key: missing; signals.enabled wants the API key, 40 hex digits"}},
		{"uploads with a key", smallest + "[signals]\nenabled = true\napi_key = \"" + key40 + "\"\n", nil},
		{"a key without uploads", smallest + "[signals]\napi_key = \"" + key40 + "\"\n",
			[]string{"5: signals.api_key: warning: signals.enabled is false: events are kept, and none is uploaded"}},

		// Sockets.
		{"one socket for two", smallest + "[accounting]\npipe_socket = \"/var/lib/postern/admin.sock\"\n",
			[]string{"5: accounting.pipe_socket: /var/lib/postern/admin.sock is admin.socket already"}},
		{"a group for a socket", smallest + "[admin]\nsocket_group = \"root\"\n", nil},
		{"a group for no socket", smallest + "[admin]\nsocket = \"\"\nsocket_group = \"root\"\n", []string{`6: admin.socket_group: warning: has no effect: admin.socket is ""`}},
		{"no socket", smallest + "[admin]\nsocket = \"\"\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := problemsOf(t, All, c.text, nil)
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestATrackerIsHeldToLess: what a tracker does not run is not asked for.
func TestATrackerIsHeldToLess(t *testing.T) {
	bad := smallest + `[submission]
listen = []
max_recipients = 0
[relay]
upstream = []
[[pool]]
[[dkim.key]]
[reports]
bounce_domains = ["*"]
[certs]
mode = "nothing"
`
	if got := problemsOf(t, Tracker, bad, map[string]string{"users.toml": "not TOML"}); len(got) != 0 {
		t.Errorf("got %q, want nothing", got)
	}
	got := problemsOf(t, Tracker, smallest+"[tracking.web]\nlisten = []\n", nil)
	if want := `5: tracking.web.listen: is empty, write for example ["0.0.0.0:8080"]`; len(got) != 1 || got[0] != want {
		t.Errorf("a tracker that does not listen: got %q, want %q", got, want)
	}
	if got := problemsOf(t, All, smallest+"[tracking.web]\nlisten = []\n", nil); len(got) != 0 {
		t.Errorf("a gateway whose trackers are elsewhere: got %q, want nothing", got)
	}
	got = problemsOf(t, Tracker, smallest+"[tracking.web]\ntls = true\n[certs]\nmode = \"nothing\"\n", nil)
	if want := `7: certs.mode: want one of files, acme, self-signed, not "nothing"`; len(got) != 1 || got[0] != want {
		t.Errorf("a tracker with TLS: got %q, want %q", got, want)
	}
}
