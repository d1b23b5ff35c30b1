package report

import (
	"context"
	"errors"
	"log/slog"
	"mime/quotedprintable"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"postern/tracking/event"
	"postern/tracking/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	noon   = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	someID token.ID
)

func itoa(n int) string     { return strconv.Itoa(n) }
func boolean(b bool) string { return strconv.FormatBool(b) }
func testKeys(t testing.TB) *token.Keys {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token.keys")
	if _, err := token.AddKey(file, noon); err != nil {
		t.Fatal(err)
	}
	keys, err := token.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func bounceOf(returned string) []byte {
	return crlf("From: MAILER-DAEMON@b.example\nDate: Tue, 24 Nov 2026 11:59:00 +0000\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nsorry\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; b.example\n\n" +
		"Final-Recipient: rfc822; x@b.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n--b\nContent-Type: message/rfc822\n\n" + returned + "\n--b--\n")
}

func qp(s string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}

// TestFind finds a message in each way, in the order of precedence, and finds
// nothing that does not verify.
func TestFind(t *testing.T) {
	keys, other := testKeys(t), testKeys(t)
	sent := noon.Add(-time.Hour)
	a, b, foreign := keys.NewID(sent), keys.NewID(sent), other.NewID(sent)
	link := token.URL("https://t.example", keys.Seal(token.Token{Kind: token.Click, MessageID: b, Recipient: "reader@b.example", Subaccount: 7, Target: "https://www.example.com/"}))
	sub := token.SubURL("https://t.example", "shop/app", keys.Seal(token.Token{Kind: token.Open, MessageID: b, Recipient: "reader@b.example", Unreported: true}))
	html := "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n" + qp(`<p>`+strings.Repeat("some words ", 9)+`<a href="`+link+`">x</a>`)
	for _, c := range []struct {
		name       string
		mail       []byte
		recipients []string
		by         string
		id         token.ID
		recipient  string
		unreported bool
	}{
		{"VERP", bounceOf("Subject: x\n\nhi"), []string{"bounce+" + a.String() + "@bounces.example"}, "verp", a, "", false},
		{"VERP in capitals", bounceOf("Subject: x\n\nhi"), []string{"BOUNCE+" + strings.ToUpper(a.String()) + "@BOUNCES.EXAMPLE"}, "verp", a, "", false},
		{"VERP before header", bounceOf("X-Sp-Message-Id: " + b.String() + "\n\nhi"), []string{"bounce+" + a.String() + "@bounces.example"}, "verp", a, "", false},
		{"forged VERP, header", bounceOf("x-sp-message-id: " + b.String() + "\n\nhi"), []string{"bounce+" + foreign.String() + "@bounces.example"}, "header", b, "", false},
		{"header, with what a token says of the same copy", bounceOf("X-Sp-Message-Id: " + b.String() + "\n" + html), nil, "header", b, "reader@b.example", false},
		{"token in quoted-printable", bounceOf(html), nil, "token", b, "reader@b.example", false},
		{"token behind a sublink, of an unreported message", bounceOf("Subject: x\n\n" + sub), nil, "token", b, "reader@b.example", true},
		{"ENVID", []byte(strings.Replace(string(bounceOf("Subject: x\n\nhi")), "Reporting-MTA: dns; b.example", "Original-Envelope-Id: "+a.String()+"\r\nReporting-MTA: dns; b.example", 1)), nil, "envid", a, "", false},
		{"nothing of ours", bounceOf("X-Sp-Message-Id: " + foreign.String() + "\n\nhi"), []string{"bounce+" + foreign.String() + "@bounces.example"}, "", token.ID{}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Finder{Keys: keys, Header: "X-Sp-Message-Id"}
			got, ok := f.Find(Parse(c.mail), c.mail, c.recipients)
			if ok != (c.by != "") || got.By != c.by || got.ID != c.id || got.Recipient != c.recipient || got.Unreported != c.unreported {
				t.Errorf("%v %+v", ok, got)
			}
		})
	}
}

// memory keeps events, and fails where it is told to.
type memory struct {
	events []*event.Event
	broken bool
}

func (m *memory) Record(_ context.Context, es ...*event.Event) error {
	if m.broken {
		return errors.New("disk on fire")
	}
	for _, e := range es {
		line, err := e.Encode()
		if err != nil {
			return err
		}
		if _, err := event.Decode(line); err != nil {
			return err
		}
	}
	m.events = append(m.events, es...)
	return nil
}

