package report

import (
	"testing"

	"postern/tracking/token"
)

// ours is the header of a message of ours, quoted or attached in a mail.
func ours(id token.ID) string {
	return "X-Sp-Message-Id: " + id.String() + "\nFrom: News <news@example.com>\nTo: bob@example.com\nSubject: Your delivery status update"
}

// TestReceiptsAndRepliesMakeNoEvent: a person who read a message, is away or
// writes about it has not bounced and did not complain, whatever words stand in
// the mail and whoever it is from.
func TestReceiptsAndRepliesMakeNoEvent(t *testing.T) {
	keys := testKeys(t)
	id := keys.NewID(noon.Add(-1))
	receipt := func(contentType, part string) string {
		return "From: Bob <bob@example.com>\nSubject: Read: Your delivery status update\nContent-Type: " + contentType + "; boundary=b\n\n" +
			"--b\n\nThis is a receipt for the mail you sent to bob@example.com. It was displayed. The delivery status is not delivered.\n" +
			"--b\nContent-Type: " + part + "\n\nReporting-UA: x\nFinal-Recipient: rfc822; bob@example.com\nDisposition: manual-action/MDN-sent-manually; displayed\n" +
			"--b\nContent-Type: text/rfc822-headers\n\n" + ours(id) + "\n--b--\n"
	}
	quoted := "\n\nI am away until Monday.\n\n> Your message could not be delivered: <bob@example.com>: 550 5.1.1 user unknown\n\n-- Original message --\n" + ours(id) + "\n\nhi\n"
	report := "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nsorry\n--b\nContent-Type: message/delivery-status\n\n" +
		"Reporting-MTA: dns; b.example\n\nFinal-Recipient: rfc822; carl@example.com\nAction: failed\nStatus: 5.1.1\n--b\nContent-Type: message/rfc822\n\n" + ours(id) + "\n\nhi\n--b--\n"
	forward := "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nIs this one of yours? Our customer asks.\n--b\nContent-Type: message/rfc822\n\n" + ours(id) + "\n\nhi\n--b--\n"
	for _, c := range []struct {
		name, mail string
		want       Kind
	}{
		{"a read receipt", receipt("multipart/report; report-type=disposition-notification", "message/disposition-notification"), AutoReply},
		{"a read receipt, the parameter in capitals", receipt(`multipart/report; report-type="Disposition-Notification"`, "text/plain"), AutoReply},
		{"a read receipt without its type", receipt("multipart/mixed", "message/disposition-notification"), AutoReply},
		{"a receipt of a mail system", "Return-Path: <>\n" + receipt("multipart/report; report-type=delivery-status", "message/disposition-notification"), AutoReply},
		{"a postmaster who is away", "From: postmaster@example.com\nAuto-Submitted: auto-replied\nX-Auto-Response-Suppress: All\nSubject: Automatic reply: Your delivery status update" + quoted, AutoReply},
		{"a postmaster who is away, by the subject alone", "From: Postmaster <postmaster@example.com>\nSubject: Out of office: returned mail policy" + quoted, AutoReply},
		{"a postmaster who is away, by one field", "From: postmaster@example.com\nAuto-Submitted: auto-replied (vacation)\nSubject: Re: Your delivery status update" + quoted, AutoReply},
		{"a mail administrator's office", "From: \"Mail Administrator Office Berlin\" <office@example.com>\nSubject: Out of office: returned mail policy" + quoted, AutoReply},
		{"the same office, without a sign", "From: \"Mail Administrator Office Berlin\" <office@example.com>\nSubject: returned mail policy" + quoted, Other},
		{"in German", "From: postmaster@example.com\nSubject: Automatische Antwort: Delivery status" + quoted, AutoReply},
		{"in French", "From: postmaster@example.com\nSubject: =?utf-8?q?R=C3=A9ponse_automatique=C2=A0=3A_x?=" + quoted, AutoReply},
		{"in Spanish", "From: postmaster@example.com\nSubject: =?utf-8?q?Respuesta_autom=C3=A1tica=3A_x?=" + quoted, AutoReply},
		{"in Polish", "From: postmaster@example.com\nSubject: =?utf-8?q?Odpowied=C5=BA_automatyczna=3A_x?=" + quoted, AutoReply},
		{"in Russian", "From: postmaster@example.com\nSubject: =?utf-8?b?0JDQstGC0L7QvNCw0YLQuNGH0LXRgdC60LjQuSDQvtGC0LLQtdGCOiB4?=" + quoted, AutoReply},
		{"in Japanese", "From: postmaster@example.com\nSubject: =?utf-8?b?6Ieq5YuV5b+c562UOiB4?=" + quoted, AutoReply},
		{"in Chinese", "From: postmaster@example.com\nSubject: =?utf-8?b?6Ieq5Yqo562U5aSNOiB4?=" + quoted, AutoReply},
		{"with the null return path that replies have", "Return-Path: <>\nFrom: Bob <bob@example.com>\nAuto-Submitted: auto-replied\nSubject: away" + quoted, AutoReply},
		{"by Precedence", "From: postmaster@example.com\nPrecedence: auto_reply (x)\nSubject: x" + quoted, AutoReply},
		{"a postmaster with failing words and neither recipient nor reply", "From: postmaster@example.com\nSubject: returned mail\n\nAs to the delivery failure you asked about: we shall see.\n", Other},
		{"a person redirects a report", "From: Ann <ann@example.com>\nSubject: Undelivered Mail Returned to Sender\n" + report, Other},
		{"a person resends a report", "From: Mail Desk <desk-mail@example.com>\nResent-From: ann@example.com\nSubject: Undelivered Mail Returned to Sender\n" + report, Other},
		{"a person forwards a report", "From: Ann <ann@example.com>\nAuto-Submitted: no\nSubject: WG: Undelivered Mail\n" + report, Other},
		{"a complaints desk asks", "From: complaints@example.com\nSubject: a question\n" + forward, Other},
		{"a feedback loop's owner asks", "From: fbl@example.com\nSubject: Fwd: newsletter\n" + forward, Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			mail := crlf(c.mail)
			r := Parse(mail)
			if r.Kind != c.want {
				t.Errorf("got %s, want %s: %+v", r.Kind, c.want, r.Recipients)
			}

			f := Finder{Keys: keys, Header: "X-Sp-Message-Id"}
			found, ok := f.Find(r, mail, []string{"bounce+" + id.String() + "@bounces.example"})
			if !ok {
				t.Fatal("the message is not found")
			}
			if e := r.Event(found, noon); e != nil {
				t.Errorf("got the event %+v", e)
			}
		})
	}
}

