package token

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fixedKeys are keys that are always the same, so that what they make can be
// held to the letter: links are followed for years.
func fixedKeys(t testing.TB) *Keys {
	t.Helper()
	var file []byte
	for id := byte(7); id <= 8; id++ {
		raw := make([]byte, 64)
		for i := range raw {
			raw[i] = id + byte(i)
		}
		file = fmt.Appendf(file, "%d 2026-01-02 %s\n", id, base64.StdEncoding.EncodeToString(raw))
	}
	k, err := parseKeys(file)
	if err != nil {
		t.Fatal(err)
	}

	return k
}

// fixedID is an id of 2026, the counter 0x0102 and the random 0x0304, under a key.
func fixedID(k *key) (id ID) {
	copy(id[:], []byte{0x01, 0xa0, 0x9b, 0xc4, 0x4f, 0x7b, 1, 2, 3, 4})
	mac := k.idMAC(id[:idSigned])
	copy(id[idSigned:], mac[:])

	return id
}

// TestFormat holds ids and tokens to the letter. What changes here orphans the
// links of every mail that was sent.
func TestFormat(t *testing.T) {
	k := fixedKeys(t)
	id := fixedID(k.newest())
	if got, want := id.String(), "agqjxrcppmaqeaye6wnwmnzpl4"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	for _, c := range []struct {
		name string
		tok  Token
		want string
	}{
		{"least", Token{Kind: Open, MessageID: id, Recipient: "a@b.example"}, "CCw0GqaUz3adGRu4iTWVG18rTfBQJdSe-YRg7KBuABi66tIwNFkm0"},
		{"for a host", Token{Kind: Open, MessageID: id, Recipient: "a@b.example", Host: "t.example"}, "COvY3m0JN9wVUBFcrzH8X2idO8cw7HzDNjolsg-y13iM53XKTbHe0"},
		{
			"all",
			Token{
				Kind:       Click,
				Host:       "t.example",
				MessageID:  id,
				Recipient:  "r@example.org",
				Subaccount: 300,
				Target:     "https://www.example.com/a?b=c",
				LinkName:   "top",
				Unreported: true,
			},
			"CFTI0xEHnUEi61phYijiPD0_d7QSFQG9qLVfXYuJT3s4YBg_n7foC4a6C4UdWBgJTT7T0",
		},
		{"an older key's id", Token{Kind: Probe, MessageID: fixedID(&k.keys[0]), Recipient: "x"}, "CNeLwENyTewsW2gj85hdTTo03FgpG0_AN6v4WReVKfuMc47x0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := k.Seal(c.tok); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got, err := k.Open(c.want, c.tok.Host); err != nil || got != c.tok {
				t.Errorf("got %+v, %v; want %+v", got, err, c.tok)
			}
		})
	}
}

// TestKinds holds the numbers, which are in tokens that live for years.
func TestKinds(t *testing.T) {
	want := map[Kind]string{
		1: "click",
		2: "open",
		3: "initial_open",
		4: "link_unsubscribe",
		5: "list_unsubscribe",
		6: "amp_click",
		7: "amp_open",
		8: "amp_initial_open",
		9: "probe",
	}
	k := fixedKeys(t)
	for kind := range Kind(16) {
		if got := kind.String(); got != want[kind] {
			t.Errorf("kind %d is %q, want %q", kind, got, want[kind])
		}
		tok, err := k.Open(k.Seal(Token{Kind: kind, MessageID: fixedID(k.newest()), Recipient: "x"}))
		if known := want[kind] != ""; (err == nil) != known || known && tok.Kind != kind || err != nil && !errors.Is(err, ErrToken) {
			t.Errorf("kind %d opens as %v, %v", kind, tok.Kind, err)
		}
	}
	for name, kind := range map[string]Kind{
		"click": Click, "open": Open, "initial_open": InitialOpen,
		"link_unsubscribe": LinkUnsubscribe, "list_unsubscribe": ListUnsubscribe,
		"amp_click": AmpClick, "amp_open": AmpOpen, "amp_initial_open": AmpInitialOpen, "probe": Probe,
	} {
		if kind.String() != name {
			t.Errorf("%s is %q", name, kind)
		}
	}
}

