package relay

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestVirtualMTAs: where some are configured, a name is one of theirs, or of a
// pool.
func TestVirtualMTAs(t *testing.T) {
	vmtas, pools := []VirtualMTA{{Name: "v1"}, {Name: "v2"}}, []Pool{{Name: "p1"}, {Name: "p2"}}

	for _, c := range []struct {
		name, vmta string
		vmtas      []VirtualMTA
		pools      []Pool
		want       string
	}{
		{"nothing configured", "any", nil, nil, "250 2.1.1 taken"},
		{"VirtualMTA", "v2", vmtas, nil, "250 2.1.1 taken"},
		{"VirtualMTA among pools", "v2", vmtas, pools, "250 2.1.1 taken"},
		{"pool", "p2", nil, pools, "250 2.1.1 taken"},
		{"pool among VirtualMTAs", "p1", vmtas, pools, "250 2.1.1 taken"},
		{"unknown, with VirtualMTAs", "p1", vmtas, nil, `550 5.6.0 Unknown VirtualMTA "p1"`},
		{"unknown, with pools", "v1", nil, pools, `550 5.6.0 Unknown VirtualMTA "v1"`},
		{"other case", "V1", vmtas, pools, `550 5.6.0 Unknown VirtualMTA "V1"`},
		{"not printable", "v\x01", vmtas, pools, `550 5.6.0 Unknown VirtualMTA "v\x01"`},
		{"8-bit", "vü", vmtas, pools, `550 5.6.0 Unknown VirtualMTA "v??"`},
		{"255 bytes", strings.Repeat("v", 255), nil, nil, "250 2.1.1 taken"},
		{"256 bytes", strings.Repeat("v", 256), nil, nil, "550 5.6.0 The name of a VirtualMTA is longer than 255 bytes"},
		{"unknown, long", strings.Repeat("v", 255), vmtas, nil, `550 5.6.0 Unknown VirtualMTA "` + strings.Repeat("v", 100) + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Routes.VirtualMTAs, conf.Routes.Pools = c.vmtas, c.pools })
			if got := b.submit(submission(withFields("X-Virtual-MTA: "+c.vmta+"\r\n"), "a")); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestHeaderPolicy: more of what the header policy makes of a header block.
func TestHeaderPolicy(t *testing.T) {
	names := HeaderNames{MessageID: "X-Id", Job: "X-J", VirtualMTA: "X-V", Subaccount: "X-S"}

	for _, c := range []struct {
		name, in, want string
		user           User
		api            bool
		change         func(*Config)
	}{
		{name: "second VirtualMTA goes", in: "X-V: a\r\nX-V: b\r\nA: b\r\n", want: "X-V: a\r\nA: b\r\n"},
		{name: "X-Envid stays for PowerMTA", in: "X-Envid: e\r\nA: b\r\n", want: "X-Envid: e\r\nA: b\r\n"},
		{name: "line that is no field", in: "A b\r\nC: d\r\n", want: "A b\r\nC: d\r\n"},
		{name: "line that is no field, names left out", in: "A b\r\nC: d\r\n", want: "A b\r\nC: d\r\n", change: func(c *Config) { c.Headers.Names = HeaderNames{} }},
		{name: "last line without an end", in: "A: b", user: User{Job: "j"}, want: "A: b\r\nX-J: j\r\n"},
		{name: "nothing", in: "", user: User{Job: "j"}, want: "X-J: j\r\n"},
		{name: "job that needs making safe", in: "", user: User{Job: "a b"}, want: "X-J: a_b\r\n"},
		{name: "the user's job for another upstream", in: "A: b\r\n", user: User{Job: "j", VirtualMTA: "v"}, want: "A: b\r\n", change: func(c *Config) { c.Headers.PowerMTA = false }},
		{name: "empty job is the message's own", in: "X-J:\r\nA: b\r\n", user: User{Job: "j"}, want: "A: b\r\n"},
		{name: "campaign before the user's job", in: "X-MSYS-API: {\"campaign_id\":\"c\"}\r\n", user: User{Job: "j"}, api: true, want: "X-J: c\r\n"},
		{name: "no campaign", in: "X-MSYS-API: {}\r\n", user: User{Job: "j", VirtualMTA: "v"}, api: true, want: "X-J: j\r\nX-V: v\r\n"},
		{name: "campaign with a prefix", in: "X-MSYS-API: {\"campaign_id\":\"c\"}\r\n", user: User{JobPrefix: "p/"}, api: true, want: "X-J: p/c\r\n"},
		{name: "X-Job before the campaign", in: "X-J: own\r\nX-MSYS-API: {\"campaign_id\":\"c\"}\r\n", api: true, want: "X-J: own\r\n"},
		{name: "ip_pool before the user's VirtualMTA", in: "X-MSYS-API: {\"options\":{\"ip_pool\":\"p\"}}\r\n", user: User{VirtualMTA: "v"}, api: true, want: "X-V: p\r\n"},
		{name: "X-Virtual-MTA before ip_pool", in: "X-V: w\r\nX-MSYS-API: {\"options\":{\"ip_pool\":\"p\"}}\r\n", api: true, want: "X-V: w\r\n"},
		{name: "subaccount", in: "X-S: 7\r\n", want: "X-S: 7\r\n"},
		{name: "greatest subaccount", in: "X-S: 4294967295\r\n", want: "X-S: 4294967295\r\n"},
		{name: "subaccount too great", in: "X-S: 4294967296\r\n", want: ""},
		{name: "subaccount 1", in: "X-S: 1\r\n", want: "X-S: 1\r\n"},
		{name: "subaccount without a digit", in: "X-S: x\r\n", want: ""},
		{name: "two subaccounts", in: "X-S: 7\r\nX-S: 8\r\n", want: "X-S: 7\r\n"},
		{name: "subaccount for another upstream", in: "X-S: 7\r\nA: b\r\n", want: "A: b\r\n", change: func(c *Config) { c.Headers.PowerMTA = false }},
		{name: "the user's subaccount", in: "A: b\r\n", user: User{Subaccount: 9}, want: "A: b\r\nX-S: 9\r\n"},
		{name: "no name for subaccounts", in: "A: b\r\n", user: User{Subaccount: 9}, want: "A: b\r\n", change: func(c *Config) { c.Headers.Names.Subaccount = "" }},
		{name: "message id of the client", in: "x-id: y\r\nA: b\r\n", want: "A: b\r\n"},
		{name: "PowerMTA's fields for another upstream", in: "X-Sp-Any: x\r\nx-sp-any: y\r\nX-V: v\r\nX-Envid: e\r\nX-SpAny: z\r\nX-Sp: q\r\nX-Sp-: r\r\n", want: "X-SpAny: z\r\nX-Sp: q\r\nX-Sp-: r\r\n", change: func(c *Config) { c.Headers.PowerMTA = false }},
		{name: "PowerMTA's fields for PowerMTA", in: "X-Sp-Any: x\r\nX-V: v\r\n", want: "X-Sp-Any: x\r\nX-V: v\r\n"},
		{name: "job in other spelling keeps its bytes", in: "x-J:a\r\n", want: "x-J:a\r\n"},
		{name: "job behind two spaces", in: "X-J:  a\r\n", want: "X-J: a\r\n"},
		{name: "job with white space behind", in: "X-J: a \r\n", want: "X-J: a\r\n"},
		{name: "job with white space before the colon", in: "X-J : a\r\n", want: "X-J: a\r\n"},
		{name: "job without a line end", in: "X-J: a", want: "X-J: a"},
		{name: "job for another upstream", in: "X-J: a\r\n", want: "", change: func(c *Config) { c.Headers.PowerMTA = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) {
				conf.Headers.Names, conf.Headers.MsysAPI = names, c.api
				if c.change != nil {
					c.change(conf)
				}
			})
			p, err := b.relay.applyPolicy([]byte(c.in), c.user)
			if got := string(p.block); got != c.want || err != nil {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

// TestHeaderPolicyReads what the rest of the relay goes by.
func TestHeaderPolicyReads(t *testing.T) {
	b := newBench(t, nil)
	p, err := b.relay.applyPolicy([]byte("Subject:\r\nSubject: one\r\nSubject: two\r\nFrom: a@b.example\r\nSender: c@d.example\r\n"+
		"X-Envid: e\r\nX-Job: j k\r\nX-Virtual-MTA: v\r\n"), User{Subaccount: 3})
	if err != nil {
		t.Fatal(err)
	}
	if p.subject != "one" || p.envid != "e" || p.job != "j_k" || p.virtualMTA != "v" || p.subaccount != 3 ||
		p.origin.author().String() != "a@b.example" || p.origin.domain() != "d.example" || p.hasDate || p.hasMessageID || p.hasListUnsubscribe {
		t.Errorf("got %+v", p)
	}

	p, _ = b.relay.applyPolicy([]byte("Date: x\r\n"), User{})
	if !p.hasDate || p.hasMessageID || p.hasListUnsubscribe {
		t.Errorf("Date: got %+v", p)
	}
	p, _ = b.relay.applyPolicy([]byte("message-id: x\r\n"), User{})
	if p.hasDate || !p.hasMessageID || p.hasListUnsubscribe {
		t.Errorf("Message-ID: got %+v", p)
	}
	p, _ = b.relay.applyPolicy([]byte("List-Unsubscribe: x\r\n"), User{})
	if p.hasDate || p.hasMessageID || !p.hasListUnsubscribe {
		t.Errorf("List-Unsubscribe: got %+v", p)
	}
}

// TestFieldsThatNeverLeave, each of them.
func TestFieldsThatNeverLeave(t *testing.T) {
	b := newBench(t, nil)
	for _, name := range []string{"X-MSYS-API", "X-DKIM-Key", "X-DKIM-Options", "Bcc", "Resent-Bcc", "Return-Path"} {
		p, err := b.relay.applyPolicy([]byte(strings.ToLower(name)+": x\r\nA: b\r\n"), User{})
		if err != nil || string(p.block) != "A: b\r\n" {
			t.Errorf("%s: got %q, %v", name, p.block, err)
		}
		if got := originalFor([]byte(name+": x\r\nA: b\r\n"), nil, false); string(got.Header) != "A: b\r\n" {
			t.Errorf("%s is returned: %q", name, got.Header)
		}
	}
	if len(strippedFields) != 6 {
		t.Errorf("%d fields never leave: say so above", len(strippedFields))
	}
}

// TestInvalidSubaccountIsLogged.
func TestInvalidSubaccountIsLogged(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	b.submit(submission(withFields("X-Sp-Subaccount-Id: a\x01b\r\n"), "a"))
	got := lines.of(t, "invalid subaccount header removed")
	if len(got) != 1 {
		t.Fatalf("%d lines, want 1", len(got))
	}
	check(t, got[0], map[string]any{"level": "WARN", "user": "u", "value": "a?b"})
}

// TestTooManyFieldsIsTold.
func TestTooManyFieldsIsTold(t *testing.T) {
	b := newBench(t, nil)
	got := b.submit(submission(strings.Repeat("A: b\r\n", 2001)+"\r\n", "a"))
	if want := "550 5.6.0 Message has more than 2000 header fields"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCompleted: Date and Message-ID where they are missing, and a line end.
func TestCompleted(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 15, 0, time.FixedZone("", 3600))
	const date, id = "Date: Sun, 01 Mar 2026 12:30:15 +0100\r\n", "Message-ID: <ID@gw.example>\r\n"

	for _, c := range []struct{ in, want string }{
		{"A: b\r\n", "A: b\r\n" + date + id},
		{"A: b", "A: b\r\n" + date + id},
		{"", date + id},
		{"Date: x\r\n", "Date: x\r\n" + id},
		{"Message-ID: y\r\n", "Message-ID: y\r\n" + date},
		{"Date: x\r\nMessage-ID: y", "Date: x\r\nMessage-ID: y\r\n"},
		{"Date: x\r\nMessage-ID: y\r\n", "Date: x\r\nMessage-ID: y\r\n"},
	} {
		b := newBench(t, nil)
		p, err := b.relay.applyPolicy([]byte(c.in), User{})
		if err != nil {
			t.Fatal(err)
		}
		p.complete("gw.example", now)
		got := regexp.MustCompile(`<[0-9a-f]{32}@`).ReplaceAllString(string(p.block), "<ID@")
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}

	one, two := &headers{}, &headers{}
	one.complete("h", now)
	two.complete("h", now)
	if string(one.block) == string(two.block) {
		t.Error("two messages have one Message-ID")
	}
}

// TestIsPrintable holds ENVID to RFC 3461 section 4.4.
func TestIsPrintable(t *testing.T) {
	for c := range 0x100 {
		s := "a" + string([]byte{byte(c)})
		if got, want := isPrintable(s), c >= ' ' && c <= '~'; got != want {
			t.Errorf("isPrintable(%q) = %v, want %v", s, got, want)
		}
		if got, want := isPrintable(s[1:]), c >= ' ' && c <= '~'; got != want {
			t.Errorf("isPrintable(%q) = %v, want %v", s[1:], got, want)
		}
		if got, want := isToken(s), c > ' ' && c <= '~'; got != want {
			t.Errorf("isToken(%q) = %v, want %v", s, got, want)
		}
	}
	for n, want := range map[int]bool{0: false, 1: true, 100: true, 101: false} {
		if got := isPrintable(strings.Repeat("x", n)); got != want {
			t.Errorf("isPrintable of %d bytes = %v, want %v", n, got, want)
		}
	}
	if isToken("") {
		t.Error("nothing is a token")
	}
	if !isToken("!") {
		t.Error("one byte is a token")
	}
}
