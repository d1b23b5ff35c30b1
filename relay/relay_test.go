package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/upstream"
	"postern/tracking/event"
	"postern/tracking/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeUpstream answers by recipient and keeps what it took.
type fakeUpstream struct {
	mu      sync.Mutex
	answers map[string]upstream.Outcome // by local part; none: 250
	got     []upstream.Transaction
}

func (f *fakeUpstream) Send(_ context.Context, t *upstream.Transaction) upstream.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := *t
	c.Message = [][]byte{append(append([]byte(nil), t.Message[0]...), t.Message[1]...)}
	f.got = append(f.got, c)
	if o, ok := f.answers[t.Recipient.Address.Local]; ok {
		return o
	}
	return replied(250, "taken")
}

func replied(code int, text string) upstream.Outcome {
	return upstream.Outcome{Reply: envelope.Reply{Code: code, Enhanced: [3]int{code / 100, 1, 1}, Text: text}}
}

// fakeRecorder keeps events.
type fakeRecorder struct {
	mu     sync.Mutex
	events []*event.Event
	full   bool
	broken bool
}

func (f *fakeRecorder) Record(_ context.Context, es ...*event.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return errors.New("disk on fire")
	}
	f.events = append(f.events, es...)
	return nil
}

func (f *fakeRecorder) Reserve(int) (func(), error) {
	if f.full {
		return nil, errors.New("no space")
	}
	return func() {}, nil
}

type bench struct {
	relay *Relay
	up    *fakeUpstream
	rec   *fakeRecorder
	keys  *token.Keys
}

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	if _, err := token.AddKey(file, time.Now()); err != nil {
		t.Fatal(err)
	}
	keys, err := token.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	private, _, err := dkim.Generate("rsa2048")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{up: &fakeUpstream{answers: map[string]upstream.Outcome{}}, rec: &fakeRecorder{}, keys: keys}
	c := Config{Hostname: "gw.example", PowerMTA: true, Received: "full", Keys: keys, Upstream: b.up, Events: b.rec, IDs: event.NewIDs(),
		Headers:  HeaderNames{MessageID: "X-Sp-Message-Id", Job: "X-Job", VirtualMTA: "X-Virtual-MTA", Subaccount: "X-Sp-Subaccount-Id"},
		Tracking: Tracking{URL: "https://t.example", Open: true, InitialOpen: true, Click: true},
		Signer:   dkim.NewSigner([]dkim.Key{{Domain: "example.com", Selector: "s", Private: private}}),
		Log:      slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	b.relay = New(c)
	return b
}

func submission(message string, to ...string) *Submission {
	s := &Submission{Session: "s.1", User: User{Name: "u", Tracking: true}, Remote: netip.MustParseAddrPort("192.0.2.7:1000"),
		Helo: "app.example", Protocol: "ESMTPSA", TLS: "TLS 1.3 X", Message: []byte(message),
		Envelope: envelope.Envelope{From: envelope.Address{Local: "bounce", Domain: "example.com"}}}
	for _, a := range to {
		s.Envelope.Recipients = append(s.Envelope.Recipients, envelope.Recipient{Address: envelope.Address{Local: a, Domain: "Example.NET"}})
	}
	return s
}

const htmlMessage = "From: News <news@example.com>\r\nSubject: =?utf-8?q?Fr=C3=BChling?=\r\nDate: x\r\nMessage-ID: <1@x>\r\nContent-Type: text/html\r\n\r\n" +
	"<html><body><a href=\"https://example.com/?a=1&amp;b=2\">x</a></body></html>\r\n"

