package report

import (
	"strings"
	"testing"
	"time"

	"postern/tracking/bounce"
	"postern/tracking/token"
)

// crlf makes a mail of lines.
func crlf(s string) []byte {
	return []byte(strings.ReplaceAll(strings.TrimLeft(s, "\n"), "\n", "\r\n"))
}

// TestFormats has a case for each way of saying that mail came back, and for
// what must not be taken for it.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		name, mail string
		kind       Kind
		want       string // recipient status class hard, one after the other
	}{
		{"RFC 3464, several recipients, each action", `
From: MAILER-DAEMON@a.example
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b

Not all of it worked.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; a.example
Original-Envelope-Id: QQ314159

Original-Recipient: rfc822;gone@b.example
Final-Recipient: rfc822;gone@mailbox.b.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such
 user here

Final-Recipient: rfc822;slow@b.example
Action: delayed
Status: 4.4.1

Final-Recipient: rfc822;good@b.example
Action: relayed
Status: 2.0.0
--b--
`, Bounce, "gone@b.example 5.1.1 10 true; slow@b.example 4.4.1 24 false; good@b.example 2.0.0 0 false"},
		{"delivered only", `
From: postmaster@a.example
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; a.example

Final-Recipient: rfc822;x@b.example
Action: delivered
Status: 2.1.5
--b--
`, Delivered, "x@b.example 2.1.5 0 false"},
		{"a blank line inside a group", `
From: <>
Content-Type: multipart/report; boundary=b

--b
Content-Type: message/delivery-status

Final-Recipient: rfc822; x@b.example

Action: failed
Status: 5.2.2
--b--
`, Bounce, "x@b.example 5.2.2 22 false"},
		{"no blank line between groups", `
From: <>
Content-Type: multipart/report; boundary=b

--b
Content-Type: message/delivery-status

Final-Recipient: rfc822; x@b.example
Action: failed
Status: 5.2.2
Final-Recipient: rfc822; y@b.example
Action: failed
Status: 5.1.1
--b--
`, Bounce, "x@b.example 5.2.2 22 false; y@b.example 5.1.1 10 true"},
		{"a status part that is base64", `
From: MAILER-DAEMON@a.example
Content-Type: multipart/report; boundary=b

--b
Content-Type: message/delivery-status
Content-Transfer-Encoding: base64

UmVwb3J0aW5nLU1UQTogZG5zOyBhCgpGaW5hbC1SZWNpcGllbnQ6IHJmYzgyMjsgeEBiLmV4YW1wbGUKQWN0aW9uOiBmYWlsZWQKU3RhdHVzOiA1LjEuMQo=
--b--
`, Bounce, "x@b.example 5.1.1 10 true"},
		{"Apache James", `
From: postmaster@mail.a.example
Subject: [BOUNCE]
Content-Type: text/plain

Hi. This is the James mail server at mail.a.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out. Below
I include the list of recipients and the reason why I was unable to deliver
your message.

Failed recipient(s):
kijitora@example.org

Error message:
550 - Requested action not taken: no such user here
`, Bounce, "kijitora@example.org  10 true"},
		{"MailMarshal", `
From: "postmaster@a.example" <postmaster@a.example>
Subject: Undeliverable Mail: "Nyaan"
Content-Type: text/plain

Your message:
   From:    x@y.example
   Subject: Nyaan

Could not be delivered because of

550 5.1.1 User unknown

The following recipients were affected:
    dummyuser@b.example

`, Bounce, "dummyuser@b.example 5.1.1 10 true"},
		{"KDDI", `
From: Postmaster@au.example
Subject: Mail System Error - Returned Mail
Content-Type: text/plain

Could not be delivered to: <kijitora@au.example>
As their mailbox is full.
`, Bounce, "kijitora@au.example  22 false"},
		{"Domino", `
From: Postmaster@example.com
Subject: DELIVERY FAILURE: User some.name (kijitora@example.net) not listed in Domino Directory
Content-Type: text/plain

Your message

  Subject: Test Bounce

was not delivered to:

  kijitora@example.net

because:

  User some.name (kijitora@example.net) not listed in Domino Directory
`, Bounce, "kijitora@example.net  10 true"},
		{"Exchange, the address with mailto and a status on its own line", `
From: Microsoft Outlook <postmaster@example.com>
Subject: Undeliverable: Nyaan
Content-Type: text/plain

Delivery has failed to these recipients or groups:

kijitora@example.com<mailto:kijitora@example.com>
The e-mail address you entered couldn't be found.

Diagnostic information for administrators:
kijitora@example.com
#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##
`, Bounce, "kijitora@example.com 5.1.1 10 true"},
		{"HTML alone", `
From: Mail Delivery System <mailer-daemon@a.example>
Subject: Delivery failed
Content-Type: text/html

<html><body><p>Your message could not be delivered to <b>x@b.example</b></p><p>550 5.2.2 mailbox full</p></body></html>
`, Bounce, "x@b.example 5.2.2 22 false"},
		{"iMail, attempts", `
From: "Mail Delivery Service" <postmaster@a.example>
Subject: Undeliverable Mail
Content-Type: text/plain

Delivery failed 20 attempts: kijitora@b.example

Original message follows.

From: x@y.example
To: kijitora@b.example
Subject: Nyaan

hi
`, Bounce, "kijitora@b.example  1 false"},
		{"iMail, mailbox", `
From: Postmaster <postmaster@a.example>
Subject: Undeliverable Mail
Content-Type: text/plain

User mailbox exceeds allowed size: kijitora@b.example

Original message follows.
`, Bounce, "kijitora@b.example  22 false"},
		{"Messaging Server", `
From: Internet Mail Delivery <postmaster@a.example>
Subject: Delivery Notification: Delivery has failed
Content-Type: text/plain

This report relates to a message you sent with the following header fields:

  Message-id: <x@y>

Your message cannot be delivered to the following recipients:

  Recipient address: kijitora@b.example
  Reason: Remote SMTP server has rejected address
  Diagnostic code: smtp;550 5.1.1 <kijitora@b.example>... User Unknown
  Remote system: dns;mx.b.example (TCP|17.111.174.65|48044|192.0.2.225|25)
`, Bounce, "kijitora@b.example 5.1.1 10 true"},
		{"Courier", `
From: "Courier mail server at a.example" <@>
Subject: NOTICE: mail delivery status.
Content-Type: text/plain

This is a delivery status notification from a.example,
running the Courier mail server, version 0.65.2.

The original message was received on Sat, 11 Dec 2010 12:19:57 +0900

                           UNDELIVERABLE MAIL

Your message to the following recipients cannot be delivered:

<kijitora@b.example>:
    mx.b.example [192.0.2.95]:
>>> RCPT TO:<kijitora@b.example>
<<< 550 5.1.1 <kijitora@b.example>... User Unknown
`, Bounce, "kijitora@b.example 5.1.1 10 true"},
		{"Biglobe", `
From: postmaster@biglobe.example
Subject: Returned mail: Mailbox Full
Content-Type: text/plain

   ----- The following addresses had delivery problems -----
<kijitora@biglobe.example>

   ----- Non-delivered information -----
The number of messages in recipient's mailbox exceeded the local limit.
`, Bounce, "kijitora@biglobe.example  22 false"},
		{"a delay in words", `
From: Mail Delivery System <Mailer-Daemon@a.example>
Subject: Warning: message 1abcde-000 delayed 24 hours
Content-Type: text/plain

A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on a.example.

The address to which the message has not yet been delivered is:

  x@b.example
    Delay reason: Connection timed out
`, Delay, "x@b.example  24 false"},
		{"SES by SNS", `
From: AWS Notifications <no-reply@sns.amazonaws.com>
Content-Type: text/plain

{"notificationType":"Complaint","complaint":{"complainedRecipients":[{"emailAddress":"x@b.example"}],"complaintFeedbackType":"abuse"}}
`, Complaint, "x@b.example  0 false"},
		{"vacation with a word of undeliverable", `
From: Ann <ann@b.example>
Subject: Automatic reply: Undeliverable?
Auto-Submitted: auto-replied
Content-Type: text/plain

I am away. Mail to bob@b.example instead.
`, AutoReply, ""},
		{"challenge", `
From: <bot@b.example>
Subject: Please confirm your message
X-Autoreply: yes

Click to deliver your message to x@b.example
`, AutoReply, ""},
		{"a person who passes a report on", `
From: Ann <ann@b.example>
Subject: Fwd: Undelivered
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

Do you know why?
--b
Content-Type: message/delivery-status

Final-Recipient: rfc822; x@b.example
Action: failed
Status: 5.1.1
--b--
`, Other, ""},
		{"a person who writes of a failure", `
From: Ann <ann@b.example>
Subject: Delivery failed?
Content-Type: text/plain

My mail to <bob@b.example> could not be delivered, do you know why?
`, Other, ""},
		{"a postmaster who writes of something else", `
From: postmaster@b.example
Subject: Maintenance on Sunday
Content-Type: text/plain

The servers will be away. Questions to <help@b.example>.
`, Other, ""},
		{"Google Groups, which greets the sender", `
Return-Path: <>
From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
X-Failed-Recipients: group@googlegroups.com
Content-Type: text/plain; charset=utf-8

Hello news@a.example,

We're writing to let you know that the group you tried to contact (group) may not exist, or you may not have permission to post messages to the group.

----- Original message -----

To: group@googlegroups.com
`, Bounce, "group@googlegroups.com  50 false"},
		{"nothing at all", "", Other, ""},
		{"a header alone", "From: MAILER-DAEMON@a.example", Other, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf(c.mail))
			if bare := Parse([]byte(strings.TrimLeft(c.mail, "\n"))); len(bare.Recipients) != len(r.Recipients) || bare.Kind != r.Kind {
				t.Errorf("with bare LFs: %s %+v", bare.Kind, bare.Recipients)
			}
			var got []string
			for _, x := range r.Recipients {
				got = append(got, strings.TrimSpace(strings.Join([]string{x.Address(), x.Status, itoa(x.Class), boolean(x.Hard)}, " ")))
			}
			if r.Kind != c.kind || strings.Join(got, "; ") != c.want {
				t.Errorf("%s %q, want %s %q; %+v", r.Kind, strings.Join(got, "; "), c.kind, c.want, r.Recipients)
			}
		})
	}
}

