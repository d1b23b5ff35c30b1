package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/dkim"
	"postern/relay/envelope"
)

// TestUsersKeyIsAway: the operator hears of a key that a user should sign with
// and is not there, once a minute.
func TestUsersKeyIsAway(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b, lines := newLoggingBench(t, func(c *Config) { c.Now = func() time.Time { return now } })
	send := func() string {
		s := submission(htmlMessage, "a")
		s.User.DKIMKey = "none"
		b.submit(s)
		return signedBy(b.up.got[len(b.up.got)-1].Message[0])
	}

	if got := send(); got != "example.com" {
		t.Errorf("signed by %q, want the From domain", got)
	}
	now = now.Add(time.Minute - time.Second)
	send()
	got := lines.of(t, "the user's dkim_key is missing; the key of the From domain is used")
	if len(got) != 1 {
		t.Fatalf("%d lines within a minute, want 1", len(got))
	}
	check(t, got[0], map[string]any{"level": "ERROR", "user": "u", "dkim_key": "none"})
	now = now.Add(time.Second)
	send()
	if got := lines.of(t, "the user's dkim_key is missing; the key of the From domain is used"); len(got) != 2 {
		t.Errorf("%d lines after a minute, want 2", len(got))
	}
}

// TestUnsignedSaysWhy, to the client where signatures are required, else to the
// operator.
func TestUnsignedSaysWhy(t *testing.T) {
	for _, c := range []struct{ from, api, domain, why, refused string }{
		{"a@other.example", "", "other.example", "there is none", "other.example"},
		{"a@BÜCHER.example", "", "xn--bcher-kva.example", "there is none", "B??CHER.example"},
		{"x <<", "", "", "From is not understood", "the domain"},
		{"x <<", `{"options":{"dkim_key":"s"}}`, "", "From is not understood", "the domain"},
		{"a@held.example", "", "held.example", "the domain belongs to other users", "held.example"},
	} {
		header := "From: " + c.from + "\r\n"
		if c.api != "" {
			header += "X-MSYS-API: " + c.api + "\r\n"
		}
		for _, require := range []bool{false, true} {
			b, lines := newLoggingBench(t, func(conf *Config) {
				conf.Signing.Require, conf.Headers.MsysAPI = require, true
				conf.Holders = NewHeldDomains([]string{"held.example"})
				conf.Signing.Signer = dkim.NewSigner([]dkim.Key{
					{Domain: "example.com", Selector: "s", Private: testKey()},
					{Domain: "held.example", Selector: "h", Private: testKey()},
				})
			})
			got := b.submit(submission(header+"\r\nx\r\n", "a"))
			if require {
				if want := "550 5.7.20 No DKIM key for " + c.refused + " (From): " + c.why; got != want {
					t.Errorf("%s: got %q, want %q", c.from, got, want)
				}
				continue
			}
			unsigned := lines.of(t, "message relayed without a DKIM signature")
			if len(unsigned) != 1 || metric(t, b.relay.unsigned) != 1 {
				t.Fatalf("%s: %d lines and %v counted, want 1", c.from, len(unsigned), metric(t, b.relay.unsigned))
			}
			check(t, unsigned[0], map[string]any{"level": "WARN", "session": "s.1", "user": "u", "domain": c.domain, "reason": c.why})
		}
	}

	b, lines := newLoggingBench(t, func(c *Config) { c.Signing.Signer, c.Signing.Require = nil, true })
	got := b.submit(submission(htmlMessage, "a"))
	if unsigned := lines.of(t, "message relayed without a DKIM signature"); got != "250 2.1.1 taken" || len(unsigned) != 0 {
		t.Errorf("without a signer: got %q, %d lines", got, len(unsigned))
	}
}

// TestNotesByTheMinute: what was said is said again after a minute, and when the
// clock was set back.
func TestNotesByTheMinute(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {time.Minute - 1, false}, {time.Minute, true}, {time.Hour, true}, {-1, true}} {
		var n notes
		if !n.due("x", now) {
			t.Fatal("the first time is not due")
		}
		if got := n.due("x", now.Add(c.after)); got != c.want {
			t.Errorf("after %s: due %v, want %v", c.after, got, c.want)
		}
		if !n.due("y", now.Add(c.after)) {
			t.Errorf("after %s: another subject is not due", c.after)
		}
	}

	full := func() *notes {
		n := &notes{}
		for i := range 1000 {
			n.due(fmt.Sprint(i), now)
		}
		return n
	}
	for after, want := range map[time.Duration]bool{0: false, time.Minute - 1: false, time.Minute: true, -1: true} {
		n := full()
		if got := n.due("new", now.Add(after)); got != want {
			t.Errorf("with 1000 subjects, after %s: due %v, want %v", after, got, want)
		}
		if len(n.last) > 1000 {
			t.Errorf("%d subjects are remembered", len(n.last))
		}
	}
	n := &notes{}
	for i := range 999 {
		n.due(fmt.Sprint(i), now)
	}
	if !n.due("the thousandth", now) || n.due("one more", now) {
		t.Error("1000 subjects are remembered, and no more")
	}
}

