package relay

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/reply"
)

// TestOriginators: what is made of From and Sender where nobody is held to
// domains.
func TestOriginators(t *testing.T) {
	for _, c := range []struct {
		name         string
		from, sender []string
		author       string
		domain       string
		unclear      string
	}{
		{"From", []string{"News <a@B.example>"}, nil, "a@B.example", "b.example", ""},
		{"first of several", []string{"a@b.example, c@d.example"}, nil, "a@b.example", "b.example", ""},
		{"Sender", []string{"a@b.example"}, []string{"c@d.example"}, "a@b.example", "d.example", ""},
		{"U-label", []string{"a@bücher.example"}, nil, "a@bücher.example", "xn--bcher-kva.example", ""},
		{"A-label", []string{"a@xn--bcher-kva.example"}, nil, "a@xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		{"no From", nil, nil, "", "", ""},
		{"no From, and a Sender", nil, []string{"c@d.example"}, "", "", ""},
		{"unclear From", []string{"<<a@b.example>"}, nil, "", "", "From"},
		{"unclear From, and a Sender", []string{"<<a@b.example>"}, []string{"c@d.example"}, "", "", "From"},
		{"unclear Sender", []string{"a@b.example"}, []string{"c@d.example (<e@f.example>)"}, "a@b.example", "", "Sender"},
		{"empty Sender", []string{"a@b.example"}, []string{""}, "a@b.example", "", "Sender"},
		{"two From fields", []string{"a@b.example", "a@b.example"}, nil, "", "", "From"},
		{"two Sender fields", []string{"a@b.example"}, []string{"a@b.example", "a@b.example"}, "a@b.example", "", "Sender"},
		{"name to be quoted", []string{"Ex, Inc. <a@b.example>"}, nil, "a@b.example", "b.example", "From"},
		{"name to be quoted in Sender", []string{"a@b.example"}, []string{"Ex, Inc. <c@d.example>"}, "a@b.example", "d.example", "Sender"},
		{"address as name in Sender", []string{"a@b.example"}, []string{"e@f.example <c@d.example>"}, "a@b.example", "", "Sender"},
		{"two mailboxes in Sender", []string{"a@b.example"}, []string{"a@b.example, c@d.example"}, "a@b.example", "", "Sender"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := readOriginators(occurrencesOf(c.from), occurrencesOf(c.sender))
			if got := o.author().String(); got != c.author || o.domain() != c.domain || o.unclear != c.unclear {
				t.Errorf("got author %q, domain %q, unclear %q, want %q, %q, %q",
					got, o.domain(), o.unclear, c.author, c.domain, c.unclear)
			}
		})
	}
}

