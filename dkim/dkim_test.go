package dkim

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	msgdkim "github.com/emersion/go-msgauth/dkim"

	"postern/relay/message"
)

const simpleMessage = "From: a@news.example.org\r\nTo: b@example.net\r\nSubject: x\r\nSubject : y\r\n\r\nbody  \r\n\r\n"

var now = Times{Signed: time.Unix(1795500000, 0)}

// generated are the PEM of one key of each kind.
var generated = map[string]func() ([]byte, error){
	"rsa2048": sync.OnceValues(func() ([]byte, error) { _, pem, err := Generate("rsa2048"); return pem, err }),
	"ed25519": sync.OnceValues(func() ([]byte, error) { _, pem, err := Generate("ed25519"); return pem, err }),
}

func key(t testing.TB, kind, selector string) Key {
	t.Helper()
	pem, err := generated[kind]()
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

func sign(t testing.TB, keys []Key, msg string) string {
	t.Helper()
	header, body, _ := message.Split([]byte(msg))
	sig, err := Sign(keys, header, body, now)
	if err != nil {
		t.Fatal(err)
	}
	return string(sig)
}

// failures is how many of the signatures go-msgauth does not accept.
func failures(t testing.TB, keys []Key, msg string) (n int) {
	t.Helper()
	lookup := func(name string) ([]string, error) {
		for _, k := range keys {
			if name == RecordName(k.Domain, k.Selector) {
				v, err := RecordValue(k.Private)
				return []string{v}, err
			}
		}
		return nil, os.ErrNotExist
	}
	v, err := msgdkim.VerifyWithOptions(strings.NewReader(msg), &msgdkim.VerifyOptions{LookupTXT: lookup})
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, one := range v {
		if one.Domain != "example.org" {
			continue
		}
		if ours++; one.Err != nil {
			n++
		}
	}
	if ours != len(keys) {
		t.Fatalf("%d signatures of ours found, want %d", ours, len(keys))
	}
	return n
}

func TestSign(t *testing.T) {
	ed, rsa := key(t, "ed25519", "e"), key(t, "rsa2048", "r")
	s := NewSigner([]Key{ed, rsa})
	keys := s.KeysFor("news.example.org", time.Now())
	if len(keys) != 2 || keys[0].Selector != "r" {
		t.Fatalf("keys %v, want RSA first", keys)
	}
	if s.KeysFor("example.com", time.Now()) != nil {
		t.Error("a key for a strange domain")
	}
	sig := sign(t, keys, simpleMessage)
	if n := failures(t, keys, sig+simpleMessage); n != 0 {
		t.Errorf("%d signatures fail", n)
	}
	for _, name := range overSigned {
		if n := failures(t, keys, name+": added\r\n"+sig+simpleMessage); n != 2 {
			t.Errorf("a %s added later: %d signatures fail, want 2", name, n)
		}
	}
	if strings.Contains(sig, " l=") {
		t.Error("l= in the signature")
	}
	if again := sign(t, keys, simpleMessage); again != sig {
		t.Error("the same message signed twice gives different bytes")
	}
	for _, line := range strings.Split(sig, "\r\n") {
		if len(line) > 78 {
			t.Errorf("a line of %d bytes: %s", len(line), line)
		}
	}
	expiring, err := Sign(keys[:1], []byte("From: a@example.org\r\n"), nil, Times{Signed: now.Signed, Expire: time.Hour})
	if err != nil || !bytes.Contains(expiring, []byte("t=1795500000; x=1795503600;")) {
		t.Errorf("t= and x=: %s, %v", expiring, err)
	}
}

func TestRotation(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	private := key(t, "ed25519", "x").Private
	k := func(domain, selector string, from, to int, successor string) Key {
		k := Key{Domain: domain, Selector: selector, Private: private, Successor: successor}
		if from > 0 {
			k.NotBefore = at(from)
		}
		if to > 0 {
			k.NotAfter = at(to)
		}
		return k
	}
	s := NewSigner([]Key{k("a.example", "old", 0, 0, "new"), k("a.example", "new", 10, 0, ""), k("b.example", "short", 5, 6, ""),
		k("sub.b.example", "later", 20, 0, ""), k("c.example", "new", 0, 0, "")})
	for _, c := range []struct {
		name, domain string
		day          int
		want         string
	}{
		{"the old one until the successor begins", "a.example", 9, "old"},
		{"then the successor alone", "a.example", 10, "new"},
		{"within its dates", "b.example", 5, "short"},
		{"not after", "b.example", 6, ""},
		{"a domain whose key is not valid yet is signed by its parent's", "sub.b.example", 5, "short"},
		{"and by its own later", "sub.b.example", 21, "later"},
	} {
		var got []string
		for _, k := range s.KeysFor(c.domain, at(c.day)) {
			got = append(got, k.Selector)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	for name, want := range map[string]string{"old": "a.example", "new": "", "new._domainkey.c.example": "c.example", "c.example": "c.example", "none": ""} {
		if k, ok := s.Named(name, at(15)); k.Domain != want || ok != (want != "") {
			t.Errorf("key named %s: of %q", name, k.Domain)
		}
	}
}

// corpus gives the corpus's messages as a submission server would take them:
// CRLF, no bare CR or NUL.
func corpus(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../tracking/rewrite/testdata/corpus/messages/*")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	out := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := message.ReadMessage(bytes.NewReader(data), message.ReadConfig{NormaliseLF: true})
		if err != nil {
			continue // refused at the door
		}
		header, _, separated := message.Split(msg)
		if _, ok := message.First(message.Fields(header), "From"); !ok || !separated {
			continue // refused, too
		}
		fine := true
		for _, f := range message.Fields(header) {
			fine = fine && f.Name != ""
		}
		if fine {
			out[filepath.Base(f)] = string(msg)
		}
	}
	return out
}

// TestCorpus signs every message of the corpus; go-msgauth verifies.
func TestCorpus(t *testing.T) {
	keys := []Key{key(t, "rsa2048", "r"), key(t, "ed25519", "e")}
	msgs := corpus(t)
	for name, msg := range msgs {
		signed := sign(t, keys, msg) + msg
		if n := failures(t, keys, signed); n != 0 {
			t.Errorf("%s: %d signatures fail", name, n)
		}
	}
	t.Logf("%d messages signed and verified", len(msgs))
}

// bodyHash is our hash of a body, reference what a plain reading of RFC 6376
// section 3.4.4 gives.
func bodyHash(body string) string {
	b := bodyHasher{h: sha256.New()}
	b.relaxed([]byte(body))
	return fmt.Sprintf("%x", b.h.Sum(nil))
}

func reference(body string) string {
	var out strings.Builder
	empty := 0
	for _, line := range strings.SplitAfter(body, "\r\n") {
		line = strings.TrimSuffix(line, "\r\n")
		var b strings.Builder
		space := false
		for _, c := range []byte(line) {
			if c == ' ' || c == '\t' {
				space = true
				continue
			}
			if space {
				b.WriteByte(' ')
			}
			space = false
			b.WriteByte(c)
		}
		if b.Len() == 0 {
			empty++
			continue
		}
		out.WriteString(strings.Repeat("\r\n", empty) + b.String() + "\r\n")
		empty = 0
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(out.String())))
}

func FuzzRelaxedBody(f *testing.F) {
	for _, s := range []string{"", "\r\n", " \r\n\r\n", "a", "a \r\n", "a\t b\r\n c\r\n\r\n", "\t\r\nx\r\n", "a  b", "  a\r\n \t \r\nb  \r\n", strings.Repeat("word  ", 9000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.NewReplacer("\r\n", "\r\n", "\r", "", "\n", "\r\n").Replace(s)
		if got, want := bodyHash(s), reference(s); got != want {
			t.Fatalf("%q: %s, want %s", s, got, want)
		}
	})
}

// FuzzSign compares with go-msgauth: what we sign, it verifies.
func FuzzSign(f *testing.F) {
	keys := []Key{key(f, "ed25519", "e")}
	f.Add("From: a@example.org", "x")
	f.Add("From : a@example.org\r\nSubject:\r\n x \r\n\ty\r\nsubject: z", "a  \r\n\r\n")
	f.Add("Received: x\r\nFROM:a@example.org\r\nTo:\r\nTo: \t \r\nTO\t : x\r\n\t \r\n y", "\t a\r\n \t\r\nb\t \tc \r\n\r\n \r\n")
	f.Add("from: first\r\nX: x\r\nfrom: second\r\nList-Id: a:b:c", "\r\n\r\n\r\na")
	f.Fuzz(func(t *testing.T, header, body string) {
		clean := strings.NewReplacer("\r\n", "\r\n", "\r", "", "\n", "\r\n", "\x00", "")
		header, body = clean.Replace(header), clean.Replace(body)
		if strings.Contains(header, "\r\n\r\n") || strings.HasPrefix(header, "\r\n") {
			return
		}
		header = strings.TrimSuffix(header, "\r\n") + "\r\n"
		if strings.ContainsAny(header[:1], " \t") {
			return
		}
		for _, field := range message.Fields([]byte(header)) {
			if field.Name == "" || field.Is("DKIM-Signature") {
				return
			}
		}
		if _, ok := message.First(message.Fields([]byte(header)), "From"); !ok {
			return
		}
		msg := header + "\r\n" + body
		signed := sign(t, keys, msg)
		if n := failures(t, keys, signed+msg); n != 0 {
			t.Fatalf("%q does not verify", msg)
		}

		// The first field as a copy's own, the rest shared.
		own := message.Fields([]byte(header))[0].Raw
		copied, err := NewHeader([]byte(header[len(own):])).Sign(keys, own, []byte(body), now)
		if err != nil || string(copied) != signed {
			t.Fatalf("%q: shared, signed as\n%s, %v, want\n%s", msg, copied, err, signed)
		}
	})
}

// TestRFC6376Canonical holds the example of RFC 6376 section 3.4.5.
func TestRFC6376Canonical(t *testing.T) {
	var header []byte
	for _, f := range message.Fields([]byte("A: X\r\nB : Y\t\r\n\tZ  \r\n")) {
		header = append(appendRelaxedField(header, f.Raw), crlf...)
	}
	if string(header) != "a:X\r\nb:Y Z\r\n" {
		t.Errorf("header %q", header)
	}
	if got, want := bodyHash(" C \r\nD \t E\r\n\r\n\r\n"), fmt.Sprintf("%x", sha256.Sum256([]byte(" C\r\nD E\r\n"))); got != want {
		t.Errorf("body hash %s, want %s", got, want)
	}
}

// TestRFC8463 holds the Ed25519 example of RFC 8463 appendix A: our
// canonicalization and signature give the RFC's own bytes.
func TestRFC8463(t *testing.T) {
	const msg = "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\n" +
		"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n" +
		"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
	const want = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
	seed, err := base64.StdEncoding.DecodeString("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	if err != nil {
		t.Fatal(err)
	}
	header, body, _ := message.Split([]byte(msg))
	h := bodyHasher{h: sha256.New()}
	h.relaxed(body)
	if got := base64.StdEncoding.EncodeToString(h.h.Sum(nil)); got != "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=" {
		t.Errorf("bh=%s", got)
	}
	var data []byte
	fields := message.Fields(header)
	for _, name := range []string{"from", "to", "subject", "date", "message-id"} {
		f, _ := message.First(fields, name)
		data = append(appendRelaxedField(data, f.Raw), crlf...)
	}
	data = appendRelaxedField(data, []byte("DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"+
		" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"+
		" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="))
	digest := sha256.Sum256(data)
	sig, err := Key{Private: ed25519.NewKeyFromSeed(seed)}.sign(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if got := base64.StdEncoding.EncodeToString(sig); got != want {
		t.Errorf("b=%s", got)
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

// html30k is about what a newsletter's body is.
func html30k() []byte {
	return bytes.Repeat([]byte("<tr>\r\n    <td class=\"x\">Some words of a newsletter, and a <a href=\"https://example.com/\">link</a></td>\r\n</tr>\r\n"), 280)
}

func BenchmarkBodyHash(b *testing.B) {
	for name, body := range map[string][]byte{"html": html30k(), "base64": bytes.Repeat([]byte(strings.Repeat("QUJD", 19)+"\r\n"), 13000), "nothing_to_change": bytes.Repeat([]byte("some words and nothing else\r\n"), 1000)} {
		b.Run(name, func(b *testing.B) {
			h := bodyHasher{h: sha256.New()}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				h.h.Reset()
				h.relaxed(body)
			}
		})
		b.Run(name+"/sha256", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				sha256.Sum256(body)
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	header := []byte("From: a@example.org\r\nTo: b@example.net\r\nSubject: x\r\nDate: y\r\nMessage-ID: <z@x>\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n")
	rsaGo, ed := key(b, "rsa2048", "r"), key(b, "ed25519", "e")
	rsaFast, _ := rsaGo.Fast(RSAAuto)
	body := html30k()
	for _, c := range []struct {
		name string
		key  Key
	}{{"rsa2048-libcrypto", rsaFast}, {"rsa2048-go", rsaGo}, {"ed25519", ed}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Sign([]Key{c.key}, header, body, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("rsa2048-go-msgauth", func(b *testing.B) {
		msg := append(append(append([]byte(nil), header...), "\r\n"...), body...)
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			s, err := msgdkim.NewSigner(&msgdkim.SignOptions{Domain: "example.org", Selector: "r", Signer: rsaGo.Private,
				HeaderCanonicalization: msgdkim.CanonicalizationRelaxed, BodyCanonicalization: msgdkim.CanonicalizationRelaxed})
			if err != nil {
				b.Fatal(err)
			}
			s.Write(msg)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