// TestFeedback has the dialects of ARF.
func TestFeedback(t *testing.T) {
	arf := func(fields, returned string) string {
		return "From: fbl@provider.example\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: text/plain\n\nA complaint.\n--b\nContent-Type: message/feedback-report\n\n" +
			fields + "\n--b\nContent-Type: message/rfc822\n\n" + returned + "\n--b--\n"
	}
	for _, c := range []struct {
		name, mail, fbtype, recipients string
		event                          bool
	}{
		{"abuse", arf("Feedback-Type: abuse\nUser-Agent: X/1\nVersion: 1\nOriginal-Rcpt-To: <a@b.example>", "To: other@b.example\n\nhi"), "abuse", "a@b.example", true},
		{"fraud, whom the message went to", arf("Feedback-Type: fraud\nVersion: 1", "To: Ann <a@b.example>\n\nhi"), "fraud", "a@b.example", true},
		{"opt-out with a removal recipient", arf("Feedback-Type: opt-out\nRemoval-Recipient: a@b.example", "To: x@b.example\n\nhi"), "opt-out", "a@b.example", true},
		{"not-spam is not a complaint", arf("Feedback-Type: not-spam", "To: a@b.example\n\nhi"), "not-spam", "a@b.example", false},
		{"auth-failure is none either", arf("Feedback-Type: auth-failure\nAuth-Failure: dmarc", "To: a@b.example\n\nhi"), "auth-failure", "a@b.example", false},
		{"no type", arf("User-Agent: X/1", "To: a@b.example\n\nhi"), "abuse", "a@b.example", true},
		{"JMRP: the message bare", "From: staff@hotmail.com\nSubject: complaint about message from 192.0.2.1\nX-HmXmrOriginalRecipient: a@hotmail.example\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nTo: hidden@x.example\n\nhi\n--b--\n", "abuse", "a@hotmail.example", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf(c.mail))
			var got []string
			for _, x := range r.Recipients {
				got = append(got, x.Final)
			}
			if r.Kind != Complaint || r.FeedbackType != c.fbtype || strings.Join(got, " ") != c.recipients {
				t.Errorf("%s %q %v", r.Kind, r.FeedbackType, got)
			}
			if e := r.Event(Found{}, noon); (e != nil) != c.event {
				t.Errorf("event %v", e)
			}
		})
	}
}