// TestSubmitRefusesForeignFrom: a user that is held to allowed.example may send
// as that domain alone, and a From or Sender that can be read in two ways is
// not sent at all.
func TestSubmitRefusesForeignFrom(t *testing.T) {
	long := strings.Repeat("a", 65)

	for _, c := range []struct {
		name, header string
		code         int
		words        string // in a refusal
	}{
		{"own domain", "From: a@allowed.example\r\n", 250, ""},
		{"upper case", "FROM: A@ALLOWED.EXAMPLE\r\n", 250, ""},
		{"space before the colon", "From : a@allowed.example\r\n", 250, ""},
		{"folded", "From:\r\n News\r\n\t<a@allowed.example>\r\n", 250, ""},
		{"comment", "From: a@allowed.example (News)\r\n", 250, ""},
		{"group", "From: Team: a@allowed.example;\r\n", 250, ""},
		{"encoded words", "From: =?utf-8?q?ceo=40example.com?= <a@allowed.example>\r\n", 250, ""},
		{"foreign address as quoted name", "From: \"ceo@example.com\" <a@allowed.example>\r\n", 250, ""},
		{"quoted local part", "From: \"odd one\"@allowed.example\r\n", 250, ""},
		{"long local part", "From: " + long + "@allowed.example\r\n", 250, ""},
		{"Sender", "From: a@allowed.example\r\nSender: b@allowed.example\r\n", 250, ""},

		{"foreign", "From: ceo@example.com\r\n", 550, "as ceo@example.com (From)"},
		{"foreign, space before the colon", "From\t: ceo@example.com\r\n", 550, "as ceo@example.com (From)"},
		{"foreign, folded", "From: News <ceo@\r\n example.com>\r\n", 550, "From"},
		{"foreign in a group", "From: Team: ceo@example.com;\r\n", 550, "as ceo@example.com (From)"},
		{"second author", "From: a@allowed.example, ceo@example.com\r\n", 550, "as ceo@example.com (From)"},
		{"second author in a group", "From: a@allowed.example, T: ceo@example.com;\r\n", 550, "as ceo@example.com (From)"},
		{"second From field", "From: a@allowed.example\r\nFrom: ceo@example.com\r\n", 550, "From"},
		{"foreign Sender", "From: a@allowed.example\r\nSender: ceo@example.com\r\n", 550, "as ceo@example.com (Sender)"},
		{"foreign second Sender", "From: a@allowed.example\r\nSender: a@allowed.example\r\nSender: ceo@example.com\r\n", 550, "Sender"},
		{"address in a comment", "From: \"a@b\"@allowed.example (<ceo@example.com>)\r\n", 550, "From"},
		{"long local part and a comment", "From: " + long + "@allowed.example (<ceo@example.com>)\r\n", 550, "From"},
		{"address in the local part", "From: \"a<ceo@example.com>\"@allowed.example\r\n", 550, "From"},
		{"address before the bracket", "From: ceo@example.com <a@allowed.example>\r\n", 550, "From"},
		{"address behind the bracket", "From: <a@allowed.example> ceo@example.com\r\n", 550, "From"},
		{"second bracket", "From: <a@allowed.example> <ceo@example.com>\r\n", 550, "From"},
		{"obsolete route", "From: <@example.com:a@allowed.example>\r\n", 550, "From"},
		{"trailing dot", "From: a@allowed.example.\r\n", 550, "From"},
		{"address literal", "From: a@[192.0.2.1]\r\n", 550, "as a@[192.0.2.1] (From)"},
		{"empty group", "From: Team:;\r\n", 550, "From"},
		{"empty From", "From:\r\n", 550, "From"},
		{"no From", "Subject: x\r\n", 550, "From"},
		{"8-bit domain", "From: a@allowed\xfc.example\r\n", 550, "From"},
		{"display name alone", "From: News\r\n", 550, "From"},
		{"name to be quoted", "From: Allowed, Inc. <a@allowed.example>\r\n", 550, `its display name has to be quoted, as in "Example, Inc." <user@domain>`},
		{"address as name", "From: ceo@example.com <a@allowed.example>\r\n", 550, "its display name has to be quoted"},
		{"name to be quoted in Sender", "From: a@allowed.example\r\nSender: A, B <a@allowed.example>\r\n", 550, "its display name has to be quoted"},
		{"name to be quoted and a foreign domain", "From: Ex, Inc. <ceo@example.com>\r\n", 550, "From"},
		{"comment in Sender", "From: a@allowed.example\r\nSender: a@allowed.example (<ceo@example.com>)\r\n", 550, "Sender"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			s := submission(c.header+"Date: x\r\nMessage-ID: <1@x>\r\n\r\nx\r\n", "r")
			s.User.FromDomains = []string{"allowed.example"}
			s.Envelope.From = envelope.Address{}

			answer := b.relay.Submit(context.Background(), s)
			if answer.Code != c.code || !strings.Contains(answer.Text, c.words) {
				t.Fatalf("got %v, want %d and %q", answer, c.code, c.words)
			}
			if c.code == 550 && (answer.Enhanced != (reply.EnhancedCode{5, 7, 1}) || len(b.up.got) != 0) {
				t.Errorf("got %v and %d copies, want 5.7.1 and none", answer, len(b.up.got))
			}
			for _, sent := range b.up.got {
				if bytes.HasPrefix(sent.Message[0], []byte("DKIM-Signature")) {
					t.Errorf("signed for another domain:\n%s", sent.Message[0])
				}
			}
			if c.code == 250 && !strings.HasSuffix(strings.ToLower(b.rec.events[0].FriendlyFrom), "@allowed.example") {
				t.Errorf("friendly_from %q", b.rec.events[0].FriendlyFrom)
			}
		})
	}
}