func intake(t *testing.T, keys Keys, m *memory, keep string) *Intake {
	t.Helper()
	in, err := NewIntake(Config{Finder: &Finder{Keys: keys, Header: "X-Sp-Message-Id"}, Events: m, Keep: keep, Now: func() time.Time { return noon },
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func take(t *testing.T, in *Intake, msg []byte, recipients ...string) {
	t.Helper()
	if err := in.Take(context.Background(), recipients, msg); err != nil {
		t.Fatal(err)
	}
}

func TestIntake(t *testing.T) {
	keys, m, keep := testKeys(t), &memory{}, filepath.Join(t.TempDir(), "kept")
	in := intake(t, keys, m, keep)
	id := keys.NewID(noon.Add(-time.Hour))
	verp := "bounce+" + id.String() + "@bounces.example"
	take(t, in, bounceOf("From: News <news@example.com>\nReturn-Path: <bounce@example.com>\nSubject: x\n\nhi"), verp)
	if len(m.events) != 1 {
		t.Fatalf("%d events", len(m.events))
	}
	e := m.events[0]
	if e.Type != event.OutOfBand || e.MessageID != id.String() || e.RcptTo != "x@b.example" || e.BounceClass != "10" || e.ErrorCode != "550" || e.FriendlyFrom != "news@example.com" ||
		e.MsgFrom != "bounce@example.com" || !e.Timestamp.Equal(noon.Add(-time.Minute)) {
		t.Errorf("%+v", e)
	}
	take(t, in, bounceOf("From: News <news@example.com>\nSubject: x\n\nhi"), verp)
	if len(m.events) != 2 || m.events[1].ID != e.ID {
		t.Error("the same bounce again is another event")
	}
	take(t, in, crlf("From: Ann <ann@b.example>\nSubject: hello\n\nplain mail"), "info@bounces.example")
	take(t, in, bounceOf("Subject: not ours\n\nhi"), "someone@bounces.example")
	take(t, in, crlf("From: Ann <ann@b.example>\nAuto-Submitted: auto-replied\nSubject: away\n\nsoon"), verp)
	if len(m.events) != 2 {
		t.Errorf("%d events of what makes none", len(m.events))
	}
	if kept, _ := filepath.Glob(keep + "/*.eml"); len(kept) != 2 {
		t.Errorf("kept %v", kept)
	}
	m.broken = true
	if err := in.Take(context.Background(), []string{verp}, bounceOf("Subject: x\n\nhi")); err == nil {
		t.Error("no word of the spool's failure")
	}
}

// TestFindTokenOfAnyHost: the links of a report are ours under whichever host
// they were sealed for.
func TestFindTokenOfAnyHost(t *testing.T) {
	keys := testKeys(t)
	id := keys.NewID(noon)
	sealed := func(host string) string {
		return keys.Seal(token.Token{Kind: token.Open, Host: host, MessageID: id, Recipient: "reader@b.example"})
	}
	f := Finder{Keys: keys, Header: "X-Sp-Message-Id", Hosts: []string{"t.example", "click.customer.example"}}
	for _, c := range []struct {
		name, link string
		found      bool
	}{
		{"of the first host", "https://t.example/t/" + sealed("t.example"), true},
		{"of another host", "https://click.customer.example:8443/t/" + sealed("click.customer.example"), true},
		{"of a host of before", "https://Old.example/t/" + sealed("old.example"), true},
		{"of a host behind a path", "https://t.example/track/t/" + sealed("t.example"), true},
		{"under the name of a gateway", "https://check.example/t/" + sealed("t.example"), true},
		{"with what a program takes for the link's end", "https://t.example/t/" + sealed("t.example") + "_", true},
		{"without a host", "see /t/" + sealed("click.customer.example"), true},
		{"of a stranger's host", "https://t.example/t/" + sealed("evil.example"), false},
		{"of a mailto, in a link", "https://mail:/t/" + sealed(token.Mail), false},
		{"of a mailto", "mailto:unsubscribe@b.example?subject=" + sealed(token.Mail), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := bounceOf("Subject: x\n\n<" + c.link + ">")
			got, ok := f.Find(Parse(msg), msg, nil)
			if ok != c.found || ok && (got.ID != id || got.Recipient != "reader@b.example") {
				t.Errorf("found %v: %+v; want %v", ok, got, c.found)
			}
		})
	}
}

func TestUnsubscribeByMail(t *testing.T) {
	keys, m := testKeys(t), &memory{}
	in := intake(t, keys, m, "")
	id := keys.NewID(noon)
	link := keys.Seal(token.Token{Kind: token.ListUnsubscribe, Host: "t.example", MessageID: id, Recipient: "reader@b.example"})
	good := keys.Seal(token.Token{Kind: token.ListUnsubscribe, Host: token.Mail, MessageID: id, Recipient: "reader@b.example", Subaccount: 3})
	filtered := keys.Seal(token.Token{Kind: token.ListUnsubscribe, Host: token.Mail, MessageID: id, Recipient: "reader@b.example", Unreported: true})
	click := keys.Seal(token.Token{Kind: token.Click, Host: token.Mail, MessageID: id, Recipient: "reader@b.example", Target: "https://x.example/"})
	for _, c := range []struct {
		name, to, subject string
		want              bool
	}{
		{"subject", "unsubscribe@bounces.example", good, true},
		{"subject, folded", "Unsubscribe@bounces.example", good[:40] + "\n " + good[40:], true},
		{"of a message that is not reported", "unsubscribe@bounces.example", filtered, true},
		{"a link's token", "unsubscribe@bounces.example", link, false},
		{"a token for something else", "unsubscribe@bounces.example", click, false},
		{"no token", "unsubscribe@bounces.example", "unsubscribe", false},
		{"another mailbox", "bounce@bounces.example", good, false},
	} {
		before := len(m.events)
		take(t, in, crlf("From: reader@b.example\nSubject: "+c.subject+"\n\n"), c.to)
		if got := len(m.events) > before; got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if e := m.events[0]; e.Type != event.ListUnsubscribe || e.RcptTo != "reader@b.example" || e.SubaccountID != 3 || e.MessageID != id.String() {
		t.Errorf("%+v", e)
	}
}

// TestLargeMail: what a report says stands in front; of the rest no more is
// looked at than a bounded part, and the mail is taken.
func TestLargeMail(t *testing.T) {
	keys, m := testKeys(t), &memory{}
	in := intake(t, keys, m, "")
	id := keys.NewID(noon.Add(-time.Hour))
	take(t, in, bounceOf("X-Sp-Message-Id: "+id.String()+"\nSubject: x\n\n"+strings.Repeat("a line of an attachment\n", maxLooked/24+9)))
	if len(m.events) != 1 || m.events[0].MessageID != id.String() {
		t.Errorf("%d events", len(m.events))
	}
}

// TestFindFoldedHeader: our field is found folded, quoted and in text.
func TestFindFoldedHeader(t *testing.T) {
	keys := testKeys(t)
	id := keys.NewID(noon.Add(-time.Hour))
	for name, returned := range map[string]string{
		"on one line":            "X-Sp-Message-Id: " + id.String() + "\n\nhi",
		"folded":                 "X-Sp-Message-Id:\n " + id.String() + "\nSubject: x\n\nhi",
		"folded with a tab":      "X-Sp-Message-Id:\n\t" + id.String() + "\n\nhi",
		"folded in the middle":   "X-Sp-Message-Id: " + id.String()[:9] + "\n " + id.String()[9:] + "\n\nhi",
		"a space before a colon": "X-Sp-Message-Id : " + id.String() + "\n\nhi",
		"quoted":                 "Subject: x\n\n> X-Sp-Message-Id: " + id.String(),
		"quoted and folded":      "Subject: x\n\n> X-Sp-Message-Id:\n>  " + id.String(),
		"indented":               "Subject: x\n\n    X-Sp-Message-Id: " + id.String(),
	} {
		t.Run(name, func(t *testing.T) {
			msg := bounceOf(returned)
			f := Finder{Keys: keys, Header: "X-Sp-Message-Id"}
			if got, ok := f.Find(Parse(msg), msg, nil); !ok || got.ID != id || got.By != "header" {
				t.Errorf("got %v %+v, want %s by header", ok, got, id)
			}
		})
	}
}

// TestSealedRecipientCounts: whoever got one copy of ours can send a report that
// names anybody. The event is about the one whom the copy was sealed for.
func TestSealedRecipientCounts(t *testing.T) {
	keys := testKeys(t)
	sent := noon.Add(-time.Hour)
	id, other := keys.NewID(sent), keys.NewID(sent)
	link := func(id token.ID, recipient string) string {
		return token.URL("https://t.example", keys.Seal(token.Token{Kind: token.Click, MessageID: id, Recipient: recipient, Target: "https://www.example.com/"}))
	}
	header := "X-Sp-Message-Id: " + id.String() + "\nTo: victim@elsewhere.example\n"
	dsn := func(returned string) string {
		return strings.ReplaceAll(string(bounceOf(returned)), "x@b.example", "victim@elsewhere.example")
	}
	arf := func(returned string) string {
		return string(crlf("From: fbl@provider.example\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nA complaint.\n--b\nContent-Type: message/feedback-report\n\n" +
			"Feedback-Type: abuse\nOriginal-Rcpt-To: victim@elsewhere.example\n--b\nContent-Type: message/rfc822\n\n" + returned + "\n--b--\n"))
	}
	mailto := keys.Seal(token.Token{Kind: token.ListUnsubscribe, MessageID: id, Recipient: "bob@example.com"})
	for _, c := range []struct{ name, mail, want string }{
		{"a bounce", dsn(header + "\n" + link(id, "bob@example.com")), "bob@example.com"},
		{"a complaint", arf(header + "\n" + link(id, "bob@example.com")), "bob@example.com"},
		{"a complaint, the To field alone", strings.Replace(arf(header+"\n"+link(id, "bob@example.com")), "Original-Rcpt-To", "X", 1), "bob@example.com"},
		{"a token in List-Unsubscribe alone", dsn("List-Unsubscribe: <mailto:unsubscribe@bounces.example?subject=" + mailto + ">\n" + header + "\nhi"), "bob@example.com"},
		{"a token in the text of the report", strings.Replace(dsn(header+"\nhi"), "sorry", "sorry "+link(id, "bob@example.com"), 1), "bob@example.com"},
		{"another copy's token in front", dsn(header + "\n" + link(other, "carl@example.com") + "\n" + link(id, "bob@example.com")), "bob@example.com"},
		{"another copy's token alone", dsn(header + "\n" + link(other, "carl@example.com")), "victim@elsewhere.example"},
		{"no token", dsn(header + "\nhi"), "victim@elsewhere.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Finder{Keys: keys, Header: "X-Sp-Message-Id"}
			r := Parse([]byte(c.mail))
			found, ok := f.Find(r, []byte(c.mail), []string{"bounce+" + id.String() + "@bounces.example"})
			e := r.Event(found, noon)
			if !ok || e == nil || e.RcptTo != c.want || e.MessageID != id.String() {
				t.Errorf("got %v %+v, want an event of %s", ok, e, c.want)
			}
		})
	}
}

// TestSealedRecipientsOwnStatus: of a report about several, what is said of the
// one whom the copy was for makes the event.
func TestSealedRecipientsOwnStatus(t *testing.T) {
	r := Parse(crlf(`
From: MAILER-DAEMON@a.example
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; a.example

Final-Recipient: rfc822; gone@b.example
Action: failed
Status: 5.1.1

Final-Recipient: rfc822; Bob@b.example
Action: failed
Status: 5.2.2
--b--
`))
	e := r.Event(Found{ID: someID, Recipient: "bob@b.example"}, noon)
	if e == nil || e.RcptTo != "bob@b.example" || e.BounceClass != "22" {
		t.Errorf("got %+v, want class 22 for bob@b.example", e)
	}
}

// TestNamelessNotice: a notice that names nobody makes an event where it quotes
// a server and the copy's token tells for whom it was.
func TestNamelessNotice(t *testing.T) {
	r := Parse(crlf("From: MAILER-DAEMON@a.example\nSubject: Undeliverable\n\nYour message could not be delivered. The server said:\n\n550 5.1.1 user unknown\n"))
	if r.Kind != Bounce || len(r.Recipients) != 0 {
		t.Fatalf("got %s %+v, want a bounce of nobody", r.Kind, r.Recipients)
	}
	if e := r.Event(Found{ID: someID, Recipient: "bob@b.example"}, noon); e == nil || e.RcptTo != "bob@b.example" || e.BounceClass != "10" {
		t.Errorf("got %+v, want class 10 for bob@b.example", e)
	}
	if e := r.Event(Found{ID: someID}, noon); e != nil {
		t.Errorf("got %+v, want no event without a recipient", e)
	}
}
