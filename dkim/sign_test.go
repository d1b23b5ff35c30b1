package dkim

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestFailedSignatureLeavesNothingBehind: the mail after one whose key fails is
// signed as if that had not been.
func TestFailedSignatureLeavesNothingBehind(t *testing.T) {
	k, _ := testKey(t)
	failing := k
	failing.Private = failingSigner{k.Private}
	header, body := []byte("From: a@example.org\r\n"), []byte("text\r\n")
	want, err := Sign([]Key{k}, header, body, now)
	if err != nil {
		t.Fatal(err)
	}

	for range 20 { // the pool may drop what it was given
		sig, err := Sign([]Key{k, failing}, header, body, now)
		if sig != nil || !errors.Is(err, errFailing) || err.Error() != "dkim: s1._domainkey.example.org: failing" {
			t.Fatalf("a failing key gives %q, %v", sig, err)
		}

		got, err := Sign([]Key{k}, header, body, now)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("signed\n%s\nwant\n%s", got, want)
		}
	}
}

var errFailing = errors.New("failing")

// failingSigner is a key that cannot sign.
type failingSigner struct{ crypto.Signer }

func (failingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errFailing
}

// TestSignedFields names all fields in the order of h=.
func TestSignedFields(t *testing.T) {
	k, _ := testKey(t)
	over := []string{"From", "To", "Cc", "Subject", "Date", "Reply-To", "Message-ID", "Content-Type", "MIME-Version"}
	once := []string{
		"Sender", "In-Reply-To", "References", "Content-Transfer-Encoding", "Resent-From", "Resent-To", "Resent-Cc", "Resent-Date",
		"Resent-Message-ID", "List-Id", "List-Help", "List-Subscribe", "List-Post", "List-Owner", "List-Archive", "List-Unsubscribe",
		"List-Unsubscribe-Post", "Feedback-ID",
	}
	var header strings.Builder
	var names []string
	for _, name := range over {
		header.WriteString(name + ": x\r\n")
		names = append(names, name, name)
	}
	for _, name := range once {
		header.WriteString(name + ": x\r\n" + strings.ToUpper(name) + ": y\r\n")
		names = append(names, name, name)
	}
	header.WriteString("X-Other: x\r\nReceived: x\r\n")

	for _, c := range []struct{ name, header, want string }{
		{"every field", header.String(), strings.Join(names, ":")},
		{"the least", "From: a@example.org\r\n", "From:" + strings.Join(over, ":")},
	} {
		sig, err := Sign([]Key{k}, []byte(c.header), nil, now)
		if err != nil {
			t.Fatal(err)
		}
		unfolded := strings.ReplaceAll(strings.ReplaceAll(string(sig), "\r\n", ""), " ", "")
		if got := tags(unfolded)["h"]; got != c.want {
			t.Errorf("%s: h=%s, want %s", c.name, got, c.want)
		}
		if strings.Contains(string(sig), " x=") {
			t.Errorf("%s: x= in a signature without an end:\n%s", c.name, sig)
		}
	}
}

// TestSignatureTags reads the whole of a signature.
func TestSignatureTags(t *testing.T) {
	k, _ := testKey(t)
	sig, err := Sign([]Key{k}, []byte("From: a@example.org\r\n"), []byte("x\r\n"), Times{Signed: time.Unix(1795500000, 0), Expire: time.Second})
	if err != nil {
		t.Fatal(err)
	}

	const want = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org;\r\n" +
		" s=s1; t=1795500000; x=1795500001; h=From:From:To:Cc:Subject:Date:Reply-To:\r\n" +
		" Message-ID:Content-Type:MIME-Version;\r\n" +
		" bh=s14J+iztnrytnRYzb7lhFG/jS/vrxWJnnahfijFMnco=;\r\n" +
		" b="
	got, b, _ := strings.Cut(string(sig), "\r\n b=")
	if got += "\r\n b="; got != want {
		t.Errorf("signature\n%s\nwant\n%s", got, want)
	}
	if len(b) != 88+len("\r\n \r\n") || !strings.HasSuffix(b, "\r\n") {
		t.Errorf("b=%q, want 88 characters on two lines", b)
	}
}

// TestLinesAreFilled: no line of a signature is longer than 76 characters, and
// none ends where the next word would have found room.
func TestLinesAreFilled(t *testing.T) {
	names := strings.Split("From:From:To:To:Cc:Subject:Subject:Date:Reply-To:Message-ID:List-Unsubscribe-Post", ":")
	for n := range 80 {
		k, _ := testKey(t)
		k.Domain = strings.Repeat("d", n+1) + ".example"
		field := string(signatureField(k, names, "bodyhash", Times{Signed: time.Unix(0, 0)}))
		lines := strings.Split(field, "\r\n")

		for i, line := range lines {
			if len(line) > 76 && !strings.HasPrefix(line, " d=") {
				t.Errorf("domain of %d bytes: a line of %d:\n%s", n+9, len(line), field)
			}
			if line == " b=" || i == 0 {
				continue
			}

			word := line[:strings.IndexAny(line, ":;")+1]
			if !strings.Contains(word, "=") {
				word = strings.TrimPrefix(word, " ") // it is put in front of a name that begins a line
			}
			if before := lines[i-1]; len(before)+len(word) <= 76 {
				t.Errorf("domain of %d bytes: %q found room behind %q", n+9, word, before)
			}
		}
		if got := tags(strings.ReplaceAll(field, "\r\n ", "\r\n"))["h"]; got != strings.Join(names, ":") {
			t.Errorf("domain of %d bytes: h=%s", n+9, got)
		}
	}
}

