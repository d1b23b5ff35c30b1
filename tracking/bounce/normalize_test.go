package bounce

import (
	"strings"
	"testing"
)

// TestNormalize: what is left of a reply are the words that the server chose.
func TestNormalize(t *testing.T) {
	for _, c := range []struct{ text, local, want string }{
		{"User Unknown", "", "user unknown"},
		{"a  b\t\r\nc", "", "a b c"},
		{"<a>[b]{c}\"d\",e;f|g=h`i/j\\k_l", "", "a b c d e f g h i j k l"},
		{"a\x01b\x1fc\x7fd", "", "a b c\x7fd"},
		{"(in reply to RCPT)", "", "(in reply to rcpt)"},
		{"()", "", ""},
		{"( x )", "", "(x )"},
		{"a)", "", "a)"},
		{"(a) b)", "", "(a) b)"},
		{"a(b)c", "", "a (b)c"},
		{"550 (#5.1.1)", "", "550 (#5.1.1)"},
		{"bob is unknown", "bob", "is unknown"},
		{"BOB: unknown", "bob", "unknown"},
		{"bobby unknown", "bob", "bobby unknown"},
		{"bob unknown", "", "bob unknown"},
		{"see https://example.com/a for more", "", "see for more"},
		{"see:https://example.com/a more", "", "see: more"},
		{"://x", "", ": x"},
		{"a ://x", "", "a : x"},
		{"x://y z", "", "x: y z"},
		{"ab://y z", "", "z"},
		{"www.example.com/user-unknown x", "", "x"},
		{"www. x", "", "www. x"},
		{"www.a", "", ""},
		{"WWW.example.com/a x", "", "x"},
		{"wwwx", "", "wwwx"},
		{"https://example.com/ä x", "", "x"},
		{"https://e.example/<x>", "", "x "},
		{"https://e.example/\"x", "", "x"},
		{"http://e.example\x01x", "", "x"},
		{"550-5.1.1 The mailbox\n550-5.1.1 is gone\n550 5.1.1 indeed", "", "550 5.1.1 the mailbox is gone 550 5.1.1 indeed"},
		{"550-User unknown", "", "550 user unknown"},
		{"x 550-user unknown", "", "x user unknown"},
		{"x 650-user", "", "x 650 user"},
		{"552-Quota", "", "552 quota"},
		{"x 452-4.2.2", "", "x "},
		{"mailboxNotFound", "", "mailbox not found"},
		{"MAILBOX", "", "mailbox"},
		{"user-unknown", "", "user unknown"},
		{"e-mail address", "", "email address"},
		{"an e-mail", "", "an email"},
		{"the-mail", "", "the mail"},
		{"unknown.Please", "", "unknown. please"},
		{"end. Next", "", "end. next"},
		{"end.", "", "end."},
		{"5.1.1", "", "5.1.1"},
		{"v1.x", "", ""},
		{"#SMTP.x", "", "#smtp. x"},
		{"RESOLVER.ADR.RecipNotFound; x", "", "resolver. adr. recip not found x"},
		{"1.RecipNotFound", "", ""},
		{"mx.example.com said no", "", "said no"},
		{"mx.example.com:25 said no", "", "said no"},
		{"host mx[192.0.2.1] said no", "", "host said no"},
		{"host mx (192.0.2.1) said no", "", "host said no"},
		{"host mx said no", "", "host mx said no"},
		{"Host: mx[192.0.2.1] no", "", "host: no"},
		{"host mx [x] no", "", "host mx x no"},
		{"example.com", "", ""},
		{"mx-1.corp", "", ""},
		{"mx.lan no", "", "no"},
		{"a.unheardof", "", "a. unheardof"},
		{"unknown.Com", "", "unknown. com"},
		{"192.0.2.1 no", "", "no"},
		{"192.0.2.0/24 no", "", "24 no"},
		{"[IPv6:2001:db8::1] no", "", "no"},
		{"192.0.2.1:25 no", "", "no"},
		{"[2001:db8::1]:25 no", "", ":25 no"},
		{"::1 no", "", "::1 no"},
		{"abcdef1234 no", "", "no"},
		{"abcdef123 no", "", "abcdef123 no"},
		{"abcdefgh12 no", "", "abcdefgh12 no"},
		{"abcdefg123 no", "", "no"},
		{"denied...7d39d5299584f4be no", "", "denied no"},
		{"a...b", "", "a. . . b"},
		{"...", "", ". . ."},
		{"<bob@b.example> unknown", "", "unknown"},
		{"bob@b.example... unknown", "", ". . . unknown"},
		{"\"a b\"@b.example unknown", "", "unknown"},
		{"x \"a@b.example unknown", "", "x unknown"},
		{"bob@[192.0.2.1] unknown", "", "unknown"},
		{"bob@[192.0.2.1 unknown", "", "unknown"},
		{"宛先bob@b.exampleは", "", "宛先 は"},
		{"(bob@b.example) x", "", "x"},
		{"a:bob@b.example: x", "", "a: : x"},
		{"bob@b_c.example x", "", "x"},
		{"bob@b.example. Next", "", ". next"},
		{"@ x", "", "x"},
		{"a@ x", "", "x"},
		{"a@b@c x", "", "x"},
		{"Subject: helo world\nnext", "", "subject next"},
		{"subject \"a b\" was", "", "subject was"},
		{"subject 'a b' was", "", "subject was"},
		{"subject (a b) was", "", "subject was"},
		{"subject [a b] was", "", "subject was"},
		{"subject <a b> was", "", "subject was"},
		{"subject of (a b) was", "", "subject was"},
		{"subject of the mail", "", "subject of the mail"},
		{"subject: \"a b\" was", "", "subject was"},
		{"subject:\ta", "", "subject"},
		{"subject", "", "subject"},
		{"subject:", "", "subject"},
		{"subject: ", "", "subject"},
		{"subject \"a b", "", "subject a b"},
		{"subject \"\" was", "", "subject was"},
		{"subject:\nnext", "", "subject next"},
		{"nosubject: a b", "", "nosubject: a b"},
		{"Subject: a\nSubject: b\nc", "", "subject subject c"},
		{"Betreff: Über a\nnext", "", "betreff next"},
		{"KKK Subject: a b", "", "kkk subject"},
		{"Straße ærlig Łódź Ørsted đ œuf ı ’x‘ “q” „r” «s» a–b a—b a‑b", "", "strasse aerlig lodz orsted d oeuf i 'x' q r s a b a b a b"},
		{"é ñ ﬁ", "", "e n fi"},
		{"不存在 x", "", "不存在 x"},
		{"Ⱥ Subject: a b", "", "ⱥ subject"},
		{"Subject: a a a\nBetreff: b\nc", "", "subject betreff c"},
		{"Betreff: a\nSubject \"b\" c", "", "betreff subject c"},
	} {
		t.Run(c.text, func(t *testing.T) {
			if got := normalize(c.text, c.local); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestNormalizeReadsABoundedPart: at the bound all is read, beyond it what
// stands in front.
func TestNormalizeReadsABoundedPart(t *testing.T) {
	const last = " user unknown"
	for n, want := range map[int]bool{maxText: true, maxText + 1: false} {
		text := strings.Repeat("a ", maxText)[:n-len(last)] + last
		if got := strings.HasSuffix(normalize(text, ""), last); got != want {
			t.Errorf("%d bytes: the end is read: %v, want %v", n, got, want)
		}
	}
	if maxText != 8<<10 {
		t.Errorf("%d bytes are read, want 8 KiB", maxText)
	}
}

// TestPrivateNames: names under domains that no registry has are hosts.
func TestPrivateNames(t *testing.T) {
	tops := []string{
		"arpa", "corp", "example", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain", "localhost", "test",
	}
	if len(testSuffixes) != len(tops) {
		t.Errorf("%d domains, want %d", len(testSuffixes), len(tops))
	}
	for _, top := range tops {
		for _, name := range []string{"spam." + top, "spam." + strings.ToUpper(top), "spam." + top + ":25"} {
			if !isHost(name) {
				t.Errorf("%s is not a host", name)
			}
		}
	}
	for name, want := range map[string]bool{
		"a.b":                                  false,
		"unknown.user":                         false,
		"no.such.user":                         true,
		"mail-1.unheardof":                     true,
		"mail1.unheardof":                      true,
		"a..com":                               false,
		".com":                                 false,
		"com":                                  false,
		"a_b.com":                              false,
		"5.1.1":                                false,
		"x.1":                                  false,
		"a.b:x":                                false,
		"bücher.de":                            true,
		"Unknown.Com":                          true,
		"SMTP.a.com":                           false,
		strings.Repeat("a.", 126) + "com":      true,
		strings.Repeat("a.", 126) + "com:1234": true,
		strings.Repeat("a.", 127) + "com":      false,
	} {
		if got := isHost(name); got != want {
			t.Errorf("%s is a host: got %v, want %v", name, got, want)
		}
	}
}

// TestErrorNamesOfExchange: the first words of Exchange's error names, with a
// hash or an apostrophe in front.
func TestErrorNamesOfExchange(t *testing.T) {
	names := []string{
		"AGENT", "APPROVAL", "MAPI", "PICKUP", "QUEUE", "RESOLVER", "ROUTING", "SMTP", "SMTPSEND", "STOREDRV", "TRANSPORT",
	}
	if len(exchangeCodes) != len(names) {
		t.Errorf("%d names, want %d", len(exchangeCodes), len(names))
	}
	for _, name := range names {
		for _, code := range []string{name + ".Expired", "#" + name + ".Expired", "'" + name + ".Expired"} {
			if got := normalize(code, ""); !strings.HasSuffix(got, ". expired") {
				t.Errorf("%s: got %q, want its words", code, got)
			}
		}
	}
}

// TestSubjectsInManyLanguages: a subject is left out, whatever the field is called.
func TestSubjectsInManyLanguages(t *testing.T) {
	names := []string{
		"Subject", "Betreff", "Objet", "Asunto", "Oggetto", "Onderwerp", "Assunto", "Temat", "Тема", "件名", "主题", "主旨",
	}
	if len(subjectNames) != len(names) {
		t.Errorf("%d names, want %d", len(subjectNames), len(names))
	}
	for _, name := range names {
		for _, field := range []string{name + ": user unknown", strings.ToUpper(name) + " \"user unknown\""} {
			if got := normalize(field+"\nmailbox full", ""); strings.Contains(got, "unknown") || !strings.HasSuffix(got, " mailbox full") {
				t.Errorf("%s: got %q, want what stands behind the subject", field, got)
			}
		}
	}
}

// TestAddressesAreTakenOutWhole: as long as an address may be, and no longer.
func TestAddressesAreTakenOutWhole(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
	}{
		{"the longest local part", "x " + strings.Repeat("l", maxLocal) + "@b.example y", "x   y"},
		{"one too long", "x " + strings.Repeat("l", maxLocal+1) + "@b.example y", "x l  y"},
		{"the longest domain", "x a@" + strings.Repeat("d", maxDomain) + " y", "x   y"},
		{"one too long, of a domain", "x a@" + strings.Repeat("d", maxDomain+1) + " y", "x  d y"},
		{"letters, digits and marks", "x a.b+c_d=e/f!g#h@b-c_d.e1 y", "x   y"},
		{"what ends a local part", "x<a@b y", "x<  y"},
		{"what ends a domain", "a@b/c", " /c"},
		{"an address literal", "a@[192.0.2.1]x", " x"},
		{"an at sign in a literal", "a@[b@c] x", "  x"},
		{"two addresses", "a@b,c@d", " , "},
		{"a quoted local part", `x "a, b"@c y`, "x   y"},
		{"a quotation mark alone", `x"@c y`, `x"  y`},
		{"no address", "nothing at all", "nothing at all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := cutAddresses(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestPhrasesAreWholeWords: a phrase is found at either end of a text, and
// inside of no word, unless it is written to go on.
func TestPhrasesAreWholeWords(t *testing.T) {
	for text, want := range map[string]string{
		"rbl":                                "blocklist",
		"an rbl":                             "blocklist",
		"rbl says":                           "blocklist",
		"(rbl)":                              "blocklist",
		"arbl":                               "",
		"rbls":                               "",
		"rb":                                 "",
		"":                                   "",
		"dmarcian":                           "authentication",
		"dmarc":                              "authentication",
		"xdmarc":                             "",
		"收件人不存在":                             "unknown_recipient",
		"用户不存在x":                             "unknown_recipient",
		"user unknown spf":                   "authentication",
		"vacation challenge response system": "challenge",
	} {
		t.Run(text, func(t *testing.T) {
			got := ""
			if i, _ := indexed().first(text); i >= 0 {
				got = lists[i].file
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestSaid: what words come to, and what is known of how far to believe them.
func TestSaid(t *testing.T) {
	for _, c := range []struct {
		text, recipient string
		want            Said
	}{
		{"nothing known", "", Said{}},
		{"over quota", "", Said{Verdict: Verdict{MailboxFull, false}, Found: true, First: true}},
		{"over quota, user unknown", "", Said{Verdict: Verdict{MailboxFull, false}, Found: true, First: true, Gone: true}},
		{"user unknown", "", Said{Verdict: Verdict{InvalidRecipient, true}, Found: true, Gone: true}},
		{"has moved", "", Said{Verdict: Verdict{InvalidRecipient, true}, Found: true, Loose: true, Gone: true}},
		{"recipient address rejected.", "", Said{Verdict: Verdict{InvalidRecipient, true}, Found: true, Weak: true, Gone: true}},
		{"message expired", "", Said{Verdict: Verdict{Timeout, false}, Found: true}},
		{"user unknown", "user@b.example", Said{Verdict: Verdict{InvalidRecipient, true}, Found: true, Gone: true}},
		{"helo helo", "helo@b.example", Said{}},
		{"spf: user unknown", "spf@b.example", Said{Verdict: Verdict{InvalidRecipient, true}, Found: true, Gone: true}},
		{"spf", "spf@b.example", Said{Verdict: Verdict{MailBlock, false}, Found: true, First: true}},
		{"550 <bob@b.example> unknown", "", Said{Verdict: Verdict{InvalidRecipient, true}, Found: true, Loose: true, Gone: true}},
		{"550 unknown", "bob@b.example", Said{}},
	} {
		t.Run(c.text+" "+c.recipient, func(t *testing.T) {
			if got := Words(c.text, c.recipient); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestContradicts: words that give another reason than a missing address, and
// say nothing of one.
func TestContradicts(t *testing.T) {
	for _, c := range []struct {
		said Said
		want bool
	}{
		{Said{}, false},
		{Said{Found: true}, true},
		{Said{Found: true, Gone: true}, false},
		{Said{Found: true, Verdict: Verdict{Hard: true}}, false},
		{Said{Verdict: Verdict{Class: MailBlock}}, false},
	} {
		if got := c.said.contradicts(); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.said, got, c.want)
		}
	}
}

// TestAddressAndHardlyAWord names every fault that counts behind a permanent
// reply code and an address alone.
func TestAddressAndHardlyAWord(t *testing.T) {
	faults := []string{
		"does not exist", "doesn't exist", "invalid", "is invalid", "is not found", "is not known", "is not known here",
		"is not valid", "is unknown", "not exist", "not found", "not known", "not known here", "not valid", "unknown",
		"was not found",
	}
	if len(addressFaults) != len(faults) {
		t.Errorf("%d faults, want %d", len(addressFaults), len(faults))
	}
	gone := Said{Verdict: Verdict{InvalidRecipient, true}, Found: true, Loose: true, Gone: true}
	for _, fault := range faults {
		if got := judgeAddress("550 " + fault); got != gone {
			t.Errorf("%s: got %+v, want %+v", fault, got, gone)
		}
	}

	for words, want := range map[string]Said{
		"550 5.1.1 : not found":               gone,
		"550 not found (in reply to rcpt to)": gone,
		"host said: 551 ('unknown')":          gone,
		"550":                                 {},
		"unknown":                             {},
		"450 unknown":                         {},
		"5500 unknown":                        {},
		"1550 unknown":                        {},
		"550x unknown":                        {},
		"x550 unknown":                        {},
		"550 sender unknown":                  {},
		"550 unknown 554 no more":             {},
		"554 what 550 unknown":                gone,
		"550 unknown. 1.2.553":                gone,
		"550 unknown address or something of mine": {},
	} {
		if got := judgeAddress(words); got != want {
			t.Errorf("%q: got %+v, want %+v", words, got, want)
		}
	}
}

// TestURLs: where a URL ends, and what its host is.
func TestURLs(t *testing.T) {
	for text, want := range map[string]int{
		"https://a.example/b c":   19,
		"https://a.example":       17,
		"http://a<b":              8,
		"http://a>b":              8,
		"http://a\"b":             8,
		"http://aäb":              8,
		"http://a\x7fb":           10,
		"http://a\tb":             8,
		"http://":                 7,
		"s3://a":                  6,
		"a://b":                   0,
		"://b":                    0,
		"http:/a":                 0,
		"http":                    0,
		"x-y://a":                 0,
		"":                        0,
		"www.a":                   5,
		"WWW.a b":                 5,
		"www.":                    0,
		"www.-":                   0,
		"www2.a":                  0,
		"abcdefghijklmnop://a b":  20,
		"abcdefghijklmnopq://a b": 0,
	} {
		if got := urlLength(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}

	for url, want := range map[string]string{
		"https://a.example/b": "a.example", "https://a.example?b": "a.example", "https://a.example#b": "a.example",
		"https://a.example:80/b": "a.example", "https://a.example)": "a.example", "https://a.example]": "a.example",
		"www.a.example/b": "www.a.example", "https://a": "a", "https:///b": "", "a": "a",
	} {
		if got := hostOfURL(url); got != want {
			t.Errorf("%s: got the host %q, want %q", url, got, want)
		}
	}
}

// TestAddressBehindAHost: an IP address in brackets, near enough.
func TestAddressBehindAHost(t *testing.T) {
	for rest, want := range map[string]bool{
		"[192.0.2.1] said": true, " (192.0.2.1)": true, "[IPv6:2001:db8::1]": true, "[192.0.2.1)": false, "(192.0.2.1]": false,
		"[192.0.2.1": false, "192.0.2.1": false, "[x]": false, "[": false, "": false, "[]": false, "<192.0.2.1>": false,
		"[::ffff:192.0.2.1%" + strings.Repeat("z", 44) + "]": true, "[::ffff:192.0.2.1%" + strings.Repeat("z", 45) + "]": true,
		"[::ffff:192.0.2.1%" + strings.Repeat("z", 46) + "]": false,
	} {
		if got := (&normalizer{rest: rest}).addressFollows(); got != want {
			t.Errorf("%q: got %v, want %v", rest, got, want)
		}
	}
}

// TestIdeographic: letters and punctuation of scripts without spaces between
// words, at the ends of each range.
func TestIdeographic(t *testing.T) {
	for r, want := range map[rune]bool{
		'a': false, 'é': false, 'я': false, 0x0DFF: false, 0x0E00: false, 'ก': true, 0x2FFF: false, 0x3000: true, '。': true,
		0x303F: true, 0x3040: false, 'あ': true, 'ア': true, '漢': true, '한': true, '１': false,
	} {
		if got := ideographic(r); got != want {
			t.Errorf("%U: got %v, want %v", r, got, want)
		}
		letter := r == 'a' || r == 'é' || r == 'я' || r == '１'
		if got := inWord(r); got != letter {
			t.Errorf("%U goes on in a word: got %v, want %v", r, got, letter)
		}
	}
}

// TestCutAddress parts an address at its last at sign.
func TestCutAddress(t *testing.T) {
	for address, want := range map[string][2]string{
		"bob@b.example":   {"bob", "b.example"},
		`"a@b"@c.example`: {`"a@b"`, "c.example"},
		"@b.example":      {"", "b.example"},
		"bob@":            {"bob", ""},
		"bob":             {"", ""},
		"":                {"", ""},
	} {
		if local, domain := cutAddress(address); local != want[0] || domain != want[1] {
			t.Errorf("%s: got %q and %q, want %q", address, local, domain, want)
		}
	}
}

// TestWhatIsNoWord: addresses of the network, ids and reply codes.
func TestWhatIsNoWord(t *testing.T) {
	for word, want := range map[string][3]bool{ // IP address, id, reply code
		"192.0.2.1":         {true, false, false},
		"192.0.2.1:25":      {true, true, false},
		"IPv6:2001:db8::1":  {true, true, false},
		"::1":               {true, false, false},
		"::":                {false, false, false},
		"1.2":               {false, false, false},
		"550":               {false, false, true},
		"499":               {false, false, true},
		"400":               {false, false, true},
		"399":               {false, false, false},
		"650":               {false, false, false},
		"55":                {false, false, false},
		"5500":              {false, false, false},
		"5x0":               {false, false, false},
		"abcdefg123":        {false, true, false},
		"abcdef123":         {false, false, false},
		"abcdefgh12":        {false, false, false},
		"abcdefg109":        {false, true, false},
		"unknownrecipients": {false, false, false},
	} {
		if got := [3]bool{isIP(word), isID(word), isReplyCode(word)}; got != want {
			t.Errorf("%s is an IP address, an id, a reply code: got %v, want %v", word, got, want)
		}
	}
}
