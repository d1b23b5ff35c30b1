package report

import (
	"strings"
	"testing"
)

// TestWhoWritesNotices: whose words are taken for a mail system's.
func TestWhoWritesNotices(t *testing.T) {
	const failed = "Your message could not be delivered to:\n\n<bob@b.example>\n\nuser unknown\n"
	const replied = "It failed.\n\n<bob@b.example>: 550 5.1.1 user unknown\n"
	for _, c := range []struct {
		name, header, text string
		kind               Kind
		names              string
	}{
		{"a daemon", "From: mailer-daemon@b.example", failed, Bounce, "bob@b.example"},
		{"a person", "From: ann@b.example\nSubject: Undeliverable mail", replied, Other, ""},
		{"a person, in another subject", "From: ann@b.example\nSubject: x", replied, Other, ""},
		{"a gateway", "From: antivirus@b.example\nSubject: Undeliverable mail", failed, Bounce, "bob@b.example"},
		{"a gateway without a subject", "From: antivirus@b.example\nSubject: hello", failed, Other, ""},
		{"a gateway that forwards", "From: antivirus@b.example\nSubject: Fwd: Undeliverable mail", failed, Other, ""},
		{"a gateway that answers", "From: antivirus@b.example\nSubject: Undeliverable mail\nIn-Reply-To: <a@b>", failed, Other, ""},
		{"a program that quotes no server", "From: noreply@b.example\nSubject: Undeliverable mail", failed, Other, ""},
		{"a program that quotes one", "From: noreply@b.example\nSubject: Undeliverable mail", replied, Bounce, "bob@b.example"},
		{"a program that shows a dialogue", "From: noreply@b.example\nSubject: Undeliverable mail", "It failed.\n\n>>> RCPT TO:<bob@b.example>\n<<< 550 no\n", Bounce, "bob@b.example"},
		{"failing words in the subject alone", "From: mailer-daemon@b.example\nSubject: Undeliverable", "<bob@b.example>\n", Bounce, "bob@b.example"},
		{"failing words in the text alone", "From: mailer-daemon@b.example\nSubject: x", failed, Bounce, "bob@b.example"},
		{"failing words in the returned subject alone", "From: mailer-daemon@b.example\nSubject: About: Undeliverable gift", "<bob@b.example>\n\n--- original message ---\nSubject: Undeliverable gift\n\nhi\n", Other, ""},
		{"no failing words", "From: mailer-daemon@b.example\nSubject: x", "<bob@b.example>\n", Other, ""},
		{"no failing words, a dialogue", "From: mailer-daemon@b.example\nSubject: x", ">>> RCPT TO:<bob@b.example>\n<<< 550 no\n", Bounce, "bob@b.example"},
		{"no failing words, a field", "From: mailer-daemon@b.example\nX-Failed-Recipients: bob@b.example, Ann <ann@b.example>", "x\n", Bounce, "bob@b.example ann@b.example"},
		{"the field names one of several", "From: mailer-daemon@b.example\nX-Failed-Recipients: bob@b.example",
			"could not be delivered:\n<ann@b.example>: 550 no\n<bob@b.example>: 550 no\n", Bounce, "bob@b.example"},
		{"delayed", "From: mailer-daemon@b.example\nSubject: Delivery delayed", "<bob@b.example>\n", Delay, "bob@b.example"},
		{"delayed, in the text", "From: mailer-daemon@b.example\nSubject: x", "We will continue to try to deliver to\n<bob@b.example>\n", Delay, "bob@b.example"},
		{"delayed for good", "From: mailer-daemon@b.example\nSubject: Delivery delayed", "This is a permanent error.\n\n<bob@b.example>\n", Bounce, "bob@b.example"},
		{"deleted", "From: mailer-daemon@b.example\nSubject: Delivery delayed", "It will be deleted from queue.\n\n<bob@b.example>\n", Bounce, "bob@b.example"},
		{"given up", "From: mailer-daemon@b.example\nSubject: Delivery delayed", "It has been given up.\n\n<bob@b.example>\n", Bounce, "bob@b.example"},
		{"giving up", "From: mailer-daemon@b.example\nSubject: Delivery delayed", "Giving up.\n\n<bob@b.example>\n", Bounce, "bob@b.example"},
		{"whom the message was for", "From: mailer-daemon@b.example\nSubject: Undeliverable", "Sorry.\n\n--- original message ---\nTo: Bob <bob@b.example>\n\nhi\n", Bounce, "bob@b.example"},
		{"whom it came to", "From: mailer-daemon@b.example\nSubject: Undeliverable", "Sorry.\n\n--- original message ---\nX-Original-To: ann@b.example\nTo: Bob <bob@b.example>\n\nhi\n", Bounce, "ann@b.example"},
		{"for two", "From: mailer-daemon@b.example\nSubject: Undeliverable", "550 no\n\n--- original message ---\nTo: ann@b.example, bob@b.example\n\nhi\n", Bounce, ""},
		{"nobody and no reply, a postmaster", "From: postmaster@b.example\nSubject: Undeliverable", "Sorry.\n", Other, ""},
		{"nobody, a postmaster's reply", "From: postmaster@b.example\nSubject: Undeliverable", "550 5.1.1 no\n", Bounce, ""},
		{"nobody, delayed", "From: postmaster@b.example\nSubject: Undeliverable", "It has been delayed\n450 4.1.1 no\n", Delay, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf(c.header + "\n\n" + c.text))
			var names []string
			for _, x := range r.Recipients {
				names = append(names, x.Final)
				if x.Kind != c.kind {
					t.Errorf("%s: got %s, want %s", x.Final, x.Kind, c.kind)
				}
			}
			if r.Kind != c.kind || strings.Join(names, " ") != c.names {
				t.Errorf("got %s %q, want %s %q", r.Kind, names, c.kind, c.names)
			}
			if r.Kind != Other && len(names) == 0 && r.unnamed.Kind != c.kind {
				t.Errorf("of nobody: got %+v, want a %s", r.unnamed, c.kind)
			}
		})
	}
}

