package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/certs"
	"postern/dkim"
	"postern/tracking/token"
	"postern/tracking/web"
)

func noEnv(string) string { return "" }

// folderFiles are the files that configurations name, by name. They are made
// once, for keys and hashes take their time.
var folderFiles = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "postern-config-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	if _, err := token.AddKey(filepath.Join(dir, "token.keys"), time.Now()); err != nil {
		return nil, err
	}
	if _, err := certs.SelfSigned(dir, "mail.example.com", time.Now()); err != nil {
		return nil, err
	}
	_, key, err := dkim.Generate("ed25519")
	if err != nil {
		return nil, err
	}

	out := map[string][]byte{
		"s2026.example.com.pem": key,
		"users.toml":            []byte("[[user]]\nname = \"a\"\npassword = \"" + hash + "\"\n"),
		"api.key":               []byte(strings.Repeat("ab", 20) + "\n"),
	}
	for from, to := range map[string]string{
		"token.keys":      "token.keys",
		"self-signed.crt": "fullchain.pem",
		"self-signed.key": "privkey.pem",
	} {
		if out[to], err = os.ReadFile(filepath.Join(dir, from)); err != nil {
			return nil, err
		}
	}

	return out, nil
})

// folder makes a folder with the files that configurations name.
func folder(t *testing.T) string {
	t.Helper()
	files, err := folderFiles()
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t *testing.T, dir, text string) string {
	t.Helper()
	file := filepath.Join(dir, "postern.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const smallest = "hostname = \"mail.example.com\"\n[tracking]\nurl = \"https://t.example.com\"\n"

// TestExample loads the annotated example, with the files that it names.
func TestExample(t *testing.T) {
	dir := folder(t)
	data, err := os.ReadFile("../example/postern.toml")
	if err != nil {
		t.Fatal(err)
	}
	l, problems := load(write(t, dir, string(data)), All, noEnv)
	for _, p := range problems {
		t.Errorf("%v", p)
	}
	if l.Hostname != "mail.example.com" || l.Submission.MaxMessageSize != 50<<20 || l.Tracking.LinkExpiry.Std() != 365*24*time.Hour {
		t.Errorf("read as %+v", l.Config)
	}
}

// TestDocuments loads the configurations that the documents show.
func TestDocuments(t *testing.T) {
	for _, doc := range []string{"../../../README.md", "../POWERMTA.md"} {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		_, text, ok := strings.Cut(string(data), "```toml\n")
		if !ok {
			t.Fatalf("%s shows no configuration", doc)
		}
		text, _, _ = strings.Cut(text, "```")
		if _, problems := load(write(t, folder(t), text), All, noEnv); len(problems.Fatal()) > 0 {
			t.Errorf("%s: %v", doc, problems.Fatal())
		}
	}
}

func TestUsersExample(t *testing.T) {
	data, err := os.ReadFile("../example/users.toml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.toml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}

	users, problems := LoadUsers(file, noEnv)
	if len(users) != 1 || users[0].Name != "SMTP_Injection" || !users[0].Tracking || users[0].Job != "transactional" {
		t.Errorf("got %+v", users)
	}
	if len(problems) != 1 || problems[0].Key != "user[0].password" || problems[0].Line != 4 {
		t.Errorf("the placeholder of a hash should be the one problem: %v", problems)
	}
}

// TestRoles: a tracker's configuration need not name what it does not run.
func TestRoles(t *testing.T) {
	dir := t.TempDir()
	if _, err := token.AddKey(filepath.Join(dir, "token.keys"), time.Now()); err != nil {
		t.Fatal(err)
	}
	file := write(t, dir, smallest)
	if _, problems := load(file, Tracker, noEnv); len(problems) > 0 {
		t.Errorf("tracker: %v", problems)
	}
	if _, problems := load(file, All, noEnv); len(problems) == 0 {
		t.Error("all: nothing is missing")
	}
	if _, problems := load(write(t, dir, smallest+"[tracking.web]\ntls = true\n"), Tracker, noEnv); len(problems) != 1 || problems[0].Key != "certs.cert_file" {
		t.Errorf("tracker with TLS: %v", problems)
	}
}

// TestNames: what certificates are obtained for.
func TestNames(t *testing.T) {
	c := Default()
	c.Hostname, c.Tracking.URL = "mail.example.com", "https://track.example.com"
	c.Tracking.Rules = []TrackingRule{{URL: "https://click.customer.example"}, {URL: "http://plain.example"}, {}}
	for _, s := range []struct {
		name    string
		domains []Host
		tls     bool
		want    string
	}{
		{"hostname", nil, false, "[mail.example.com]"},
		{"named", []Host{"a.example", "b.example"}, false, "[a.example b.example]"},
		{"with the tracker's", []Host{"a.example"}, true, "[a.example track.example.com click.customer.example]"},
	} {
		c.Certs.ACMEDomains, c.Tracking.Web.TLS = s.domains, s.tls
		if got := fmt.Sprint(c.Names()); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	l, problems := load(write(t, folder(t), smallest), All, noEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(l.Users) != 1 || l.Users[0].Name != "a" {
		t.Errorf("users %+v", l.Users)
	}
	if !filepath.IsAbs(l.Tracking.KeyFile) || l.Relay.Upstream[0] != "127.0.0.1:2525" {
		t.Errorf("read as %+v", l.Config)
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // line: key: words
	}{
		{"unknown key with a hint", smallest + "[log]\nlevl = \"info\"\n", []string{"5: log.levl: unknown key, did you mean level?"}},
		{"unknown table", smallest + "[nonsense]\na = 1\n", []string{"4: nonsense: unknown key"}},
		{"bad enum", smallest + "[log]\nlevel = \"loud\"\n", []string{`5: log.level: want one of debug, info, warn, error, not "loud"`}},
		{"bad size", smallest + "[submission]\nmax_message_size = \"big\"\n", []string{`5: submission.max_message_size: not a size, write for example "50MiB"`}},
		{"bad type", smallest + "[submission]\nmax_recipients = \"many\"\n", []string{`5: submission.max_recipients: want a whole number from 0 on, not the string "many"`}},
		{"bad duration", smallest + "[signals]\nbatch_age = \"soon\"\n", []string{`5: signals.batch_age: not a duration`}},
		{"bad api key", smallest + "[signals]\napi_key = \"123\"\n", []string{`5: signals.api_key: an API key has exactly 40 hex digits`}},
		{"signals without a key", smallest + "[signals]\nenabled = true\n", []string{`4: signals.api_key: missing`}},
		{"batch over the API's limit", smallest + "[signals]\nbatch_size = \"6MB\"\n", []string{`5: signals.batch_size: want from`}},
		{"bad address", smallest + "[relay]\nupstream = [\n  \"127.0.0.1\",\n]\n", []string{`5: relay.upstream[0]: not an address`}},
		{"bad report domain", smallest + "[reports]\nbounce_domains = [\"*\"]\nfbl_domains = [\"a b\"]\n", []string{`5: reports.bounce_domains[0]: "*" is not a domain`, `6: reports.fbl_domains[0]: "a b" is not a domain`}},
		{"ACME without a way to answer", smallest + "[certs]\nmode = \"acme\"\nacme_http_listen = \"\"\nacme_tls_listen = \"\"\n", []string{"6: certs.acme_http_listen: one of"}},
		{"ACME where the tracker speaks http", smallest + "[tracking.web]\nlisten = [\"0.0.0.0:443\"]\n[certs]\nmode = \"acme\"\n", []string{"5: tracking.web.listen[0]: the tracker speaks the other"}},
		{"ACME directory without TLS", smallest + "[certs]\nmode = \"acme\"\nacme_directory = \"http://x.example/\"\nacme_ca_file = \"nowhere\"\n", []string{"6: certs.acme_directory: want an https", "7: certs.acme_ca_file: certs: open"}},
		{"passwords upstream in plain", smallest + "[submission]\nauth = \"upstream\"\n[relay]\nupstream = [\n  \"127.0.0.1:25\",\n  \"192.0.2.1:25\",\n]\n", []string{`7: relay.upstream[1]: submission.auth = "upstream" would send`}},
		{"store and forward with logins upstream", smallest + "[submission]\nauth = \"upstream\"\n[relay]\nqueue = \"always\"\n", []string{`7: relay.queue: "always" with`}},
		{"no geoip_db, no well-known file", smallest + "[tracking.web]\ngeoip_db = \"x.mmdb\"\nassetlinks = \"x.json\"\nip_privacy = \"some\"\n", []string{"5: tracking.web.geoip_db: web: geo:", "6: tracking.web.assetlinks: web: open", "7: tracking.web.ip_privacy: want one of"}},
		{"machines", smallest + "[signals]\nprefetch = \"hide\"\n", []string{`5: signals.prefetch: want one of mark, drop, person, not "hide"`}},
		{"VERP leads elsewhere", smallest + "[relay]\nverp_domain = \"b.example\"\n[reports]\nbounce_domains = [\"*.b.example\"]\n", []string{"5: relay.verp_domain: b.example is not among reports.bounce_domains"}},
		{
			"port 25 without memory for a message",
			smallest + "[reports]\nbounce_domains = [\"b.example\"]\nmemory_budget = \"39MiB\"\n",
			[]string{"6: reports.memory_budget: less than four times reports.max_message_size"},
		},
		{
			"no time and no size for a message",
			smallest + "[submission]\nmessage_timeout = \"0s\"\n[reports]\nbounce_domains = [\"b.example\"]\nmax_message_size = 0\n",
			[]string{"5: submission.message_timeout: must be greater than zero", "8: reports.max_message_size: must be greater than zero"},
		},
		{
			"default user without upstream logins",
			smallest + "[submission]\ndefault_user = \"A\"\n",
			[]string{"5: submission.default_user: has a meaning with submission.auth"},
		},
		{
			"default user that is not there",
			smallest + "[submission]\nauth = \"upstream\"\ndefault_user = \"b\"\n",
			[]string{`6: submission.default_user: no user "b" in the users file`},
		},
		{
			"default user in another case",
			smallest + "[submission]\nauth = \"upstream\"\ndefault_user = \"A\"\n[[submission.source]]\nnetwork = \"10.0.0.0/8\"\nrequire_auth = false\nuser = \"A\"\n",
			nil,
		},
		{"syntax", "hostname = \n", []string{"1: "}},
		{"twice", "hostname = \"a\"\nhostname = \"b\"\n", []string{"2: "}},
		{"missing hostname and url", "[log]\nlevel = \"info\"\n", []string{"1: hostname: missing", "1: tracking.url: missing"}},
		{"no certificate", smallest + "[certs]\ncert_file = \"nowhere.pem\"\n", []string{"5: certs.cert_file: open "}},
		{"no token keys", smallest + "key_file = \"nowhere\"\n", []string{"4: tracking.key_file: token: read keys"}},
		{"no DKIM key", smallest + "[[dkim.key]]\ndomain = \"a.example\"\nselector = \"s\"\nkey_file = \"nowhere.pem\"\n", []string{"7: dkim.key[0].key_file: dkim: read key"}},
		{"all at once", "hostnam = \"x\"\n[log]\nlevel = 3\nformat = \"xml\"\n[tracking]\nurl = \"ftp://x\"\n",
			[]string{"1: hostnam: unknown key, did you mean hostname?", "1: hostname: missing", "3: log.level: want a string, not 3", `4: log.format: want one of`, "6: tracking.url: not an address of the web"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := write(t, folder(t), c.text)
			_, problems := load(file, All, noEnv)
			fatal := problems.Fatal()
			for i, want := range c.want {
				if i >= len(fatal) {
					t.Errorf("missing: %s", want)
					continue
				}
				if got := fatal[i].Error(); !strings.HasPrefix(got, file+":"+want) {
					t.Errorf("got  %s\nwant %s:%s", got, file, want)
				}
			}
			for _, p := range fatal[min(len(c.want), len(fatal)):] {
				if !strings.Contains(p.Reason, "missing") {
					t.Errorf("besides: %v", p)
				}
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	key := strings.Repeat("ab", 20)
	for _, c := range []struct {
		name, text string
		env        map[string]string
		want, bad  string
	}{
		{name: "in place", text: "api_key = \"" + key + "\"", want: key},
		{name: "in a file", text: "api_key_file = \"api.key\"", want: key},
		{name: "in the environment", env: map[string]string{"POSTERN_SIGNALS_API_KEY": key}, want: key},
		{name: "both", text: "api_key = \"" + key + "\"\napi_key_file = \"api.key\"", bad: "is given already"},
		{name: "no string, and not shown", text: "api_key = 31415926", bad: "signals.api_key: want a string"},
		{name: "no such file", text: "api_key_file = \"nowhere\"", bad: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, problems := load(write(t, folder(t), smallest+"[signals]\nenabled = true\n"+c.text+"\n"), All, func(k string) string { return c.env[k] })
			if c.bad == "" && (len(problems) > 0 || string(l.Signals.APIKey) != c.want) {
				t.Errorf("got %q, %v", l.Signals.APIKey, problems)
			}
			if c.bad != "" && (!strings.Contains(problems.Error(), c.bad) || strings.Contains(problems.Error(), "31415926")) {
				t.Errorf("got %v, want %s", problems, c.bad)
			}
		})
	}
}

func TestUserNames(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"in another case", "[[user]]\nname = \"Ann\"\n\n[[user]]\nname = \"aNN\"\n", `5: user[1].name: there is another user of this name in line 2, "aNN"`},
		{"control character", "[[user]]\nname = \"a\\u0007\"\n", "2: user[0].name: must not hold control characters"},
		{"subaccount", "[[user]]\nname = \"a:x-msys-subaccount=1\"\n", "2: user[0].name: must not hold :X-MSYS-SUBACCOUNT="},
		{"empty", "[[user]]\nname = \"\"\n", "2: user[0].name: missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "users.toml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, problems := LoadUsers(file, noEnv)
			if fatal := problems.Fatal(); len(fatal) != 1 || !strings.HasPrefix(fatal[0].Error(), file+":"+c.want) {
				t.Errorf("got %v, want %s", fatal, c.want)
			}
		})
	}
}

// TestUnlistedLoginsAreExplained: what check says of logins that the users file
// does not list.
func TestUnlistedLoginsAreExplained(t *testing.T) {
	const users = `
[[user]]
name = "a"
from_domains = ["a.example"]
[[user]]
name = "free"
`
	for _, c := range []struct{ name, line, want string }{
		{"no default", "", "warning: not set, and the users file holds users to from_domains"},
		{"a default that is held", `default_user = "a"`, ""},
		{"a default that is not held", `default_user = "Free"`, "warning: Free has no from_domains"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t)
			if err := os.WriteFile(filepath.Join(dir, "users.toml"), []byte(users), 0o600); err != nil {
				t.Fatal(err)
			}
			file := write(t, dir, smallest+"[submission]\nauth = \"upstream\"\n"+c.line+"\n")
			_, problems := load(file, All, noEnv)
			got := strings.Contains(problems.Error(), "submission.default_user: ")
			if len(problems.Fatal()) > 0 || got != (c.want != "") || !strings.Contains(problems.Error(), c.want) {
				t.Errorf("got %v, want %q", problems, c.want)
			}
		})
	}
}

// TestMissingUsersFileIsExplained where the upstream decides about passwords and
// nothing else says that the file is not there.
func TestMissingUsersFileIsExplained(t *testing.T) {
	dir := folder(t)
	upstream := smallest + "[submission]\nauth = \"upstream\"\n"
	if err := os.Remove(filepath.Join(dir, "users.toml")); err != nil {
		t.Fatal(err)
	}
	const want = "submission.users_file: warning: "
	if _, problems := load(write(t, dir, upstream), All, noEnv); strings.Contains(problems.Error(), want) {
		t.Errorf("not named: %v", problems)
	}
	_, problems := load(write(t, dir, upstream+"users_file = \"users.toml\"\n"), All, noEnv)
	if !strings.Contains(problems.Error(), ":6: "+want) || len(problems.Fatal()) > 0 {
		t.Errorf("named: got %v, want a warning in line 6", problems)
	}
}

func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("../example/postern.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add(smallest)
	f.Add("[[relay.rewrite]]\n[relay.rewrite.x]\n")
	f.Add("a.b.c = {x = 1}\n[accounting.bounce_class]\n\"a\" = \"b\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		b := newBinder("x.toml", noEnv)
		c := Default()
		b.bind([]byte(text), c)
		for _, p := range b.problems {
			if p.Line < 1 || p.Line > strings.Count(text, "\n")+1 {
				t.Errorf("line %d of %d: %v", p.Line, strings.Count(text, "\n")+1, p)
			}
		}
	})
}

func TestWarnings(t *testing.T) {
	key := strings.Repeat("ab", 20)
	for _, c := range []struct{ name, text, want string }{
		{"a key and no uploads", smallest + "[signals]\napi_key = \"" + key + "\"\n", "signals.enabled is false"},
		{"a key that is no longer read", smallest + "[tracking.web]\nevents_per_client = \"6000/min\"\n", "has no effect any more"},
		{"such a key with a bad value", smallest + "[tracking.web]\nevents_per_client = [1]\n", "has no effect any more"},
		{"links over plain http", "hostname = \"mail.example.com\"\n[tracking]\nurl = \"http://t.example.com\"\n", "an https address is better"},
	} {
		_, problems := load(write(t, folder(t), c.text), All, noEnv)
		if len(problems) != 1 || !problems[0].Warn || !strings.Contains(problems[0].Reason, c.want) || len(problems.Fatal()) != 0 {
			t.Errorf("%s: %v", c.name, problems)
		}
	}
	if _, problems := load(write(t, folder(t), "hostname = \"mail.example.com\"\n[tracking]\nopen = false\ninitial_open = false\nclick = false\n"), All, noEnv); len(problems) != 0 {
		t.Errorf("no tracking and no url: %v", problems)
	}
}

func TestFormerHosts(t *testing.T) {
	const rule = "[[tracking.rule]]\nsender_or_from = \"a.example\"\nurl = \"https://a.example\"\n"
	for _, c := range []struct{ name, text, want string }{
		{"of [tracking]", smallest + "former = [\"Old.example\"]\n", ""},
		{"of a rule", smallest + rule + "former = [\"old.a.example\", \"older.a.example\"]\n", ""},
		{"of a rule without a URL, and of [tracking]", smallest + "former = [\"old.example\"]\n[[tracking.rule]]\nsender_or_from = \"*\"\nformer = [\"old.example\"]\n", ""},
		{"of two rules with one host", smallest + rule + "former = [\"old.example\"]\n" + strings.Replace(rule, "https://a.example", "http://A.example:81", 1) + "former = [\"old.example\"]\n", ""},
		{"the present one", smallest + "former = [\"t.example.com\"]\n", ""},
		{"of two rules", smallest + "former = [\"old.example\"]\n" + rule + "former = [\"OLD.example\"]\n", ":8: tracking.rule[0].former[0]: "},
		{"another rule's present one", smallest + "former = [\"a.example\"]\n" + rule, ":4: tracking.former[0]: "},
		{"a URL", smallest + "former = [\"https://old.example\"]\n", ":4: tracking.former[0]: not a host name"},
		{"no host", "hostname = \"mail.example.com\"\n[tracking]\nurl = \"https://a,b\"\n", ":3: tracking.url: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := load(write(t, folder(t), c.text), All, noEnv)
			fatal := problems.Fatal()
			if c.want == "" && len(fatal) != 0 || c.want != "" && (len(fatal) != 1 || !strings.Contains(fatal[0].Error(), c.want)) {
				t.Errorf("got %v, want one with %q", problems, c.want)
			}
		})
	}
}

// TestSites joins the hosts of [tracking] and its rules.
func TestSites(t *testing.T) {
	tr := Tracking{
		URL:    "https://T.example:8443/x",
		Former: []Host{"Old.example"},
		Rules: []TrackingRule{
			{URL: "https://bücher.example", Former: []Host{"älter.example"}},
			{Former: []Host{"older.example", "old.example"}},
			{URL: "http://t.example", Former: []Host{"oldest.example"}},
		},
	}
	want := []web.Site{
		{Host: "t.example", Former: []string{"old.example", "older.example", "oldest.example"}},
		{Host: "xn--bcher-kva.example", Former: []string{"xn--lter-koa.example"}},
	}
	if got := tr.Sites(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPrefix(t *testing.T) {
	for _, c := range []struct{ in, want, problem string }{
		{in: "10.1.0.0/16", want: "10.1.0.0/16"},
		{in: "10.1.2.3", want: "10.1.2.3/32"},
		{in: "2001:db8::/32", want: "2001:db8::/32"},
		{in: "::ffff:10.1.0.0/112", want: "10.1.0.0/16"},
		{in: "::ffff:10.1.2.3", want: "10.1.2.3/32"},
		{in: "::ffff:0:0/96", want: "0.0.0.0/0"},
		{in: "::/0", want: "::/0"},
		{in: "fe80::1%eth0", problem: `fe80::1%eth0 names an interface, which a network has not: write "fe80::1"`},
		{in: "10.1.0.1/16", problem: "10.1.0.1/16 names an address within a network: " +
			`write "10.1.0.0/16" for the network, or "10.1.0.1" for the address`},
		{in: "here", problem: `not a network, write for example "10.1.0.0/16"`},
	} {
		t.Run(c.in, func(t *testing.T) {
			var p Prefix
			problem := ""
			if err := p.parse(c.in); err != nil {
				problem = err.Error()
			}
			if problem != c.problem {
				t.Fatalf("problem %q, want %q", problem, c.problem)
			}
			if got := netip.Prefix(p).String(); problem == "" && got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestSourceThatIsNotANetworkIsNotAnOpenRelay: a value that cannot be read is
// one problem, and nothing is said of what it would mean.
func TestSourceThatIsNotANetworkIsNotAnOpenRelay(t *testing.T) {
	for network, want := range map[string]int{"10.1.2.*": 1, "fe80::1%eth0": 1, "0.0.0.0/0": 1, "10.1.0.0/16": 0} {
		t.Run(network, func(t *testing.T) {
			dir := folder(t)
			putFile(t, dir, "users.toml", "[[user]]\nname = \"a\"\n")
			putFile(t, dir, "postern.toml", with("[[submission.source]]\nnetwork = \""+network+
				"\"\nrequire_auth = false\nuser = \"a\"\n"))

			_, problems := load(filepath.Join(dir, "postern.toml"), All, noEnv)
			var got []string
			for _, p := range problems {
				if strings.HasPrefix(p.Key, "submission.source") {
					got = append(got, p.Error())
				}
			}
			if len(got) != want {
				t.Errorf("%d problems, want %d: %q", len(got), want, got)
			}
		})
	}
}