// FuzzParse: whatever a mail says, what is read of it is bounded and fit for an
// event, and the event's recipient is the one whom the copy was sealed for.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"",
		"From: a\r\n\r\n",
		"From: MAILER-DAEMON@a\nSubject: failure notice\n\n<a@b.example>:\n550 5.1.1 x\n\n--- Below this line is a copy of the message.\n\nTo: a@b.example\n",
		"From: postmaster@a\nSubject: Undeliverable\n\nYour message could not be delivered\n\n550 5.1.1 no\n",
		"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; x@y\nStatus: 5.1.1\n--b--",
		"Content-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n--b\nContent-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; x@y\n--b--",
		"Content-Type: multipart/mixed; boundary=\"\n\n--",
		"Content-Type: message/feedback-report\n\nFeedback-Type: abuse\n\n",
		"From: a\n\n{\"notificationType\":\"Bounce\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		r := Parse(msg)
		if len(r.Recipients) > maxRecipients {
			t.Fatalf("%d recipients", len(r.Recipients))
		}
		for _, c := range r.Recipients {
			if strings.ContainsAny(c.Diagnostic, "\r\n") || len(c.Diagnostic) > maxReason {
				t.Fatalf("diagnostic %q", c.Diagnostic)
			}
			if c.Hard && c.Kind != Bounce {
				t.Fatalf("hard %+v", c)
			}
			if (c.Kind == Bounce || c.Kind == Delay) && !bounce.Known(c.Class) {
				t.Fatalf("class %+v", c)
			}
		}

		e := r.Event(Found{ID: someID, Recipient: "x@y.example"}, noon)
		if e == nil {
			return
		}
		if e.RcptTo != "x@y.example" {
			t.Fatalf("recipient %q, want the sealed one", e.RcptTo)
		}
		if _, err := e.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzFind: no mail makes an event of an id that does not verify, and with a