// TestKeysOfOthers: a signature is for those only who may send as its domain.
func TestKeysOfOthers(t *testing.T) {
	for _, c := range []struct {
		name    string
		domains []string // of the user; none: held to nothing
		from    string
		api     string // dkim_key
		own     string // dkim_key of the user
		keys    []string
		want    string // d= of the signature; empty: none
		code    int    // 0: 250
	}{
		{name: "own domain", domains: []string{"held.example"}, from: "a@held.example", keys: []string{"held.example"}, want: "held.example"},
		{name: "parent's key", domains: []string{"a.held.example"}, from: "a@a.held.example", keys: []string{"held.example"}, want: "held.example"},
		{name: "pattern", domains: []string{"*.held.example"}, from: "a@x.held.example", keys: []string{"held.example"}, want: "held.example"},
		{name: "child's key by name", domains: []string{"held.example"}, from: "a@held.example", keys: []string{"x.held.example"}, api: "x.held.example", want: "x.held.example"},
		{name: "another's key by name", domains: []string{"held.example"}, from: "a@held.example", keys: []string{"free.example"}, api: "free.example", code: 550},
		{name: "any domain", domains: []string{"*"}, from: "a@free.example", keys: []string{"free.example"}, want: "free.example"},
		{name: "the operator's choice", from: "a@free.example", own: "held.example", keys: []string{"held.example"}, want: "held.example"},

		{name: "U-label", from: "a@BÜCHER.example", keys: []string{"xn--bcher-kva.example"}, want: "xn--bcher-kva.example"},
		{name: "a domain that nobody is held to", from: "a@free.example", keys: []string{"free.example"}, want: "free.example"},
		{name: "the same by name", from: "a@other.example", keys: []string{"free.example"}, api: "free.example", want: "free.example"},
		{name: "a held domain", from: "a@held.example", keys: []string{"held.example"}},
		{name: "a held domain in upper case", from: "a@HELD.example", keys: []string{"held.example"}},
		{name: "a held domain by name", from: "a@free.example", keys: []string{"held.example"}, api: "held.example", code: 550},
		{name: "below a held domain", from: "a@x.held.example", keys: []string{"x.held.example"}},
		{name: "the parent's key for a held domain", from: "a@a.part.example", keys: []string{"part.example"}},
		{name: "the parent of a held domain", from: "a@part.example", keys: []string{"part.example"}, want: "part.example"},
		{name: "the parent's key by name for a held domain", from: "a@a.part.example", keys: []string{"part.example"}, api: "part.example", code: 550},
		{name: "a held domain second", from: "a@free.example, b@held.example", keys: []string{"free.example"}},
		{name: "name to be quoted", from: "Free, Inc. <a@free.example>", keys: []string{"free.example"}, want: "free.example"},
		{name: "name to be quoted, a held domain", from: "Ex, Inc. <a@held.example>", keys: []string{"held.example"}},
		{name: "address as name", from: "a@nokey.example <a@free.example>", keys: []string{"free.example"}, want: "free.example"},
		{name: "address of a held domain as name", from: "a@a.part.example <a@part.example>", keys: []string{"part.example"}},
		{name: "From that cannot be read", from: "<a@free.example> x", keys: []string{"free.example"}},
		{name: "From that cannot be read, by name", from: "<@x.example:a@a.part.example>", keys: []string{"part.example"}, api: "part.example"},
		{name: "an address in a comment", from: "a@nokey.example (<a@free.example>)", keys: []string{"free.example"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, require := range []bool{false, true} {
				b := newBench(t, func(conf *Config) {
					var keys []dkim.Key
					for _, d := range c.keys {
						keys = append(keys, dkim.Key{Domain: d, Selector: "s", Private: testKey()})
					}
					conf.Signing.Signer, conf.Headers.MsysAPI, conf.Signing.Require = dkim.NewSigner(keys), true, require
					conf.Holders = NewHeldDomains([]string{"held.example", "a.part.example"})
				})
				header := "From: " + c.from + "\r\nDate: x\r\nMessage-ID: <1@x>\r\n"
				if c.api != "" {
					header += `X-MSYS-API: {"options":{"dkim_key":"` + c.api + "\"}}\r\n"
				}
				s := submission(header+"\r\nx\r\n", "r")
				s.Envelope.From = envelope.Address{}
				s.User.FromDomains, s.User.DKIMKey = c.domains, c.own

				code := c.code
				switch {
				case code == 0 && c.want == "" && require:
					code = 550
				case code == 0:
					code = 250
				}
				answer := b.relay.Submit(context.Background(), s)
				if answer.Code != code {
					t.Fatalf("require %v: got %v, want %d", require, answer, code)
				}
				if code == 550 && c.code == 0 && answer.Enhanced != (reply.EnhancedCode{5, 7, 20}) {
					t.Errorf("require %v: got %v, want 5.7.20", require, answer)
				}
				if code == 250 {
					if got := signedBy(b.up.got[0].Message[0]); got != c.want {
						t.Errorf("require %v: signed by %q, want %q", require, got, c.want)
					}
				}
			}
		})
	}
}

// signedBy returns the d= of a message's signature; empty: it has none.
func signedBy(msg []byte) string {
	m := regexp.MustCompile(`(?m)^DKIM-Signature: [^;]*;[^;]*;[^;]*;\s*d=([^;]*);`).FindSubmatch(msg)
	if m == nil {
		return ""
	}
	return string(m[1])
}

