package gateway

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/config"
	"postern/dkim"
	"postern/smtpd/auth"
)

// compareGolden holds a text to a file of testdata.
func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", golden, got, want)
	}
}

// describe writes what a struct holds, a line a field: values as they are, and
// of what cannot be written whether it is there. Zero fields are left out.
func describe(b *strings.Builder, name string, v reflect.Value) {
	if v.IsZero() && v.Kind() != reflect.Bool {
		return
	}
	if v.Type().Implements(reflect.TypeFor[fmt.Stringer]()) && v.Type().PkgPath() != "" && v.CanInterface() {
		fmt.Fprintf(b, "%s = %v\n", name, v.Interface())
		return
	}

	switch v.Kind() {
	case reflect.Struct:
		if strings.HasPrefix(v.Type().PkgPath(), "crypto/") {
			fmt.Fprintf(b, "%s is set\n", name)
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				describe(b, name+"."+f.Name, v.Field(i))
			}
		}
	case reflect.Slice:
		if text, ok := v.Interface().([]byte); ok {
			fmt.Fprintf(b, "%s = %s\n", name, text)
			return
		}
		for i := range v.Len() {
			describe(b, fmt.Sprintf("%s[%d]", name, i), v.Index(i))
		}
	case reflect.Map:
		var keys []string
		for _, k := range v.MapKeys() {
			keys = append(keys, fmt.Sprint(k))
		}
		slices.Sort(keys)
		for _, k := range keys {
			for _, key := range v.MapKeys() {
				if fmt.Sprint(key) == k {
					describe(b, name+"["+k+"]", v.MapIndex(key))
				}
			}
		}
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Bool {
			describe(b, name, v.Elem())
			return
		}
		fmt.Fprintf(b, "%s is set\n", name)
	case reflect.Func, reflect.Interface, reflect.Chan:
		fmt.Fprintf(b, "%s is set\n", name)
	default:
		fmt.Fprintf(b, "%s = %v\n", name, v.Interface())
	}
}

// everyKey is a configuration that gives every key that a part is told of a
// value of its own, none of them a default.
const everyKey = `
hostname = "gw.example"
memory_budget = "77MiB"
shutdown_grace = "2s"

[submission]
listen = ["127.0.0.1:0"]
listen_tls = ["127.0.0.1:0"]
require_tls = false
auth_failure_rate = "7/h"
max_message_size = "3MiB"
max_recipients = 77
max_connections = 11
max_connections_per_source = 4
idle_timeout = "31s"
message_timeout = "32s"
proxy_protocol_from = ["10.7.0.0/16", "192.0.2.1"]
received_header = "anonymous"
bare_newlines = "normalise"
[[submission.source]]
network = "10.1.0.0/16"
require_auth = false
user = "app"
[[submission.source]]
network = "10.2.0.0/16"

[certs]
mode = "self-signed"
min_version = "1.3"

[relay]
upstream = ["127.0.0.1:1", "127.0.0.1:2"]
upstream_kind = "other"
tls = "required"
ca_file = "ca.pem"
username = "u"
password = "p"
max_connections = 5
max_messages_per_connection = 6
queue = "always"
answer_within = "33s"
convert_8bit = true
retry_after = ["2m", "3m"]
bounce_after = "34h"
message_id_header = "X-My-Id"
virtual_mta_header = "X-My-VMTA"
job_header = "X-My-Job"
subaccount_header = "X-My-Sub"
msys_api = false
verp_domain = "v.b.example"
timeouts = { connect = "1s", greeting = "2s", command = "3s", data = "4s", final_dot = "5s" }
[[relay.rewrite]]
mail_from = "*@a.example"
to = "*@b.example"

[[pool]]
name = "p1"
enable_signals = "filter"
subaccount = 21
[[virtual_mta]]
name = "v1"
pool = "p1"
source_host = "192.0.2.10"
enable_signals = false
subaccount = 22

[tracking]
url = "https://t.example"
open = false
initial_open = true
click = false
text_links = true
link_expiry = "35h"
max_link_length = 300
list_unsubscribe = true
former = ["old.example"]
[[tracking.rule]]
sender_or_from = "*.c.example"
url = "https://c.example"
open = true
initial_open = false
click = true
former = ["oldc.example"]

[tracking.web]
listen = ["127.0.0.1:0"]
trusted_proxies = ["10.8.0.0/16"]
max_connections = 12
expired_url = "https://e.example"
ip_privacy = "truncate"
apple_app_site_association = "apple.json"
assetlinks = "links.json"

[dkim]
require = true
expire = "36d"
rsa = "go"
[[dkim.key]]
domain = "example.com"
selector = "s1"
key_file = "dkim.pem"
not_before = "2026-01-02"
not_after = "2099-01-02"
successor = "s2"
[[dkim.key]]
domain = "example.com"
selector = "s2"
key_file = "dkim.pem"

[reports]
listen = ["127.0.0.1:0"]
bounce_domains = ["*.b.example", "b.example"]
fbl_domains = ["f.example"]
memory_budget = "99MiB"
max_message_size = "2MiB"
keep = "kept"

[accounting]
files = ["acct*.csv"]
pipe_dir = "dropped"
[accounting.bounce_class]
house = 51

[events]
keep = "37h"

[signals]
enabled = true
api_key = "abababababababababababababababababababab"
upload_url = "http://127.0.0.1:1/upload"
enable_signals = false
subaccount = 23
report = ["bounce", "click"]
log_verbose = true
min_free_space = "1MiB"
privacy_policy = "sha1"
batch_size = "2MiB"
batch_age = "38s"
keep_ledger = "39h"
poll_outcomes = true
prefetch = "drop"
scanner = "person"
[[signals.filter]]
sender_or_from = "f.example"
enable = true
subaccount = 24

[admin]
listen = "127.0.0.1:0"
`