// TestNoticesFromDaemons: what looks like an automatic reply and is a mail
// system's notice stays one.
func TestNoticesFromDaemons(t *testing.T) {
	report := "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nsorry\n--b\nContent-Type: message/delivery-status\n\n" +
		"Reporting-MTA: dns; b.example\n\nFinal-Recipient: rfc822; carl@example.com\nAction: failed\nStatus: 5.1.1\n--b--\n"
	for name, mail := range map[string]string{
		"Exim's, without a part for machines": "From: Mail Delivery System <Mailer-Daemon@a.example>\nAuto-Submitted: auto-replied\nSubject: Mail delivery failed: returning message to sender\n\n" +
			"A message that you sent could not be delivered:\n\n  carl@example.com\n    550 5.1.1 user unknown\n",
		"a postmaster's, auto-replied":                       "From: postmaster@a.example\nAuto-Submitted: auto-replied\nSubject: Undeliverable: Automatic reply\n\nYour message could not be delivered:\n\n<carl@example.com>: 550 5.1.1 user unknown\n",
		"with a part for machines and a reply's signs":       "From: postmaster@a.example\nAuto-Submitted: auto-replied\nX-Auto-Response-Suppress: All\nSubject: Automatic reply\n" + report,
		"a report of a program with an odd name":             "From: <noreply@a.example>\nSubject: x\n" + report,
		"a report with an address alone that a program made": "From: ann@a.example\nAuto-Submitted: auto-generated (failure)\nSubject: x\n" + report,
	} {
		t.Run(name, func(t *testing.T) {
			r := Parse(crlf(mail))
			if r.Kind != Bounce || len(r.Recipients) != 1 || r.Recipients[0].Final != "carl@example.com" || !r.Recipients[0].Hard {
				t.Errorf("got %s %+v, want a hard bounce of carl@example.com", r.Kind, r.Recipients)
			}
		})
	}
}