// TestHoldersChange: who is held to what is asked for each message.
func TestHoldersChange(t *testing.T) {
	holders := &changingHolders{NewHeldDomains(nil)}
	b := newBench(t, func(c *Config) { c.Holders = holders })

	for _, held := range []string{"other.example", "example.com"} {
		holders.HeldDomains = NewHeldDomains([]string{held})
		b.relay.Submit(context.Background(), submission(htmlMessage, "a"))
	}
	got := fmt.Sprintf("%s, %s", signedBy(b.up.got[0].Message[0]), signedBy(b.up.got[1].Message[0]))
	if got != "example.com, " {
		t.Errorf("signed by %q, want the first alone", got)
	}
}

type changingHolders struct{ *HeldDomains }

// TestTrackingHostOfOthers: a rule's host and a filter's subaccount are for
// those only who may send as the domain; the rest of the rule is for all.
func TestTrackingHostOfOthers(t *testing.T) {
	no := false

	for _, c := range []struct {
		name    string
		domains []string
		header  string
		url     string
		click   bool
		sub     uint32
	}{
		{"who is held to it", []string{"held.example"}, "From: a@held.example\r\n", "https://click.held.example", false, 7},
		{"another", nil, "From: a@held.example\r\n", "https://t.example", false, 0},
		{"another, by Sender", nil, "From: a@free.example\r\nSender: a@held.example\r\n", "https://t.example", false, 0},
		{"a domain that nobody is held to", nil, "From: a@free.example\r\n", "https://click.free.example", true, 8},
		{"From that cannot be read", nil, "From: a@x.example (<a@free.example>)\r\n", "https://t.example", true, 0},
		{"Sender that cannot be read", nil, "From: a@free.example\r\nSender: x\r\n", "https://t.example", true, 0},
		{"U-label", nil, "From: a@bücher.example\r\n", "https://click.buch.example", true, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) {
				conf.Holders = NewHeldDomains([]string{"held.example"})
				conf.Tracking.Rules = []TrackingRule{
					{Pattern: "held.example", URL: "https://click.held.example", Click: &no},
					{Pattern: "free.example", URL: "https://click.free.example"},
					{Pattern: "xn--bcher-kva.example", URL: "https://click.buch.example"},
				}
				conf.Signals = Signals{Enable: EnableFilter, Filters: []SignalsFilter{
					{Pattern: "held.example", Enable: true, Subaccount: 7},
					{Pattern: "free.example", Enable: true, Subaccount: 8},
					{Pattern: "bücher.example", Enable: true, Subaccount: 9},
				}}
			})
			s := submission(c.header+"\r\nx\r\n", "r")
			s.User.FromDomains = c.domains

			s.Envelope.From = envelope.Address{}

			m, err := b.relay.prepare(s, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if m.route.tracking.URL != c.url || m.route.tracking.Click != c.click || m.route.subaccount != c.sub {
				t.Errorf("got %+v and subaccount %d, want %s, click %v and %d",
					m.route.tracking, m.route.subaccount, c.url, c.click, c.sub)
			}
		})
	}
}

// TestUnsignedIsLogged: one line a minute and domain names user and domain.
func TestUnsignedIsLogged(t *testing.T) {
	var log bytes.Buffer
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := newBench(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.Now = func() time.Time { return now }
	})
	send := func(domain string) {
		b.relay.Submit(context.Background(), submission("From: a@"+domain+"\r\n\r\nx\r\n", "r"))
	}

	send("other.example")
	send("other.example")
	send("third.example")
	now = now.Add(time.Minute)
	send("other.example")

	got := regexp.MustCompile(`without a DKIM signature.* user=u domain=(\S+)`).FindAllStringSubmatch(log.String(), -1)
	var domains []string
	for _, m := range got {
		domains = append(domains, m[1])
	}
	if want := "other.example third.example other.example"; strings.Join(domains, " ") != want {
		t.Errorf("logged %q, want %q in\n%s", domains, want, log.String())
	}
}

func TestNotesAreBounded(t *testing.T) {
	var n notes
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

	for i := range maxNotes {
		if !n.due(fmt.Sprint(i), now) {
			t.Fatalf("subject %d is not due", i)
		}
	}
	if n.due("one more", now) || len(n.last) != maxNotes {
		t.Errorf("%d subjects remembered, want %d", len(n.last), maxNotes)
	}
	if !n.due("one more", now.Add(noteEvery)) || len(n.last) != 1 {
		t.Errorf("%d subjects remembered after %s, want 1", len(n.last), noteEvery)
	}
}

// occurrencesOf returns a field that is present with each of the values.
func occurrencesOf(values []string) occurrence {
	o := occurrence{n: len(values)}
	if len(values) > 0 {
		o.value = values[0]
	}
	return o
}