func TestSignatureIsFolded(t *testing.T) {
	const head = "a: b\r\n b=" // three columns are taken
	for _, n := range []int{1, 72, 73, 74, 147, 148, 149, 150, 344} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			sig := strings.Repeat("s", n)
			want := head
			for line := 73; sig != ""; line = 75 {
				m := min(line, len(sig))
				want += sig[:m] + "\r\n "
				sig = sig[m:]
			}
			want = strings.TrimSuffix(want, " ")

			if got := string(appendFolded([]byte(head), strings.Repeat("s", n))); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestRelaxedFieldNames(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"AZaz@[`{-09: x", "azaz@[`{-09:x"},
		{"A \t:\tb", "a:b"},
		{"A:", "a:"},
		{"A:: b:\r\n\t c \r\n", "a:: b: c"},
	} {
		if got := string(appendRelaxedField([]byte("X"), []byte(c.raw))); got != "X"+c.want {
			t.Errorf("%q becomes %q, want %q", c.raw, got, "X"+c.want)
		}
	}
}

// TestLargeBodies: what is hashed piece by piece and what is hashed at once
// stays in order.
func TestLargeBodies(t *testing.T) {
	for _, n := range []int{flushAt - 1, flushAt, flushAt + 1, 3 * flushAt} {
		for _, tail := range []string{"", "\r\n", "  x", "\t\r\n\r\nx"} {
			body := "a  b \r\n" + strings.Repeat("w", n) + tail
			if got, want := bodyHash(body), reference(body); got != want {
				t.Errorf("a word of %d bytes and %q: hash %s, want %s", n, tail, got, want)
			}
		}
	}
}

// TestBodyIsHashedInPieces: a long body does not gather in memory.
func TestBodyIsHashedInPieces(t *testing.T) {
	b := bodyHasher{h: sha256.New()}
	b.relaxed([]byte(strings.Repeat("word  ", 50_000)))
	if got, most := cap(b.buf), 4*flushAt; got > most {
		t.Errorf("a buffer of %d bytes, want at most %d", got, most)
	}
}

func TestKeysOfADomain(t *testing.T) {
	ed, rsa := key(t, "ed25519", "x").Private, key(t, "rsa2048", "x").Private
	s := NewSigner([]Key{
		{Domain: "a.example", Selector: "e1", Private: ed},
		{Domain: "A.example", Selector: "r1", Private: rsa},
		{Domain: "a.example", Selector: "e2", Private: ed},
		{Domain: "a.example", Selector: "r2", Private: rsa},
	})

	var got []string
	for _, k := range s.KeysFor("a.example", time.Now()) {
		got = append(got, k.Selector)
	}
	if want := "r1 r2 e1 e2"; strings.Join(got, " ") != want {
		t.Errorf("keys %v, want %s", got, want)
	}
}

// TestNamedPassesOverRunOutKeys: a key is found behind one that has run out.
func TestNamedPassesOverRunOutKeys(t *testing.T) {
	private := key(t, "ed25519", "x").Private
	at := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	s := NewSigner([]Key{
		{Domain: "a.example", Selector: "old", Private: private, NotAfter: at},
		{Domain: "a.example", Selector: "Next", Private: private, NotBefore: at.Add(1)},
		{Domain: "a.example", Selector: "Present", Private: private, NotBefore: at, NotAfter: at.Add(1)},
		{Domain: "b.example", Selector: "twice", Private: private},
		{Domain: "c.example", Selector: "Twice", Private: private},
		{Domain: "c.example", Selector: "gone", Private: private, Successor: "twice"},
	})

	for name, want := range map[string]string{
		"PRESENT":                      "Present",
		"present._domainkey.A.example": "Present",
		"Present._DOMAINKEY.a.example": "Present",
		"old":                          "",
		"old._domainkey.a.example":     "",
		"next":                         "",
		"a.example.":                   "Present",
		"twice":                        "",
		"twice._domainkey.c.example":   "Twice",
		"gone":                         "gone", // its successor is spelt otherwise, and none
		"":                             "",
	} {
		k, ok := s.Named(name, at)
		if k.Selector != want || ok != (want != "") {
			t.Errorf("key named %q: got %q %v, want %q", name, k.Selector, ok, want)
		}
	}
}

func TestSigningDomain(t *testing.T) {
	for value, want := range map[string]string{
		"v=1; a=rsa-sha256;\r\n\td = news.example.org ; s=x": "news.example.org",
		"d=a.example": "a.example",
		"v=1; s=d":    "",
		"":            "",
	} {
		if got := SigningDomain(value); got != want {
			t.Errorf("d= of %q is %q, want %q", value, got, want)
		}
	}
}

func TestBINDSplitsStrings(t *testing.T) {
	for _, c := range []struct {
		n    int
		want []int
	}{{1, []int{1}}, {254, []int{254}}, {255, []int{255}}, {256, []int{255, 1}}, {510, []int{255, 255}}, {511, []int{255, 255, 1}}} {
		want := "s._domainkey.example.org. IN TXT ("
		for _, n := range c.want {
			want += ` "` + strings.Repeat("v", n) + `"`
		}
		want += " )"
		if got := BIND("example.org", "s", strings.Repeat("v", c.n)); got != want {
			t.Errorf("%d bytes: got %s, want %s", c.n, got, want)
		}
	}
}