// TestSubjectDecidesNothing: the newsletter's subject stands in the notice's
// subject and in its text, and is nobody's verdict.
func TestSubjectDecidesNothing(t *testing.T) {
	notice := func(subject, text string) string {
		return "From: postmaster@b.example\nSubject: Undeliverable: " + subject + "\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n" +
			"--b\n\n" + text + "\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; b.example\n\n" +
			"Final-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 554 Transaction failed\n" +
			"--b\nContent-Type: text/rfc822-headers\n\nSubject: " + subject + "\nTo: bob@b.example\n--b--\n"
	}
	want := Parse(crlf(notice("x", "Your message could not be delivered."))).Recipients[0]
	for _, subject := range []string{
		"Spring sale",
		"Our Berlin store has moved",
		"Please note our new address",
		"This offer is no longer available",
		"does not exist (new film)",
		"You have been unsubscribed",
		"Your vacation in Italy",
		"User unknown",
		"Mailbox full of gifts, no spam",
	} {
		for name, text := range map[string]string{
			"subject":         "Your message could not be delivered.",
			"line":            "Your message\n\n  To: bob@b.example\n  Subject: " + subject + "\n\ncould not be delivered.",
			"folded line":     "Your message\n\n  Subject:\n     " + subject + "\n  To: bob@b.example\n\ncould not be delivered.",
			"quoted":          "Your message \"" + subject + "\" could not be delivered.",
			"German line":     "Ihre Nachricht\n\n  Betreff: " + subject + "\n\nkonnte nicht zugestellt werden.",
			"beside the user": "Your message \"" + subject + "\" could not be delivered to:\n\n<bob@b.example>\n",
		} {
			t.Run(subject+"/"+name, func(t *testing.T) {
				r := Parse(crlf(notice(subject, text)))
				if len(r.Recipients) != 1 || r.Recipients[0].Class != want.Class || r.Recipients[0].Hard {
					t.Errorf("got %+v, want class %d, soft", r.Recipients, want.Class)
				}
			})
		}
	}
}

// TestContextIsNeverHard: what a notice says around, without a server's reply,
// makes a soft bounce at most.
func TestContextIsNeverHard(t *testing.T) {
	for _, text := range []string{
		"The address does not exist.",
		"This user has moved.",
		"You have been unsubscribed.",
		"The host was not found.",
	} {
		t.Run(text, func(t *testing.T) {
			mail := "From: MAILER-DAEMON@b.example\nSubject: failure notice\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\n" + text +
				"\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 554 Transaction failed\n--b--\n"
			r := Parse(crlf(mail))
			if len(r.Recipients) != 1 || r.Recipients[0].Hard || r.Recipients[0].Class == 10 {
				t.Errorf("got %+v, want a soft bounce", r.Recipients)
			}
		})
	}
}

// TestNewsletterWordsWithoutACode: what newsletters say of shops and offers makes
// no hard bounce where neither a status nor a reply code stands beside it.
func TestNewsletterWordsWithoutACode(t *testing.T) {
	for _, said := range []string{"Our Berlin store has moved", "Please note our new address", "You have been unsubscribed", "This offer is no longer available"} {
		t.Run(said, func(t *testing.T) {
			r := Parse(crlf("From: MAILER-DAEMON@a.example\nSubject: failure notice\n\nYour message could not be delivered:\n\n<bob@b.example>:\n" + said + "\n"))
			if len(r.Recipients) != 1 || r.Recipients[0].Hard || r.Recipients[0].Class == 10 || r.Recipients[0].Class == 90 {
				t.Errorf("got %+v, want a soft bounce", r.Recipients)
			}
		})
	}
}
