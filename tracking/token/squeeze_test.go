package token

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"hash/crc32"
	"html"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCommon holds the list, a part of the format, to what it is: its codes,
// and its text by a checksum, so that nobody changes it by accident.
func TestCommon(t *testing.T) {
	if len(common) > maxCommon {
		t.Fatalf("%d texts", len(common))
	}
	seen := map[byte]bool{}
	for i, s := range common {
		c := codeOf(i)
		if seen[c] || c == 0 || c == escape || c >= ' ' && c <= '~' {
			t.Errorf("%q has code %#x", s, c)
		}
		seen[c] = true
		if got := squeeze(nil, s); !bytes.Equal(got, []byte{c}) {
			t.Errorf("%q squeezes to %x", s, got)
		}
	}
	if got, want := squeeze(nil, "https://www.x\u00e4"), "\x01x\xff\xc3\xff\xa4"; string(got) != want {
		t.Errorf("%x, want %x", got, want)
	}
	if sum := crc32.ChecksumIEEE([]byte(strings.Join(common, " "))); sum != 0x320240c4 {
		t.Errorf("the list has changed: %#x; links that were sent would not open", sum)
	}
}

func FuzzSqueeze(f *testing.F) {
	for _, s := range []string{"", "https://www.example.com/?utm_source=x&utm_medium=email", "reader@gmail.com", "\x00\x7f\xff\u00e4", "news%20letter"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := squeeze(nil, s)
		if len(b) != squeezedLen(s) || len(b) > 2*len(s) {
			t.Fatalf("%d bytes for %d", len(b), len(s))
		}
		if got, err := unsqueeze(b); err != nil || got != s {
			t.Fatalf("%q, %v", got, err)
		}
		text, err := unsqueeze([]byte(s))
		if err != nil {
			return
		}
		if got, err := unsqueeze(squeeze(nil, text)); err != nil || got != text {
			t.Fatalf("%q reads as %q, and that squeezed as %q, %v", s, text, got, err)
		}
	})
}

// TestMaxURL: no token's URL is longer than its bound.
func TestMaxURL(t *testing.T) {
	k, _ := newKeys(t)
	for _, c := range []Token{
		{Kind: Click, Target: "https://www.example.com/?utm_source=a", Recipient: "a@b.example"},
		{Kind: Click, Target: "http://\u00e4\u00f6\u00fc.example/\u20ac", LinkName: "n\u00e4me", Recipient: strings.Repeat("x", 60) + "@gmail.com", Subaccount: 1<<32 - 1},
		{Kind: Open, Recipient: "a@b.example", MessageID: ID{1, 2, 3}, Unreported: true},
	} {
		if c.MessageID == (ID{}) {
			c.MessageID = k.NewID(time.Now())
		}
		const base, sublink = "https://t.example/", "app/x"
		got := len(SubURL(base, sublink, k.Seal(c)))
		bound := MaxURL(base, Squeezed(c.Recipient), c.Target, c.LinkName, sublink)
		if got > bound || bound > got+16 {
			t.Errorf("%+v: %d, bound %d", c, got, bound)
		}
	}
}

// TestOtherKeysID: an id that the token's key did not make is carried whole.
func TestOtherKeysID(t *testing.T) {
	old, file := newKeys(t)
	id := old.NewID(time.Now())
	if _, err := AddKey(file, time.Now()); err != nil {
		t.Fatal(err)
	}
	both, err := ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	tok := Token{Kind: Open, MessageID: id, Recipient: "a@b.example"}
	if got, err := both.Open(both.Seal(tok)); err != nil || got != tok {
		t.Errorf("%+v %v", got, err)
	}
}

// corpusLinks are the links of the corpus' HTML.
func corpusLinks(t testing.TB) []string {
	t.Helper()
	href := regexp.MustCompile(`(?i)href\s*=\s*"(https?://[^"\s]+)"`)
	var out []string
	err := filepath.WalkDir("../rewrite/testdata/corpus/html", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range href.FindAllSubmatch(b, -1) {
			out = append(out, html.UnescapeString(string(m[1])))
		}
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatal(len(out), err)
	}
	return out
}

// plainLink is the path of a link as the tuck1s tracker makes it: JSON, zlib,
// base64url.
func plainLink(t testing.TB, target, rcpt string, id ID) int {
	t.Helper()
	b, err := json.Marshal(struct {
		Action string `json:"act"`
		Target string `json:"t_url"`
		ID     string `json:"m_id"`
		Rcpt   string `json:"rcpt"`
	}{"c", target, id.String(), rcpt})
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(b)
	w.Close()
	return base64.URLEncoding.EncodedLen(z.Len())
}

// TestLengths gives the distribution of token lengths over the corpus' links,
// beside a format that is not sealed, and wants ours shorter on average.
func TestLengths(t *testing.T) {
	k, _ := newKeys(t)
	rcpts := []string{"reader@gmail.com", "maria.rossi@example.org", "j.m.van.den.berg@customers.example.co.uk"}
	var ours, theirs, targets []int
	for i, l := range corpusLinks(t) {
		tok := Token{Kind: Click, MessageID: k.NewID(time.Now()), Recipient: rcpts[i%len(rcpts)], Target: l}
		ours = append(ours, len(k.Seal(tok)))
		theirs = append(theirs, plainLink(t, l, tok.Recipient, tok.MessageID))
		targets = append(targets, len(l))
	}
	mean := func(a []int) float64 {
		sum := 0
		for _, n := range a {
			sum += n
		}
		return float64(sum) / float64(len(a))
	}
	for name, a := range map[string][]int{"targets": targets, "sealed": ours, "zlib JSON": theirs} {
		s := slices.Sorted(slices.Values(a))
		t.Logf("%-10s mean %.1f, min %d, p10 %d, p50 %d, p90 %d, p99 %d, max %d", name, mean(a), s[0], s[len(s)/10], s[len(s)/2], s[len(s)*9/10], s[len(s)*99/100], s[len(s)-1])
	}
	if mean(ours) >= mean(theirs) {
		t.Error("sealed tokens are longer")
	}
}