// TestDecodeRefuses what is sealed by the right key but is not a token: one of
// another format, or of a bug.
func TestDecodeRefuses(t *testing.T) {
	k := fixedKeys(t)
	id := fixedID(k.newest())
	signed := string(id[:idSigned])
	whole := string(id[:])
	for _, c := range []struct {
		name, plain string
		ok          bool
	}{
		{"nothing", "", false},
		{"a head alone", "\x02", false},
		{"half an id", "\x02" + signed[:9], false},
		{"an id and no recipient", "\x02" + signed, false},
		{"a recipient of no length", "\x02" + signed + "\x00", true},
		{"a recipient", "\x02" + signed + "\x01x", true},
		{"a recipient that is cut", "\x02" + signed + "\x02x", false},
		{"a recipient that is not a squeezed text", "\x02" + signed + "\x01\x00", false},
		{"half a whole id", "\x42" + whole[:15], false},
		{"a whole id", "\x42" + whole + "\x01x", true},
		{"no kind", "\x00" + signed + "\x01x", false},
		{"a kind to come", "\x0c" + signed + "\x01x", false},
		{"no subaccount", "\x12" + signed, false},
		{"a subaccount that does not end", "\x12" + signed + "\xff", false},
		{"the highest subaccount", "\x12" + signed + "\xff\xff\xff\xff\x0f\x01x", true},
		{"a subaccount beyond", "\x12" + signed + "\x80\x80\x80\x80\x10\x01x", false},
		{"no name", "\x22" + signed + "\x01x", false},
		{"a name", "\x22" + signed + "\x01x\x01n", true},
		{"a name that is cut", "\x22" + signed + "\x01x\x02n", false},
		{"a length that does not end", "\x02" + signed + "\xff", false},
		{"a length beyond all", "\x02" + signed + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", false},
		{"a target that is not a squeezed text", "\x02" + signed + "\x01x\xff", false},
		{"a target", "\x02" + signed + "\x01xtarget", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			newest := k.newest()
			sealed, err := newest.siv.EncryptDeterministically([]byte(c.plain), newest.associated(""))
			if err != nil {
				t.Fatal(err)
			}
			tok, err := k.Open(encodeText(append([]byte{newest.id}, sealed...)))
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrToken) {
				t.Errorf("got %+v, %v, want ok %v", tok, err, c.ok)
			}
			if err != nil && tok != (Token{}) {
				t.Errorf("got a part of it with the error: %+v", tok)
			}
			if c.ok && tok.MessageID != id {
				t.Errorf("got id %s, want %s", tok.MessageID, id)
			}
		})
	}
}