// token of the copy the event is about the one whom it was sealed for.
func FuzzFind(f *testing.F) {
	keys := testKeys(f)
	id := keys.NewID(noon.Add(-time.Hour))
	sealed := keys.Seal(token.Token{Kind: token.Click, MessageID: id, Recipient: "reader@b.example", Target: "https://www.example.com/"})
	for _, s := range []string{
		string(bounceOf("X-Sp-Message-Id: " + id.String() + "\n\n" + token.URL("https://t.example", sealed))),
		string(bounceOf("X-Sp-Message-Id:\n " + id.String() + "\n\nhi")),
		string(bounceOf("X-Sp-Message-Id: aaaaaaaaaaaaaaaaaaaaaaaaaa\n\nhi")),
		string(bounceOf("List-Unsubscribe: <mailto:unsubscribe@b.example?subject=" + sealed + ">\n\nhi")),
	} {
		f.Add([]byte(s), "bounce+"+id.String()+"@b.example")
		f.Add([]byte(s), "bounce+aaaaaaaaaaaaaaaaaaaaaaaaaa@b.example")
	}

	finder := Finder{Keys: keys, Header: "X-Sp-Message-Id"}
	f.Fuzz(func(t *testing.T, msg []byte, recipient string) {
		r := Parse(msg)
		found, ok := finder.Find(r, msg, []string{recipient})
		if !ok {
			return
		}
		if found.ID != id {
			t.Fatalf("found %s, which nobody issued", found.ID)
		}
		if found.Recipient != "" && found.Recipient != "reader@b.example" {
			t.Fatalf("recipient %q, which nobody sealed", found.Recipient)
		}
		if e := r.Event(found, noon); e != nil && found.Recipient != "" && e.RcptTo != found.Recipient {
			t.Fatalf("event about %q, want %q", e.RcptTo, found.Recipient)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	msg := crlf("From: MAILER-DAEMON@a.example\nContent-Type: multipart/report; boundary=b\n\n--b\n\nsorry\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; a\n\nFinal-Recipient: rfc822; x@y.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\n" + strings.Repeat("A line of the returned message, as it was.\n", 700) + "--b--\n")
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if Parse(msg).Kind != Bounce {
			b.Fatal("not a bounce")
		}
	}
}