func TestSubmitOne(t *testing.T) {
	b := newBench(t, nil)
	reply := b.relay.Submit(context.Background(), submission(htmlMessage, "rcpt"))
	if reply.Code != 250 || reply.Text != "taken" {
		t.Fatalf("%v", reply)
	}
	msg := string(b.up.got[0].Message[0])
	id := regexp.MustCompile(`\r\nX-Sp-Message-Id: ([a-z2-7]{26})\r\n`).FindStringSubmatch(msg)
	if id == nil {
		t.Fatalf("no message id in %s", msg)
	}
	if _, err := b.keys.ParseID(id[1]); err != nil {
		t.Error(err)
	}
	if got := b.up.got[0].Params.EnvelopeID; got != id[1] {
		t.Errorf("ENVID %q", got)
	}
	if !strings.HasPrefix(msg, "DKIM-Signature: ") || !strings.Contains(msg, "Received: from app.example ([192.0.2.7])\r\n\tby gw.example with ESMTPSA (TLS 1.3 X) id s.1;") {
		t.Errorf("header of\n%s", msg)
	}
	if strings.Contains(msg, "quoted-printable") {
		t.Error("a part whose lines stay short was re-encoded")
	}
	targets := map[token.Kind]string{}
	for _, m := range regexp.MustCompile(`https://t\.example/t/([\w-]+)`).FindAllStringSubmatch(msg, -1) {
		tok, err := b.keys.Open(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if tok.MessageID.String() != id[1] || tok.Recipient != "rcpt@Example.NET" {
			t.Errorf("token %+v", tok)
		}
		targets[tok.Kind] = tok.Target
	}
	if len(targets) != 3 || targets[token.Click] != "https://example.com/?a=1&b=2" {
		t.Errorf("tokens %v", targets)
	}
	if len(b.rec.events) != 1 {
		t.Fatalf("%d events", len(b.rec.events))
	}
	e := b.rec.events[0]
	if line, err := e.Encode(); err != nil {
		t.Error(err)
	} else if _, err := event.Decode(line); err != nil {
		t.Error(err)
	}
	if e.MessageID != id[1] || e.FriendlyFrom != "news@example.com" || e.MsgFrom != "bounce@example.com" || e.Subject != "Frühling" ||
		e.RoutingDomain != "example.net" || e.MsgSize != fmt.Sprint(len(msg)) || !*e.ClickTracking {
		t.Errorf("event %+v", e)
	}
}

// TestAnswers is the house's "many recipients, one answer", as far as it goes
// without a retry spool.
func TestAnswers(t *testing.T) {
	no, later := replied(550, "no"), replied(450, "later")
	gone := upstream.Outcome{Err: envelope.Defer(451, [3]int{4, 4, 2}, "lost", nil)}
	for _, c := range []struct {
		name    string
		answers map[string]upstream.Outcome
		code    int
		events  int
	}{
		{"all accepted", nil, 250, 3},
		{"all refused", map[string]upstream.Outcome{"a": no, "b": replied(554, "never"), "c": no}, 550, 0},
		{"none accepted, some temporary", map[string]upstream.Outcome{"a": no, "b": later, "c": no}, 451, 0},
		{"none reachable", map[string]upstream.Outcome{"a": gone, "b": gone, "c": gone}, 451, 0},
		{"some refused", map[string]upstream.Outcome{"b": no}, 250, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.up.answers = c.answers
			reply := b.relay.Submit(context.Background(), submission(htmlMessage, "a", "b", "c"))
			if reply.Code != c.code || len(b.rec.events) != c.events {
				t.Errorf("%v with %d events", reply, len(b.rec.events))
			}
		})
	}
}

func TestOneAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		out  upstream.Outcome
		want string
	}{
		{"upstream's words", replied(550, "no such user\nreally"), "550 5.1.1 no such user\nreally"},
		{"cleaned", replied(550, "a\x1b[2Jb\rc"), "550 5.1.1 a?[2Jb?c"},
		{"421 is the upstream's session, not the client's", upstream.Outcome{Reply: envelope.Reply{Code: 421, Text: "bye"}}, "451 bye"},
		{"unclassified", upstream.Outcome{Err: errors.New("x")}, "451 4.3.0 Internal error, try again later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.up.answers["a"] = c.out
			if got := b.relay.Submit(context.Background(), submission(htmlMessage, "a")).String(); got != c.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestDuplicateRecipients(t *testing.T) {
	b := newBench(t, nil)
	s := submission(htmlMessage, "a", "a", "b")
	s.Envelope.Recipients[1].Address.Domain = "example.net" // domains fold case, local parts do not
	b.relay.Submit(context.Background(), s)
	if len(b.up.got) != 2 {
		t.Errorf("%d copies", len(b.up.got))
	}
	if string(b.up.got[0].Message[0]) == string(b.up.got[1].Message[0]) {
		t.Error("two recipients got the same copy")
	}
}

func TestDiskFull(t *testing.T) {
	b := newBench(t, nil)
	b.rec.full = true
	if r := b.relay.Submit(context.Background(), submission(htmlMessage, "a")); r.Code != 452 || r.Enhanced != [3]int{4, 3, 1} || len(b.up.got) != 0 {
		t.Errorf("%v after %d copies", r, len(b.up.got))
	}
	b.rec.full, b.rec.broken = false, true
	if r := b.relay.Submit(context.Background(), submission(htmlMessage, "a")); r.Code != 250 {
		t.Errorf("the upstream took the copy, the client hears %v", r)
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name, in, want string // header blocks
		user           User
		other          bool // upstream_kind
	}{
		{name: "untouched", in: "from: a@b\r\nX-Odd:  two  spaces\r\n\tfolded\r\nX-Odd: again\r\n", want: "from: a@b\r\nX-Odd:  two  spaces\r\n\tfolded\r\nX-Odd: again\r\n"},
		{name: "X-Job made safe", in: "X-Job:  Spring sale \r\nFrom: a@b\r\n", want: "X-Job: Spring_sale\r\nFrom: a@b\r\n"},
		{name: "safe X-Job keeps its bytes", in: "x-JOB:a\r\n", want: "x-JOB:a\r\n"},
		{name: "several X-Job: the first counts", in: "X-Job: a\r\nX-Job: b\r\n", want: "X-Job: a\r\n"},
		{name: "X-Job with white space before the colon", in: "X-Job : a b\r\n", want: "X-Job: a_b\r\n"},
		{name: "folded X-Job", in: "X-Job: a\r\n b\r\n", want: "X-Job: a_b\r\n"},
		{name: "empty X-Job goes", in: "X-Job: \r\n", want: ""},
		{name: "the user's job", in: "From: a@b\r\n", user: User{Job: "tx"}, want: "From: a@b\r\nX-Job: tx\r\n"},
		{name: "prefix", in: "X-Job: a\r\n", user: User{Job: "tx", JobPrefix: "p-"}, want: "X-Job: p-a\r\n"},
		{name: "the user's VirtualMTA", in: "From: a@b\r\n", user: User{VirtualMTA: "v"}, want: "From: a@b\r\nX-Virtual-MTA: v\r\n"},
		{name: "the message's VirtualMTA", in: "X-Virtual-MTA: w\r\n", user: User{VirtualMTA: "v"}, want: "X-Virtual-MTA: w\r\n"},
		{name: "what never leaves", in: "Bcc: x@y\r\nX-MSYS-API: {}\r\nX-DKIM-Key: k\r\nX-DKIM-Options : o\r\nResent-Bcc: z\r\nReturn-Path: <p>\r\nTo: c@d\r\n", want: "To: c@d\r\n"},
		{name: "the client's message id header goes", in: "X-Sp-Message-ID: mine\r\nTo: c@d\r\n", want: "To: c@d\r\n"},
		{name: "no PowerMTA", other: true, in: "X-Job: a\r\nX-Virtual-MTA: v\r\nX-Envid: e\r\nX-Sp-Subaccount-Id: 1\r\nTo: c@d\r\n", user: User{Job: "tx"}, want: "To: c@d\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.PowerMTA = !c.other })
			if got := string(b.relay.applyPolicy([]byte(c.in), c.user).header); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	b := newBench(t, nil)
	b.relay.Submit(context.Background(), submission("From: a@example.com\r\n\r\nx\r\n", "r"))
	msg := string(b.up.got[0].Message[0])
	for _, want := range []string{"\r\nDate: ", "\r\nMessage-ID: <"} {
		if !strings.Contains(msg, want) {
			t.Errorf("no %q in %s", want, msg)
		}
	}
}

func TestFirstAddress(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"News <news@example.com>", "news@example.com"},
		{"a@b.example, c@d.example", "a@b.example"},
		{`"Doe, John" <john@example.com>`, "john@example.com"},
		{"=?utf-8?q?=C3=A9?= <e@example.com>", "e@example.com"},
		{"broken, <x@example.com", "x@example.com"},
		{"not <an> address @ all", ""},
		{"", ""},
		{`"odd one"@example.com`, `"odd one"@example.com`},
	} {
		if got := firstAddress(c.in).String(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func BenchmarkPolicy(b *testing.B) {
	r := newBench(b, nil).relay
	header := []byte(strings.SplitAfter(htmlMessage, "\r\n\r\n")[0])
	b.ReportAllocs()
	for b.Loop() {
		r.applyPolicy(header, User{Job: "tx"})
	}
}
