package dkim

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	msgdkim "github.com/emersion/go-msgauth/dkim"
)

const message = "From: a@news.example.org\r\nTo: b@example.net\r\nSubject: x\r\nSubject : y\r\n\r\nbody  \r\n\r\n"

func key(t *testing.T, kind, selector string) Key {
	t.Helper()
	_, pem, err := Generate(kind)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKey("Example.ORG", selector, file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSign(t *testing.T) {
	ed, rsa := key(t, "ed25519", "e"), key(t, "rsa2048", "r")
	s := NewSigner([]Key{ed, rsa})
	keys := s.KeysFor("news.example.org")
	if len(keys) != 2 || keys[0].Selector != "r" {
		t.Fatalf("keys %v, want RSA first", keys)
	}
	if s.KeysFor("example.com") != nil {
		t.Error("a key for a strange domain")
	}
	sig, err := Sign(keys, []string{"From", "To", "Subject", "Subject"}, []byte(message))
	if err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) ([]string, error) {
		for _, k := range keys {
			if name == RecordName(k.Domain, k.Selector) {
				v, err := RecordValue(k.Private)
				return []string{v}, err
			}
		}
		return nil, os.ErrNotExist
	}
	failures := func(msg string) (n int) {
		v, err := msgdkim.VerifyWithOptions(strings.NewReader(msg), &msgdkim.VerifyOptions{LookupTXT: lookup})
		if err != nil || len(v) != 2 {
			t.Fatalf("%d verifications, %v", len(v), err)
		}
		for _, one := range v {
			if one.Err != nil {
				n++
			}
		}
		return n
	}
	if n := failures(string(sig) + message); n != 0 {
		t.Errorf("%d signatures fail", n)
	}
	for _, name := range overSigned {
		if n := failures(name + ": added\r\n" + string(sig) + message); n != 2 {
			t.Errorf("a %s added later: %d signatures fail, want 2", name, n)
		}
	}
	if bytes.Contains(sig, []byte(" l=")) {
		t.Error("l= in the signature")
	}
}

func TestBIND(t *testing.T) {
	value, err := RecordValue(key(t, "rsa2048", "s").Private)
	if err != nil {
		t.Fatal(err)
	}
	record := BIND("example.org", "s", value)
	parts := strings.Split(record, `"`)
	var joined string
	for i := 1; i < len(parts); i += 2 {
		if len(parts[i]) > 255 {
			t.Errorf("string of %d bytes", len(parts[i]))
		}
		joined += parts[i]
	}
	if joined != value || !strings.HasPrefix(record, "s._domainkey.example.org. IN TXT (") {
		t.Errorf("record %s", record)
	}
}