// TestWhatANoticeSaysOfEach puts the parts of a notice together.
func TestWhatANoticeSaysOfEach(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"its own", "could not be delivered:\n<a@b.example>: 550 no\n<c@b.example>: 552 full\n", "<a@b.example>: 550 no; <c@b.example>: 552 full"},
		{"a labelled reason", "could not be delivered:\nError: user unknown\n\n<a@b.example>\n", "user unknown"},
		{"a labelled reason beside a reply", "could not be delivered:\nError: user unknown\n550 no\n\n<a@b.example>\n", "550 no"},
		{"a reply in front", "could not be delivered:\nsaid 550 no\n\n<a@b.example>\n", "said 550 no"},
		{"words without a code, and a reply", "could not be delivered:\nsaid 550 no\n\n<a@b.example>\nsorry\n", "sorry said 550 no"},
		{"the same of two", "could not be delivered:\nsaid 550 no\n\n<a@b.example>\nsorry\n<c@b.example>\nsorry\n", "sorry; sorry"},
		{"words with a code", "could not be delivered:\nsaid 550 no\n\n<a@b.example>\n5.1.1 sorry\n", "5.1.1 sorry"},
		{"words with a reply", "could not be delivered:\nsaid 550 no\n\n<a@b.example>\n551 sorry\n", "551 sorry"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf("From: mailer-daemon@b.example\nSubject: x\n\n" + c.text))
			var got []string
			for _, x := range r.Recipients {
				got = append(got, x.Diagnostic)
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got %q, want %q", strings.Join(got, "; "), c.want)
			}
		})
	}
}

// TestNestedReports: a gateway's notice with a whole report inside.
func TestNestedReports(t *testing.T) {
	inner := "From: mailer-daemon@a.example\nContent-Type: multipart/report; report-type=delivery-status; boundary=c\n\n--c\n" +
		"Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.1.1\n--c\n" +
		"Content-Type: message/rfc822\n\nSubject: inside\n\nhi\n--c--\n"
	outer := func(text, inner string) string {
		return "From: mailer-daemon@b.example\nSubject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n" + text +
			"\n--b\nContent-Type: message/rfc822\n\n" + inner + "\n--b--\n"
	}
	for _, c := range []struct {
		name, mail string
		kind       Kind
		subject    string
	}{
		{"in plain words", outer("hello", inner), Bounce, "inside"},
		{"in failing words that name nobody", outer("It could not be delivered.", inner), Bounce, "inside"},
		{"no report inside", outer("hello", "Subject: inside\n\nhi"), Other, "inside"},
		{"a person's inside", outer("hello", strings.Replace(inner, "From: mailer-daemon", "From: ann", 1)), Other, ""},
		{"without a message inside", outer("hello", strings.Replace(inner, "message/rfc822", "text/plain", 1)), Bounce, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf(c.mail))
			if r.Kind != c.kind || r.returnedSubject != c.subject {
				t.Errorf("got %s about %q, want %s about %q", r.Kind, r.returnedSubject, c.kind, c.subject)
			}
			if want := c.kind == Bounce; (len(r.Recipients) == 1) != want {
				t.Errorf("got the recipients %+v", r.Recipients)
			}
		})
	}
}

// TestStatusInText: the fields of a report where no part holds them.
func TestStatusInText(t *testing.T) {
	const fields = "Final-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.1.1\n"
	for _, c := range []struct {
		name, mail string
		kind       Kind
	}{
		{"all of them", "From: mailer-daemon@b.example\n\n" + fields, Bounce},
		{"in capitals", "From: mailer-daemon@b.example\n\n" + strings.ToUpper(fields), Bounce},
		{"without a status", "From: mailer-daemon@b.example\n\n" + strings.Replace(fields, "Status", "X", 1), Other},
		{"without a recipient", "From: mailer-daemon@b.example\n\n" + strings.Replace(fields, "Final-Recipient", "X", 1), Other},
		{"a person's", "From: ann@b.example\n\n" + fields, Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf(c.mail))
			if r.Kind != c.kind || (len(r.Recipients) == 1) != (c.kind == Bounce) {
				t.Errorf("got %s %+v, want %s", r.Kind, r.Recipients, c.kind)
			}
		})
	}
}