// TestOpenTellsWhy for the log of an operator.
func TestOpenTellsWhy(t *testing.T) {
	k := fixedKeys(t)
	tok := Token{Kind: Click, MessageID: fixedID(k.newest()), Recipient: "x"}
	other := k.Seal(tok)
	raw, _ := decodeText(other)
	raw[0] = 9
	for _, c := range []struct{ name, text, want string }{
		{"not base64url", "a b", "not base64url"},
		{"empty", "", "not base64url"},
		{"the filler alone", "0", "not base64url"},
		{"not base64url behind", "BwAA!AA", "not base64url"},
		{"another key's", encodeText(raw), "no such key: 9"},
		{"another host's", other, "does not verify for this host"},
		{"too long", strings.Repeat("A", MaxLength+1), "too long"},
	} {
		_, err := k.Open(c.text, "t.example")
		if !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if unknown := c.want == "no such key: 9"; errors.Is(err, ErrUnknownKey) != unknown {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

// TestLongestToken: what MaxLength lets in opens, one letter more does not.
func TestLongestToken(t *testing.T) {
	k := fixedKeys(t)
	longest, opened, refused := 0, 0, 0
	for n := 6105; n < 6120; n++ {
		tok := Token{Kind: Click, MessageID: fixedID(k.newest()), Recipient: "x", Target: strings.Repeat("Q", n)}
		text := k.Seal(tok)
		got, err := k.Open(text)
		switch {
		case len(text) <= 8192 && (err != nil || got != tok):
			t.Fatalf("%d letters: got %v", len(text), err)
		case len(text) > 8192 && !errors.Is(err, ErrToken):
			t.Fatalf("%d letters open", len(text))
		case err == nil:
			opened++
			longest = max(longest, len(text))
		default:
			refused++
		}
	}
	if opened == 0 || refused == 0 || longest != 8191 {
		t.Errorf("%d opened, the longest of %d letters, %d were refused", opened, longest, refused)
	}
}

func TestParseIDTellsWhy(t *testing.T) {
	k := fixedKeys(t)
	id := fixedID(k.newest())
	s := id.String()
	last := strings.IndexByte("abcdefghijklmnopqrstuvwxyz234567", s[25])
	spare := s[:25] + string("abcdefghijklmnopqrstuvwxyz234567"[last^1])
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "0 characters"},
		{"short", s[:25], "25 characters"},
		{"long", s + "a", "27 characters"},
		{"not base32", "1" + s[1:], "not base32"},
		{"spare bits", spare, "not canonical"},
		{"line ends in it", s[:24] + "\r\n", "not base32"},
		{"line ends all over", "\n\n" + s[:8] + "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", "not base32"},
		{"made up", "b" + s[1:], "does not verify"},
	} {
		got, err := k.ParseID(c.text)
		if !errors.Is(err, ErrID) || !strings.Contains(err.Error(), c.want) || got != (ID{}) {
			t.Errorf("%s: got %v, %v, want %q", c.name, got, err, c.want)
		}
	}
	for _, text := range []string{s, strings.ToUpper(s)} {
		if got, err := k.ParseID(text); err != nil || got != id {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
	}
	if got, err := k.ParseID(fixedID(&k.keys[0]).String()); err != nil || got != fixedID(&k.keys[0]) {
		t.Errorf("an older key's: got %s, %v", got, err)
	}
}

// TestIDsOfOneProcessDiffer, and start anywhere.
func TestIDsDiffer(t *testing.T) {
	k := fixedKeys(t)
	now := time.UnixMilli(1795500000123)
	seen := map[string]bool{}
	k.counter.Store(0xfffe)
	for i := range 5 {
		id := k.NewID(now)
		if got, want := binary.BigEndian.Uint16(id[6:8]), uint16(0xffff+i); got != want {
			t.Errorf("id %d has the counter %x, want %x", i, got, want)
		}
		seen[string(id[8:10])] = true
		if !k.verify(id) || !id.Time().Equal(now) {
			t.Errorf("id %s of %s", id, id.Time())
		}
	}
	starts := map[uint32]bool{}
	for range 5 {
		starts[fixedKeys(t).counter.Load()] = true
	}
	if len(starts) == 1 || len(seen) == 1 {
		t.Errorf("%d starts, %d random halves; want them to differ", len(starts), len(seen))
	}
	high := false
	for range 100 {
		high = high || fixedKeys(t).counter.Load() > 0xff
	}
	if !high {
		t.Error("the counter starts within 8 bits")
	}
	tok := Token{MessageID: k.NewID(now)}
	if !tok.Issued().Equal(now) {
		t.Errorf("issued %s, want %s", tok.Issued(), now)
	}
}

// TestMaxURLIsTheLongest token's to the letter.
func TestMaxURLIsTheLongest(t *testing.T) {
	k := fixedKeys(t)
	const base = "https://t.example/"
	for _, recipient := range []int{0, 1, 2, 3, 126, 127, 128, 129} {
		for _, name := range []int{0, 1, 127, 128} {
			for _, sublink := range []string{"", "app/x"} {
				tok := Token{
					Kind:       Click,
					MessageID:  fixedID(&k.keys[0]),
					Recipient:  strings.Repeat("Q", recipient),
					Subaccount: 1<<32 - 1,
					Target:     "https://www.QQQ",
					LinkName:   strings.Repeat("Z", name),
				}
				text := k.Seal(tok)
				got := len(SubURL(base, sublink, text))
				if len(text)%4 != 1 { // no filler
					got++
				}
				if want := MaxURL(base, recipient, tok.Target, tok.LinkName, sublink); got != want {
					t.Errorf("recipient of %d, name of %d, sublink %q: %d bytes, bound %d", recipient, name, sublink, got, want)
				}
			}
		}
	}
}

func TestURLs(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{URL("https://t.example", "abc"), "https://t.example/t/abc"},
		{URL("https://t.example/", "abc"), "https://t.example/t/abc"},
		{URL("https://t.example/x/", "abc"), "https://t.example/x/t/abc"},
		{SubURL("https://t.example/", "", "abc"), "https://t.example/t/abc"},
		{SubURL("https://t.example/", "app/x", "abc"), "https://t.example/t/app/x/abc"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

// TestCodes pins which bytes represent which texts.
func TestCodes(t *testing.T) {
	for i, want := range map[int]byte{0: 0x01, 1: 0x02, 0x1e: 0x1f, 0x1f: 0x7f, 0x20: 0x80} {
		if got := codeOf(i); got != want {
			t.Errorf("code %d is %#x, want %#x", i, got, want)
		}
	}
	if maxCommon != 159 || codeOf(maxCommon-1) != 0xfe {
		t.Errorf("%d codes, the last %#x; want 159, 0xfe", maxCommon, codeOf(maxCommon-1))
	}
	for _, c := range []struct {
		in   string
		want string
		ok   bool
	}{
		{"\x01x\x02", "https://www.xhttps://", true},
		{"~ ", "~ ", true},
		{"\xff\x00\xff\xff", "\x00\xff", true},
		{"a\xff", "", false},
		{"\x00", "", false},
	} {
		got, err := unsqueeze([]byte(c.in))
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: got %q, %v, want %q, ok %v", c.in, got, err, c.want, c.ok)
		}
	}
	for c := range 256 {
		text, err := unsqueeze([]byte{byte(c)})
		switch printable := c >= ' ' && c <= '~'; {
		case printable && text != string(rune(c)):
			t.Errorf("%q becomes %q", rune(c), text)
		case c == escape && err == nil, !printable && c != escape && (textOf[c] == "") == (err == nil):
			t.Errorf("byte %#x becomes %q, %v", c, text, err)
		}
	}
}

// TestSqueezeTakesTheLongest common text, and escapes what is not printable.
func TestSqueezeTakesTheLongest(t *testing.T) {
	for in, want := range map[string]string{
		"https://www.":      "\x01",
		"https://www":       "\x02www",
		"http://www.":       "\x03",
		"&utm_medium=x":     string([]byte{codeOf(slices.Index(common, "&utm_medium="))}) + "x",
		"&utm_medium=email": string([]byte{codeOf(slices.Index(common, "&utm_medium=email"))}),
		" ~":                " ~",
		"\x1f\x7f":          "\xff\x1f\xff\x7f",
		"h":                 "h",
		"":                  "",
	} {
		if got := string(squeeze(nil, in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if got := Squeezed(in); got != len(want) {
			t.Errorf("%q takes %d bytes, want %d", in, got, len(want))
		}
	}
	if got := squeeze([]byte("before"), "x"); string(got) != "beforex" {
		t.Errorf("got %q", got)
	}
}

// TestKeysAreSafeForConcurrentUse: ids differ, and tokens open.
func TestKeysAreSafeForConcurrentUse(t *testing.T) {
	k := fixedKeys(t)
	now := time.Now()
	var mu sync.Mutex
	seen := map[ID]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				id := k.NewID(now)
				tok := Token{Kind: Open, MessageID: id, Recipient: "x"}
				if got, err := k.Open(k.Seal(tok)); err != nil || got != tok {
					t.Errorf("got %+v, %v", got, err)
				}
				mu.Lock()
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 400 {
		t.Errorf("%d different ids, want 400", len(seen))
	}
}
