package config

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallKey is an RSA key of 512 bits, in PKCS#1 as `openssl genrsa
// -traditional` writes keys, or in PKCS#8.
func smallKey(t *testing.T, kind string) string {
	t.Helper()
	if kind == "RSA PRIVATE KEY" {
		return tinyRSA
	}

	block, _ := pem.Decode([]byte(tinyRSA))
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// TestKeyProblems: what `serve` could not sign with is said with file, line and
// key.
func TestKeyProblems(t *testing.T) {
	key := func(domain, selector, file string) string {
		return "[[dkim.key]]\ndomain = \"" + domain + "\"\nselector = \"" + selector + "\"\nkey_file = \"" + file + "\"\n"
	}
	const good = "s2026.example.com.pem"

	for _, c := range []struct {
		name, text string
		want       string // line: key: words; empty: none
	}{
		{"good", key("example.com", "s2026", good), ""},
		{"U-label", key("bücher.example", "s2026", good), ""},
		{"selector of two labels", key("example.com", "a.b", good), ""},
		{"the same domain in both forms", key("bücher.example", "s", good) + key("xn--bcher-kva.example", "S", good), "10: dkim.key[1].selector: "},
		{"space in the domain", key("a b.example", "s", good), "5: dkim.key[0].domain: dkim: \"a b.example\" is not a domain"},
		{"tag in the domain", key("a.example; l=0", "s", good), "5: dkim.key[0].domain: "},
		{"trailing dot", key("a.example.", "s", good), "5: dkim.key[0].domain: "},
		{"pattern", key("*.a.example", "s", good), "5: dkim.key[0].domain: "},
		{"address literal", key("[192.0.2.1]", "s", good), "5: dkim.key[0].domain: "},
		{"space in the selector", key("a.example", "s 1", good), "6: dkim.key[0].selector: dkim: \"s 1\" is not a selector"},
		{"tag in the selector", key("a.example", "s; h=x", good), "6: dkim.key[0].selector: "},
		{"selector that is not ASCII", key("a.example", "schlüssel", good), "6: dkim.key[0].selector: "},
		{"small key, PKCS#1", key("a.example", "s", "traditional.pem"), "7: dkim.key[0].key_file: dkim: read "},
		{"small key, PKCS#8", key("a.example", "s", "small.pem"), "7: dkim.key[0].key_file: dkim: read "},
		{"signatures that expire in the retry spool", "[dkim]\nexpire = \"5d\"\n", "5: dkim.expire: warning: shorter than relay.bounce_after and a day (5d12h)"},
		{"signatures that live long enough", "[dkim]\nexpire = \"5d12h\"\n", ""},
		{"the same with a shorter wait", "[dkim]\nexpire = \"2d\"\n[relay]\nbounce_after = \"1d\"\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t)
			for file, kind := range map[string]string{"traditional.pem": "RSA PRIVATE KEY", "small.pem": "PRIVATE KEY"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(smallKey(t, kind)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			file := write(t, dir, smallest+c.text)

			_, problems := load(file, All, noEnv)
			if c.want == "" {
				if len(problems) > 0 {
					t.Errorf("got %v, want none", problems)
				}
				return
			}
			if len(problems) != 1 || problems[0].Warn != strings.Contains(c.want, "warning: ") || !strings.HasPrefix(problems[0].Error(), file+":"+c.want) {
				t.Errorf("got  %v\nwant %s:%s", problems, file, c.want)
			}
		})
	}
}

// TestHeldKeys: check names each key that a user without from_domains does not
// get.
func TestHeldKeys(t *testing.T) {
	dir := folder(t)
	var text strings.Builder
	text.WriteString(smallest)
	for _, domain := range []string{"held.example", "x.held.example", "free.example"} {
		text.WriteString("[[dkim.key]]\ndomain = \"" + domain + "\"\nselector = \"s\"\nkey_file = \"s2026.example.com.pem\"\n")
	}
	users := "[[user]]\nname = \"a\"\nfrom_domains = [\"held.example\"]\n[[user]]\nname = \"b\"\n[[user]]\nname = \"c\"\n"
	if err := os.WriteFile(filepath.Join(dir, "users.toml"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}

	_, problems := load(write(t, dir, text.String()), All, noEnv)
	var got []string
	for _, p := range problems {
		if strings.HasPrefix(p.Key, "dkim.key") {
			got = append(got, p.Error())
		}
		if !p.Warn {
			t.Errorf("more than a warning: %v", p)
		}
	}
	want := []string{":5: dkim.key[0].domain: warning: the key s signs nothing of users without from_domains (b, c), for another user is held to held.example",
		":9: dkim.key[1].domain: warning: "}
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
}

// TestUnsignedDomains: check names each domain that a user may send from and no
// key signs for.
func TestUnsignedDomains(t *testing.T) {
	const key = "[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"s2026.example.com.pem\"\n"
	const users = "[[user]]\nname = \"a\"\nfrom_domains = [\"example.com\", \"news.example.com\", \"other.example\"]\n" +
		"[[user]]\nname = \"b\"\nfrom_domains = [\"other.example\", \"*\"]\n" +
		"[[user]]\nname = \"c\"\nfrom_domains = [\"c.example\"]\ndkim_key = \"example.com\"\n"

	for _, c := range []struct{ name, text, want string }{
		{"with a key", key, ":4: dkim.key: warning: none signs for other.example, which is in the from_domains of a, b: its mail goes unsigned"},
		{"where a signature is required", key + "[dkim]\nrequire = true\n", ": its mail is refused, for dkim.require is set"},
		{"without any key", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t)
			if err := os.WriteFile(filepath.Join(dir, "users.toml"), []byte(users), 0o600); err != nil {
				t.Fatal(err)
			}

			var got []string
			_, problems := load(write(t, dir, smallest+c.text), All, noEnv)
			for _, p := range problems {
				if p.Key == "dkim.key" {
					got = append(got, p.Error())
				}
				if !p.Warn {
					t.Errorf("more than a warning: %v", p)
				}
			}
			if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want one with %q", got, c.want)
			}
		})
	}
}

func TestFromDomainsPatterns(t *testing.T) {
	for pattern, good := range map[string]bool{
		"example.com": true, "*.example.com": true, "*": true, "bücher.example": true, "[192.0.2.1]": false,
		"*example.com": false, "@example.com": false, "*.*": false, "a@example.com": false, "example.com.": false, "": false,
	} {
		file := filepath.Join(t.TempDir(), "users.toml")
		if err := os.WriteFile(file, []byte("[[user]]\nname = \"a\"\nfrom_domains = [\""+pattern+"\"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}

		_, problems := LoadUsers(file, noEnv)
		if (len(problems) == 0) != good {
			t.Errorf("from_domains %q: %v", pattern, problems)
		}
		if !good && len(problems) > 0 && (problems[0].Line != 3 || problems[0].Key != "user[0].from_domains[0]") {
			t.Errorf("from_domains %q: %v", pattern, problems)
		}
	}
}
