package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// mistake is a configuration that somebody wrote, and the file that went wrong
// with it.
type mistake struct {
	name  string
	text  string
	files map[string]string // name to content, with its mode behind a colon: "a.pem:644"
}

// with is the smallest configuration and what stands behind it.
func with(text string) string { return smallest + text }

// mistakes are what people write. Each one's words are in testdata/mistakes.golden.
func mistakes(t *testing.T) []mistake {
	certificate := testCertificate(t, time.Now().Add(365*24*time.Hour), "mail.example.com")
	return []mistake{
		// The file itself.
		{name: "a key is misspelt", text: "hostnam = \"mail.example.com\"\n[tracking]\nurl = \"https://t.example.com\"\n"},
		{name: "a key stands in the wrong table", text: with("[log]\nqueue = \"always\"\n")},
		{name: "a table is misspelt", text: with("[submision]\nlisten = [\"0.0.0.0:587\"]\n")},
		{name: "a table stands twice", text: with("[relay]\nqueue = \"always\"\n\n[log]\nlevel = \"debug\"\n\n[relay]\ntls = \"off\"\n")},
		{name: "a key stands twice", text: "hostname = \"a.example.com\"\nhostname = \"b.example.com\"\n"},
		{name: "a list of tables in single brackets", text: with("[pool]\nname = \"a\"\n")},
		{name: "a quote is missing", text: "hostname = \"mail.example.com\n"},
		{name: "a value without quotes", text: "hostname = mail.example.com\n"},
		{name: "the hostname is missing", text: "[tracking]\nurl = \"https://t.example.com\"\n"},
		{name: "the hostname has a port", text: "hostname = \"mail.example.com:587\"\n[tracking]\nurl = \"https://t.example.com\"\n"},

		// Values.
		{name: "a duration without unit", text: with("[signals]\nbatch_age = 2\n")},
		{name: "a duration in words", text: with("[submission]\nidle_timeout = \"5 minutes\"\n")},
		{name: "a size in words", text: with("[submission]\nmax_message_size = \"50 megabytes\"\n")},
		{name: "a rate as a number", text: with("[submission]\nauth_failure_rate = 5\n")},
		{name: "a boolean in quotes", text: with("[submission]\nrequire_tls = \"yes\"\n")},
		{name: "a string in the place of a list", text: with("[submission]\nlisten = \"0.0.0.0:587\"\n")},
		{name: "a port that is too big", text: with("[relay]\nupstream = [\"127.0.0.1:425870\"]\n")},
		{name: "an address without a port", text: with("[relay]\nupstream = [\"127.0.0.1\"]\n")},
		{name: "an IPv6 address without brackets", text: with("[submission]\nlisten = [\"::1:587\"]\n")},
		{name: "a network with host bits", text: with("[tracking.web]\ntrusted_proxies = [\"10.1.2.3/16\"]\n")},
		{name: "a network that is none", text: with("[tracking.web]\ntrusted_proxies = [\"10.1.2.*\"]\n")},
		{name: "a word that is none of the choices", text: with("[relay]\ntls = \"starttls\"\n")},
		{name: "an event that is none", text: with("[signals]\nreport = [\"injections\", \"click\"]\n")},
		{name: "a negative number", text: with("[relay]\nmax_connections = -1\n")},
		{name: "a header name with a colon", text: with("[relay]\njob_header = \"X-Job:\"\n")},
		{name: "a tracking URL without scheme", text: "hostname = \"mail.example.com\"\n[tracking]\nurl = \"track.example.com\"\n"},
		{name: "a tracking URL over plain http", text: "hostname = \"mail.example.com\"\n[tracking]\nurl = \"http://track.example.com\"\n"},
		{name: "an API key that is too short", text: with("[signals]\nenabled = true\napi_key = \"abc\"\n")},
		{name: "uploads without an API key", text: with("[signals]\nenabled = true\n")},
		{name: "an API key without uploads", text: with("[signals]\napi_key = \"" + strings.Repeat("ab", 20) + "\"\n")},

		// Listeners and access.
		{name: "admin and reports on one address", text: with("[reports]\nlisten = [\"127.0.0.1:8025\"]\nbounce_domains = [\"b.example.com\"]\n")},
		{name: "two listeners, one of them on every address", text: with("[submission]\nlisten = [\"0.0.0.0:587\", \"127.0.0.1:587\"]\n")},
		{name: "the upstream is the gateway itself", text: with("[relay]\nupstream = [\"127.0.0.1:587\"]\n")},
		{name: "the upstream is named twice", text: with("[relay]\nupstream = [\"127.0.0.1:2525\", \"127.0.0.1:2525\"]\n")},
		{name: "the upstream has port 0", text: with("[relay]\nupstream = [\"127.0.0.1:0\"]\n")},
		{name: "no upstream", text: with("[relay]\nupstream = []\n")},
		{name: "an open relay", text: with("[[submission.source]]\nnetwork = \"0.0.0.0/0\"\nrequire_auth = false\nuser = \"a\"\n")},
		{name: "a source rule for nobody", text: with("[[submission.source]]\nnetwork = \"10.1.0.0/16\"\nrequire_auth = false\nuser = \"nobody\"\n")},
		{name: "admin on every address", text: with("[admin]\nlisten = \"0.0.0.0:8025\"\n")},
		{name: "a group that is not there", text: with("[admin]\nsocket_group = \"no-such-group-here\"\n")},
		{name: "a pipe's group that is not there", text: with("[accounting]\npipe_group = \"no-such-group-here\"\n")},
		{name: "one socket for two", text: with("[accounting]\npipe_socket = \"admin.sock\"\n")},
		{name: "a group for no socket", text: with("[admin]\nsocket = \"\"\nsocket_group = \"root\"\n")},
		{name: "a URL among the hosts of admin", text: with("[admin]\nhosts = [\"http://metrics.example.com/\"]\n")},
		{name: "passwords in plain text", text: with("[submission]\nrequire_tls = false\n")},
		{name: "passwords upstream in plain text", text: with("[submission]\nauth = \"upstream\"\n[relay]\nupstream = [\"pmta.example.com:2525\"]\n")},
		{name: "a bounce domain with a path", text: with("[reports]\nbounce_domains = [\"b.example.com/x\"]\n")},
		{name: "VERP leads to a domain that is refused", text: with("[relay]\nverp_domain = \"v.example.com\"\n[reports]\nbounce_domains = [\"b.example.com\"]\n")},

		// Times.
		{name: "bounces before the first retry", text: with("[relay]\nbounce_after = \"30s\"\n")},
		{name: "no pause between retries", text: with("[relay]\nretry_after = [\"0s\"]\n")},
		{name: "a message larger than the memory", text: with("memory_budget = \"1GiB\"\n[submission]\nmax_message_size = \"2GiB\"\n")},

		// Files.
		{name: "state_dir is a file", text: "state_dir = \"users.toml\"\n" + smallest},
		{name: "the users file is missing", text: with("[submission]\nusers_file = \"nobody.toml\"\n")},
		{name: "two users of one name", text: smallest, files: map[string]string{"users.toml": "[[user]]\nname = \"a\"\n\n[[user]]\nname = \"a\"\n"}},
		{name: "a password that is no hash", text: smallest, files: map[string]string{"users.toml": "[[user]]\nname = \"a\"\npassword = \"secret\"\n"}},
		{name: "password hashes for all to read", text: smallest, files: map[string]string{"users.toml:644": "[[user]]\nname = \"a\"\n"}},
		{name: "token keys are missing", text: with("key_file = \"nowhere.keys\"\n")},
		{name: "token keys in PEM", text: with("key_file = \"fullchain.pem\"\n")},
		{name: "token keys for all to read", text: smallest, files: map[string]string{"token.keys:644": ""}},
		{name: "a certificate is missing", text: with("[certs]\ncert_file = \"nowhere.pem\"\n")},
		{name: "a certificate for another host", text: smallest, files: testCertificate(t, time.Now().Add(365*24*time.Hour), "www.example.org")},
		{name: "a certificate that ran out", text: smallest, files: testCertificate(t, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "mail.example.com")},
		{name: "a key that is not the certificate's", text: smallest, files: map[string]string{"privkey.pem": certificate["privkey.pem"]}},
		{name: "ACME with a certificate file", text: with("[certs]\nmode = \"acme\"\ncert_file = \"fullchain.pem\"\n")},
		{name: "a certificate as DKIM key", text: with("[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"fullchain.pem\"\n")},
		{name: "a DKIM domain and selector with spaces",
			text: with("[[dkim.key]]\ndomain = \"example .com\"\nselector = \"e 2026\"\nkey_file = \"s2026.example.com.pem\"\n")},
		{name: "a DKIM key of 512 bits, the other form of PEM",
			text:  with("[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"tiny.pem\"\n"),
			files: map[string]string{"tiny.pem": tinyRSA}},
		{name: "signatures that end before a retried copy is sent",
			text: with("[dkim]\nexpire = \"1d\"\n[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"s2026.example.com.pem\"\n")},
		{name: "two users whose names differ in case alone", text: smallest,
			files: map[string]string{"users.toml": "[[user]]\nname = \"News\"\n\n[[user]]\nname = \"news\"\n"}},
		{name: "a user's domain has no key",
			text:  with("[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"s2026.example.com.pem\"\n"),
			files: map[string]string{"users.toml": "[[user]]\nname = \"a\"\nfrom_domains = [\"example.com\", \"example.org\"]\n"}},
		{name: "a limit of events that is gone", text: with("[tracking.web]\nevents_per_client = \"6000/min\"\n")},
		{name: "a DKIM key of 1024 bits", text: with("[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"small.pem\"\n"),
			files: map[string]string{"small.pem": testRSA(t, 1024)}},
		{name: "a DKIM key for all to read", text: with("[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"open.pem\"\n"),
			files: map[string]string{"open.pem:644": testRSA(t, 2048)}},
		{name: "a secret for all to read", text: with("[relay]\nusername = \"u\"\npassword = \"secret\"\n"), files: map[string]string{"postern.toml:644": ""}},
		{name: "accounting files that are not there", text: with("[accounting]\nfiles = [\"nowhere/acct*.csv\"]\n")},
		{name: "a bounce class that is none", text: with("[accounting.bounce_class]\n\"greylisted\" = 42\n")},
		{name: "a GeoIP database that is none", text: with("[tracking.web]\ngeoip_db = \"fullchain.pem\"\n")},
	}
}