// writeEveryKey makes a folder for everyKey and returns the configuration file.
func writeEveryKey(t *testing.T) string {
	t.Helper()
	file := writeConfig(t, "")
	dir := filepath.Dir(file)
	key, pem, err := dkim.Generate("ed25519")
	if err != nil || key == nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "dkim.pem", string(pem))
	writeFile(t, dir, "ca.pem", testCA)
	writeFile(t, dir, "apple.json", `{"applinks":{}}`)
	writeFile(t, dir, "links.json", `[]`)

	return writeFile(t, dir, "postern.toml", fmt.Sprintf("state_dir = %q\n%s", filepath.Join(dir, "state"), everyKey))
}

// testCA is a certificate, made for this test and used nowhere.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUf8mgXHCGmhu3yKr/hTlPLlRY2JQwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGQSB0ZXN0MCAXDTI2MTEyNDIwNDEyOVoYDzIxMjYxMDMxMjA0
MTI5WjARMQ8wDQYDVQQDDAZBIHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AASlklXa1CH4XuahiZzAhyLWx0PDEhXKMrAAQKBzO+kP/viGzEc+Va+/TyxIQBom
rzxN54G/ov+k5SOyMM18FJ32o1MwUTAdBgNVHQ4EFgQUZFdD4dA/l7Agdn0gWrf9
u/gfKE4wHwYDVR0jBBgwFoAUZFdD4dA/l7Agdn0gWrf9u/gfKE4wDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBev6Sjuuo3ZVDvddv0Bv6kNWH0YGTM
IGrX2KQ5iA8T9gIhALao3CoQKS3RypcgZabMF6s7YpXUXu7gEJibq0egJ8WA
-----END CERTIFICATE-----
`

// TestEveryKeyReachesItsPart holds what each part is told with a configuration
// that gives every key a value of its own.
func TestEveryKeyReachesItsPart(t *testing.T) {
	g, _ := startGateway(t, writeEveryKey(t))
	n := g.current.Load()
	m, tr := partOf[*mail](t, g), partOf[*tracker](t, g)
	dir := filepath.Dir(g.cfg.File)
	g.connections.Reports = 13 // which follows submission.max_connections

	relayConfig := m.relayConfig(n, m.live.Load().pool, dkim.NewSigner(nil))
	webConfig, err := tr.webConfig(n)
	if err != nil {
		t.Fatal(err)
	}
	ingestConfig, err := g.ingestConfig()
	if err != nil {
		t.Fatal(err)
	}
	queueConfig, err := m.queueConfig()
	if err != nil {
		t.Fatal(err)
	}
	spoolConfig, err := g.spoolConfig()
	if err != nil {
		t.Fatal(err)
	}
	upstreamConfig, err := UpstreamConfig(g.cfg)
	if err != nil {
		t.Fatal(err)
	}

	var b strings.Builder
	for _, part := range []struct {
		name   string
		config any
	}{
		{"submission", m.submissionConfig()},
		{"submission policy", m.submissionPolicy()},
		{"reports", m.reportsConfig()},
		{"relay", relayConfig},
		{"upstream", upstreamConfig},
		{"web", webConfig},
		{"ingest", ingestConfig},
		{"ingest.Sink", reflect.ValueOf(ingestConfig.Sink).Elem().Interface()},
		{"accounting", g.accountingConfig(m.events)},
		{"queue", queueConfig},
		{"spool", spoolConfig},
		{"users", userEntries([]config.User{{
			Name:        "n",
			Password:    "p",
			VirtualMTA:  "v",
			Job:         "j",
			JobPrefix:   "jp",
			Subaccount:  3,
			FromDomains: []string{"f"},
			Tracking:    true,
			DKIMKey:     "k",
		}, {
			Name: "m",
		}})},
		{"connections", g.connections},
	} {
		describe(&b, part.name, reflect.ValueOf(part.config))
		b.WriteString("\n")
	}
	compareGolden(t, "parts.golden", strings.ReplaceAll(b.String(), dir+"/", ""))

	if got := heldBy(g, m); got != "" {
		t.Error(got)
	}
}

// heldBy says what of the parts that are shared is another than it should be.
func heldBy(g *Gateway, m *mail) string {
	var out []string
	note := func(ok bool, what string) {
		if !ok {
			out = append(out, what)
		}
	}
	s, r := m.submissionConfig(), m.reportsConfig()
	note(s.Budget == m.budget, "submission has another budget than what is retried")
	note(r.Budget != m.budget, "reports have the budget of submission")
	q, err := m.queueConfig()
	note(err == nil && q.Budget == m.budget, "the retry spool has another budget than submission")
	note(m.submissionPolicy().Auth == auth.Authenticator(m.users), "submission asks others than the users file")
	i, err := g.ingestConfig()
	note(err == nil && i.Disk == q.Disk, "two spools of one file system count its room apart")

	return strings.Join(out, "\n")
}

// TestOtherKeysReachTheirPart: the other word of each choice.
func TestOtherKeysReachTheirPart(t *testing.T) {
	file := writeConfig(t, "")
	g, _ := startGateway(t, file)
	n := g.current.Load()
	m, tr := partOf[*mail](t, g), partOf[*tracker](t, g)
	relayConfig := m.relayConfig(n, m.live.Load().pool, dkim.NewSigner(nil))

	if c := m.submissionConfig(); c.NormaliseLF || len(c.ProxyFrom) != 0 {
		t.Errorf("submission: got %+v", c)
	}
	if p := m.submissionPolicy(); !p.RequireTLS || len(p.Sources) != 0 {
		t.Errorf("submission policy: got %+v", p)
	}
	if !relayConfig.Headers.PowerMTA || !relayConfig.Headers.MsysAPI || relayConfig.Sending.QueueAlways ||
		relayConfig.Signing.Require || relayConfig.Tracking.UnsubscribeBy != "" {
		t.Errorf("relay: got %+v", relayConfig)
	}
	if w, err := tr.webConfig(n); err != nil || w.TruncateIP || len(w.WellKnown) != 0 || w.Geo != nil {
		t.Errorf("web: got %+v, %v", w, err)
	}
	if c, err := g.ingestConfig(); err != nil || c.Filter.HashRecipients {
		t.Errorf("ingest: got %+v, %v", c, err)
	}
	if c, err := g.spoolConfig(); err != nil || len(c.Readers) != 0 {
		t.Errorf("spool: got readers %v, %v, want none without uploads", c.Readers, err)
	}
	names := slices.Concat(g.names(intake), g.names(carryOn))
	for name, want := range map[string]bool{"submission": true, "reports": false, "ingest": false, "acme": false} {
		if got := slices.Contains(names, name); got != want {
			t.Errorf("%s: got it served: %v, want %v", name, got, want)
		}
	}
	if c, err := UpstreamConfig(g.cfg); err != nil || c.RootCAs != nil {
		t.Errorf("upstream: got %+v, %v", c, err)
	}
}

// TestSigningKeysHaveTheirTimes: a key signs in its time, and gives way to its
// successor.
func TestSigningKeysHaveTheirTimes(t *testing.T) {
	g, log := startGateway(t, writeEveryKey(t))

	keys, err := partOf[*mail](t, g).signingKeys(g.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 {
		t.Fatalf("got %d keys, want 2", len(keys))
	}
	k := keys[0]
	if k.Domain != "example.com" || k.Selector != "s1" || k.Successor != "s2" || k.Private == nil ||
		!k.NotBefore.Equal(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)) ||
		!k.NotAfter.Equal(time.Date(2099, 1, 3, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %+v", k)
	}
	if k := keys[1]; k.Selector != "s2" || k.Successor != "" || !k.NotBefore.IsZero() || !k.NotAfter.IsZero() {
		t.Errorf("got %+v", k)
	}
	if text := log.take(); strings.Contains(text, "crypto/rsa") {
		t.Errorf("got %s, want no word of RSA", text)
	}

	l := loadConfig(t, g.cfg.File)
	l.DKIM.Keys[1].KeyFile = "/nowhere"
	if _, err := partOf[*mail](t, g).signingKeys(l); err == nil {
		t.Error("a key that is missing: got no error")
	}
}

func TestMailboxForUnsubscribing(t *testing.T) {
	for _, c := range []struct {
		name        string
		verp        string
		bounce, fbl []string
		want        string
	}{
		{"no reports", "v.example", nil, nil, ""},
		{"VERP", "v.example", []string{"b.example", "v.example"}, nil, "unsubscribe@v.example"},
		{"the first domain for bounces", "", []string{"*.x.example", "b.example", "c.example"}, nil, "unsubscribe@b.example"},
		{"patterns alone", "", []string{"*.x.example"}, nil, ""},
		{"complaints alone", "", nil, []string{"f.example"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := config.Default()
			conf.Relay.VERPDomain = c.verp
			conf.Reports.BounceDomains = c.bounce
			conf.Reports.FBLDomains = c.fbl
			if got := unsubscribeMailbox(conf); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPrefixesKeepTheirOrder(t *testing.T) {
	a, b := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")
	if got := prefixes([]config.Prefix{config.Prefix(a), config.Prefix(b)}); !slices.Equal(got, []netip.Prefix{a, b}) {
		t.Errorf("got %v", got)
	}
}
