package token

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newKeys(t testing.TB) (*Keys, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token.keys")
	if _, err := AddKey(file, time.Now()); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return k, file
}

func sample(k *Keys) Token {
	return Token{Kind: Click, MessageID: k.NewID(time.Now()), Recipient: "r@example.org", Subaccount: 7,
		Target: "https://www.example.com/a?b=c&d=e", LinkName: "top"}
}

func TestSealOpen(t *testing.T) {
	k, _ := newKeys(t)
	want := sample(k)
	text := k.Seal(want)
	if text != k.Seal(want) {
		t.Error("sealing twice gives two texts")
	}
	if got, err := k.Open(text); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestNoByteCanChange(t *testing.T) {
	k, _ := newKeys(t)
	text := k.Seal(sample(k))
	for i := range text {
		for _, c := range "AZaz09-_=\n" {
			changed := text[:i] + string(c) + text[i+1:]
			if _, err := k.Open(changed); changed != text && !errors.Is(err, ErrToken) {
				t.Fatalf("byte %d as %q: %v", i, c, err)
			}
		}
	}
}

func TestRotation(t *testing.T) {
	old, file := newKeys(t)
	text, id := old.Seal(sample(old)), old.NewID(time.Now())
	if _, err := AddKey(file, time.Now()); err != nil {
		t.Fatal(err)
	}
	both, err := ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Open(text); err != nil {
		t.Errorf("an old token: %v", err)
	}
	if _, err := both.ParseID(id.String()); err != nil {
		t.Errorf("an old id: %v", err)
	}
	if _, err := old.Open(both.Seal(sample(both))); !errors.Is(err, ErrToken) {
		t.Errorf("the newest key does not seal: %v", err)
	}
}

func TestMessageID(t *testing.T) {
	k, _ := newKeys(t)
	now := time.UnixMilli(1795500000123)
	id := k.NewID(now)
	s := id.String()
	if len(s) != 26 || s != strings.ToLower(s) || !id.Time().Equal(now) {
		t.Errorf("id %s of %v", s, id.Time())
	}
	if got, err := k.ParseID(strings.ToUpper(s)); err != nil || got != id {
		t.Errorf("case folded: %v", err)
	}
	for i := range s {
		c := byte('a')
		if s[i] == c {
			c = 'b'
		}
		if _, err := k.ParseID(s[:i] + string(c) + s[i+1:]); !errors.Is(err, ErrID) {
			t.Errorf("forged at %d: %v", i, err)
		}
	}
	other, _ := newKeys(t)
	if _, err := other.ParseID(s); !errors.Is(err, ErrID) {
		t.Errorf("under other keys: %v", err)
	}
}

func TestBadKeyFile(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "# nothing\n", ":1: no key"},
		{"id", "# c\n0 2026-01-01 AAAA\n", ":2: the key id"},
		{"short", "1 2026-01-01 AAAA\n", ":1: the key is 64 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadKeys(file); err == nil || !strings.Contains(err.Error(), file+c.want) {
				t.Errorf("got %v, want %s%s", err, file, c.want)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	k, _ := newKeys(f)
	f.Add(k.Seal(sample(k)))
	f.Add("")
	f.Add("AQ")
	bound := sample(k)
	bound.Host = "t.example"
	f.Add(k.Seal(bound) + "/.")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := k.Open(s, "t.example", "")
		if err == nil && k.Seal(tok) != s {
			t.Fatalf("%q opens and seals to %q", s, k.Seal(tok))
		}
		if text, ok := FromPath(PathPrefix + s); ok && text != "" && !isAlnum(rune(text[len(text)-1])) {
			t.Fatalf("the token of %q is %q", s, text)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	k, _ := newKeys(b)
	t := sample(k)
	b.ReportAllocs()
	for b.Loop() {
		k.Seal(t)
	}
}