// TestMistakes holds what is said of each mistake to a file that reads like help.
func TestMistakes(t *testing.T) {
	var b strings.Builder
	for _, m := range mistakes(t) {
		t.Run(m.name, func(t *testing.T) {
			dir := folder(t)
			for name, text := range m.files {
				putFile(t, dir, name, text)
			}

			file := filepath.Join(dir, "postern.toml")
			if err := os.WriteFile(file, []byte(m.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, open := m.files["postern.toml:644"]; open {
				if err := os.Chmod(file, 0o644); err != nil {
					t.Fatal(err)
				}
			}

			_, problems := load(file, All, noEnv)
			if len(problems) == 0 {
				t.Errorf("nothing is said of\n%s", m.text)
			}

			fmt.Fprintf(&b, "%s\n", m.name)
			for _, p := range problems {
				fmt.Fprintf(&b, "\t%s\n", strings.ReplaceAll(p.Error(), dir+"/", ""))
			}
			b.WriteString("\n")
		})
	}

	compareGolden(t, "mistakes.golden", b.String())
}

// putFile writes a file, or changes its mode alone where text is empty.
func putFile(t *testing.T, dir, name, text string) {
	t.Helper()

	name, open := strings.CutSuffix(name, ":644")
	mode := os.FileMode(0o600)
	if open {
		mode = 0o644
	}

	file := filepath.Join(dir, name)
	if text != "" {
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(file, mode); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// testCertificate makes a certificate of its own and the key, as files.
func testCertificate(t *testing.T, until time.Time, host string) map[string]string {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: host},
		DNSNames:     []string{host},
		NotBefore:    until.Add(-2 * 365 * 24 * time.Hour),
		NotAfter:     until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	return map[string]string{
		"fullchain.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"privkey.pem":   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

// tinyRSA is a key of 512 bits in PKCS#1, made for this test and used nowhere.
const tinyRSA = `-----BEGIN RSA PRIVATE KEY-----
MIIBOwIBAAJBALYvLyVSCa58WGNffCO9Tz0VAv5m/jRAfFKb8EAajEZG98YPM4D7
pSRAB8w8Cwq/nNUplaz1+fnd/mthPcaKV2ECAwEAAQJBAKlfNHV9z4JoF8RLAR44
4XHoFuBs3+e0C+DBGJqAE+lAf4DkULLE7fNkg28xnFwA7gk6750WhpLvs/XEt6H7
oAECIQDbLuhVvi63N3IlTVa1iS2nCXTiLHgAmBpoeVU6UmOHVQIhANTJSXs+aDhx
1f2SknZBcnStaoNEOyKek/XJvdbr3nfdAiEAzxRsUcYTIOrznyaIi48FYNFgaueU
oQsTuC0aRrXcbtkCIE5BMJr4mo+XneFBlEeVTiiG1lMsNqtGspeD+CMgX5KpAiAr
js2D218p6crPkEn+DstOlk+Z61rBTp5Y5dGzQ+FwJw==
-----END RSA PRIVATE KEY-----
`

func testRSA(t *testing.T, bits int) string {
	t.Helper()

	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