// TestBrokenSignaturesAreReplanned: a signature that goes takes nothing else
// with it, and none goes where there is no signer.
func TestBrokenSignaturesAreReplanned(t *testing.T) {
	old := "DKIM-Signature: v=1; d=example.com; s=x; b=old\r\n"
	for _, c := range []struct {
		name   string
		signer *dkim.Signer
		want   bool // is kept
	}{
		{"signer", dkim.NewSigner([]dkim.Key{{Domain: "example.com", Selector: "s", Private: testKey()}}), false},
		{"signer without the key", dkim.NewSigner([]dkim.Key{{Domain: "other.example", Selector: "s", Private: testKey()}}), true},
		{"no signer", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) {
				conf.Signing.Signer, conf.Headers.PowerMTA, conf.Headers.Received = c.signer, false, "off"
			})
			b.relay.Submit(context.Background(), submission("A: 1\r\n"+old+withFields("")+"<body>x</body>\r\n", "a"))
			got := string(b.up.got[0].Message[0])
			if strings.Contains(got, "b=old") != c.want {
				t.Errorf("kept: %v, want %v", !c.want, c.want)
			}
			if !strings.Contains(got, "A: 1\r\n") || !strings.Contains(got, "From: News <news@example.com>\r\n") {
				t.Errorf("fields are lost:\n%s", got)
			}
		})
	}
}

// TestSharedHeader is prepared once for as long as it is the same.
func TestSharedHeader(t *testing.T) {
	var s sharedHeader
	header := []byte("From: a@b.example\r\n")
	first := s.prepare(header)
	if again := s.prepare([]byte("From: a@b.example\r\n")); again != first {
		t.Error("the same header is prepared twice")
	}
	header[6] = 'x' // the buffer is used again
	other := s.prepare(header)
	if other == first {
		t.Error("another header is taken for the same")
	}
	if s.prepare(header) != other {
		t.Error("the other header is prepared twice")
	}
}

func TestDKIMChoice(t *testing.T) {
	for _, c := range []struct {
		name, from, api string
		domains         []string
		require         bool
		code            int
		signed          bool
	}{
		{"own key", "a@example.com", "", nil, false, 250, true},
		{"parent's key", "a@news.example.com", "", nil, false, 250, true},
		{"no key", "a@other.example", "", nil, false, 250, false},
		{"no key and required", "a@other.example", "", nil, true, 550, false},
		{"named key", "a@other.example", `{"options":{"dkim_key":"s"}}`, nil, true, 250, true},
		{"named key that is not theirs", "a@other.example", `{"options":{"dkim_key":"s"}}`, []string{"other.example"}, false, 550, false},
		{"unknown key", "a@example.com", `{"options":{"dkim_key":"none"}}`, nil, false, 550, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Signing.Require, conf.Headers.MsysAPI = c.require, true })
			header := "From: " + c.from + "\r\n"
			if c.api != "" {
				header += "X-MSYS-API: " + c.api + "\r\n"
			}
			s := submission(header+"\r\nx\r\n", "r")
			s.Envelope.From = envelope.Address{}
			s.User.FromDomains = c.domains
			answer := b.relay.Submit(context.Background(), s)
			if answer.Code != c.code {
				t.Fatalf("%v", answer)
			}
			if c.code == 250 && strings.HasPrefix(string(b.up.got[0].Message[0]), "DKIM-Signature:") != c.signed {
				t.Errorf("signed: %v", !c.signed)
			}
		})
	}
}

// TestBrokenSignatures: a signature of ours that the rewriting breaks goes,
// those of others stay, and all stay where nothing changes.
func TestBrokenSignatures(t *testing.T) {
	old := "DKIM-Signature: v=1; d=example.com; s=x; b=old\r\nDKIM-Signature: v=1; d = other.example; s=x; b=theirs\r\n"
	for _, c := range []struct {
		name, body string
		ours       bool
	}{{"rewritten", "<body>x</body>\r\n", false}, {"not rewritten", "", true}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			msg := old + withFields("")
			if c.body == "" {
				msg = old + "From: a@example.com\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nplain\r\n"
			}
			b.relay.Submit(context.Background(), submission(msg, "a"))
			got := string(b.up.got[0].Message[0])
			if strings.Contains(got, "b=old") != c.ours || !strings.Contains(got, "b=theirs") {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestBrokenSignatureOfOthers: a signature of a domain that the user may not sign
// for is kept, though there is a key.
func TestBrokenSignatureOfOthers(t *testing.T) {
	old := "DKIM-Signature: v=1; d=example.com; s=x; b=old\r\n"
	for _, held := range []string{"example.com", "other.example"} {
		b := newBench(t, func(c *Config) { c.Holders = NewHeldDomains([]string{held}) })
		b.relay.Submit(context.Background(), submission(old+withFields("")+"<body>x</body>\r\n", "a"))

		kept := strings.Contains(string(b.up.got[0].Message[0]), "b=old")
		if want := held == "example.com"; kept != want {
			t.Errorf("%s is held: signature of example.com kept: %v, want %v", held, kept, want)
		}
	}
}
