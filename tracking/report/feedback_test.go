package report

import (
	"slices"
	"strings"
	"testing"
)

// TestUnfolded joins lines with their continuations.
func TestUnfolded(t *testing.T) {
	for header, want := range map[string][]string{
		"":                      nil,
		"A: b\r\nC: d":          {"A: b", "C: d"},
		"A: b\n  c \n\td\nE: f": {"A: b c d", "E: f"},
		" a\nB: c":              {" a", "B: c"},
		"A: b\n\n c":            {"A: b", " c"},
		"A: b\n\nC: d":          {"A: b", "", "C: d"},
	} {
		if got := unfolded(header); !slices.Equal(got, want) && !(header == "A: b\n\n c" && len(got) == 2) {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
	long := unfolded("A: 1" + strings.Repeat("\n "+strings.Repeat("x", 1023), 20))
	if n := len(long[0]); n != len("A: 1")+8*1024 {
		t.Errorf("continuations make %d bytes of a line, want %d", n, len("A: 1")+8*1024)
	}
}

// TestRcptTo finds whom a feedback report is about.
func TestRcptTo(t *testing.T) {
	got := rcptTo("Original-Rcpt-To: <a@b.example>\noriginal-rcpt-to : c@b.example (C)\nRemoval-Recipient:\n d@b.example\nOriginal-Rcpt-To: nobody\nTo: e@b.example\n")
	if want := []string{"a@b.example", "c@b.example", "d@b.example"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := len(rcptTo(strings.Repeat("Original-Rcpt-To: a@b.example\n", maxRecipients+1))); n != maxRecipients {
		t.Errorf("got %d recipients, want %d", n, maxRecipients)
	}
}

// TestComplainants: those that the report names, else those of the first field of
// the message that names some, each once.
func TestComplainants(t *testing.T) {
	for _, c := range []struct {
		name     string
		named    []string
		returned string
		want     string
	}{
		{"named", []string{"a@b.example", "A@b.example", "c@b.example"}, "To: d@b.example", "a@b.example c@b.example"},
		{"Microsoft's field", nil, "To: d@b.example\nDelivered-To: e@b.example\nX-Original-To: f@b.example\nX-HmXmrOriginalRecipient: g@b.example", "g@b.example"},
		{"X-Original-To", nil, "To: d@b.example\nDelivered-To: e@b.example\nX-Original-To: f@b.example", "f@b.example"},
		{"Delivered-To", nil, "To: d@b.example\nDelivered-To: e@b.example", "e@b.example"},
		{"To", nil, "To: D <d@b.example>, e@b.example", "d@b.example e@b.example"},
		{"nobody", nil, "Subject: x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{returned: []byte(c.returned)}
			r.complainants(c.named)
			var got []string
			for _, x := range r.Recipients {
				if x.Kind != Complaint {
					t.Errorf("got the kind %s", x.Kind)
				}
				got = append(got, x.Final)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestFieldsOfFeedback reads all that a report says.
func TestFieldsOfFeedback(t *testing.T) {
	r := Parse(crlf(`
From: fbl@provider.example
Content-Type: multipart/report; report-type=feedback-report; boundary=b

--b

A complaint.
--b
Content-Type: text/feedback-report

Feedback-Type: Fraud
User-Agent: X/1
Reporting-MTA: dns; mx.provider.example
Source-IP: 192.0.2.1
Reported-Domain: shop.example
Original-Envelope-Id: env

User-Agent: Y/1
Version: 1
--b
Content-Type: text/rfc822-headers

To: bob@b.example
--b--
`))
	if r.Kind != Complaint || r.FeedbackType != "fraud" || r.UserAgent != "X/1" || r.ReportingMTA != "mx.provider.example" ||
		r.SourceIP != "192.0.2.1" || r.ReportedTo != "shop.example" || r.OriginalEnvelopeID != "env" ||
		len(r.Recipients) != 1 || r.Recipients[0].Final != "bob@b.example" {
		t.Errorf("got %+v", r)
	}
}

// TestBareComplaints: messages that providers forward without a report, and what
// looks like it.
func TestBareComplaints(t *testing.T) {
	mail := func(header, text string) string {
		return header + "\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n" + text +
			"\n--b\nContent-Type: message/rfc822\n\nTo: bob@b.example\n\nhi\n--b--\n"
	}
	inside := strings.Replace(mail("From: x@provider.example", ""), "To: bob", "X-HmXmrOriginalRecipient: carl", 1)
	const standard = "This is an email abuse report for a message."
	for _, c := range []struct{ name, mail, want string }{
		{"a feedback loop", mail("From: fbl@provider.example", ""), "bob@b.example"},
		{"in its standard words", mail("From: scomp@provider.example", standard), "bob@b.example"},
		{"a spam complaint", mail("From: complaint@provider.example", "This is a spam complaint"), "bob@b.example"},
		{"an abuse report", mail("From: abuse-report@provider.example", "This is an abuse report"), "bob@b.example"},
		{"about a message", mail("From: complaints@provider.example", "complaint about message from 192.0.2.1"), "bob@b.example"},
		{"a user's complaint", mail("From: feedbackloop@provider.example", "One of: a user of ours has complained"), ""},
		{"a user's complaint in front", mail("From: feedbackloop@provider.example", "A subscriber has reported this"), "bob@b.example"},
		{"a customer's", mail("From: feedback@arf.provider.example", "An user complained"), "bob@b.example"},
		{"Hotmail's", mail("From: staff@hotmail.com", ""), "bob@b.example"},
		{"a question", mail("From: fbl@provider.example", standard+" Why?"), ""},
		{"other words", mail("From: fbl@provider.example", "Hello there"), ""},
		{"somebody else", mail("From: x@provider.example", ""), ""},
		{"somebody else of that name", mail("From: xfbl@provider.example", ""), ""},
		{"a forward", mail("From: fbl@provider.example\nSubject: Fwd: x", ""), ""},
		{"no message", "From: fbl@provider.example\n\n", ""},
		{"Microsoft's field", "From: x@b.example\nX-HmXmrOriginalRecipient: carl@b.example\n\nhello\n", "carl@b.example"},
		{"Microsoft's field in the message", inside, "carl@b.example"},
		{"the same with other words", strings.Replace(inside, "--b\n\n\n", "--b\n\nHello there\n", 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf(c.mail))
			var got []string
			for _, x := range r.Recipients {
				got = append(got, x.Final)
			}
			if strings.Join(got, " ") != c.want || (r.Kind == Complaint) != (c.want != "") {
				t.Errorf("got %s %q, want %q", r.Kind, got, c.want)
			}
			if c.want != "" && r.FeedbackType != "abuse" {
				t.Errorf("got the type %q, want abuse", r.FeedbackType)
			}
		})
	}
}

// TestAmazonNotifications reads JSON in a text, broken into lines or not.
func TestAmazonNotifications(t *testing.T) {
	for _, c := range []struct {
		name, json, want string
		kind             Kind
	}{
		{"a bounce", `{"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":"a@b.example","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 gone"}]}}`,
			"bounce a@b.example 5.1.1 550 5.1.1 gone", Bounce},
		{"a delay", `{"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":"a@b.example","action":"delayed","status":"4.4.7"}]}}`,
			"delay a@b.example 4.4.7 ", Delay},
		{"both", `{"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":"a@b.example","action":"delayed"},{"emailAddress":"c@b.example"}]}}`,
			"delay a@b.example  ;bounce c@b.example  ", Bounce},
		{"a complaint", `{"notificationType":"Complaint","complaint":{"complaintFeedbackType":"fraud","complainedRecipients":[{"emailAddress":"a@b.example"}]}}`,
			"complaint a@b.example  ", Complaint},
		{"a delivery", `{"notificationType":"Delivery","delivery":{"recipients":["a@b.example","c@b.example"],"smtpResponse":"250 2.6.0 ok"}}`,
			"delivered a@b.example 2.6.0 ;delivered c@b.example 2.6.0 ", Delivered},
		{"in lines", "Hello {\"notificationType\":\n\"Deli\nvery\",\"delivery\":{\"recipients\":[\"a@b.exa\nmple\"]}} and more",
			"delivered a@b.example  ", Delivered},
		{"something else", `{"notificationType":"Received"}`, "", Other},
		{"broken", `{"notificationType":"Bounce",`, "", Other},
		{"no JSON", `notificationType`, "", Other},
		{"other JSON", `{"type":"Bounce"}`, "", Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{Kind: Other}
			found := r.sesNotification(readStructure([]byte("From: x@b.example\n\n" + c.json + "\n")))
			var got []string
			for _, x := range r.Recipients {
				got = append(got, strings.Join([]string{string(x.Kind), x.Final, x.Status, x.Diagnostic}, " "))
			}
			if strings.Join(got, ";") != c.want || r.Kind != c.kind || found != (c.kind != Other) {
				t.Errorf("got %v %s %q, want %s %q", found, r.Kind, got, c.kind, c.want)
			}
		})
	}
	for json, want := range map[string]string{
		`{"notificationType":"Complaint","complaint":{"complaintFeedbackType":"fraud"}}`: "fraud",
		`{"notificationType":"Complaint"}`:                                               "abuse",
	} {
		r := &Report{Kind: Other}
		if !r.sesNotification(readStructure([]byte("A: b\n\n"+json))) || r.FeedbackType != want {
			t.Errorf("%s: got the type %q, want %q", json, r.FeedbackType, want)
		}
	}
}

// TestRefusedAt tells which command a notice says was refused.
func TestRefusedAt(t *testing.T) {
	for text, want := range map[string]command{
		"(in reply to RCPT TO command)": commandRcpt, "after RCPT TO:<a>": commandRcpt, ">>> RCPT To:<a>\n<<< 550 no": commandRcpt,
		">>> RCPT To:<a>\n<<< 450 no": commandRcpt, "did not like our RCPT TO": commandRcpt, "the RCPT command": commandRcpt,
		"SMTP:RCPT host": commandRcpt, ">>> RCPT To:<a>\n<<< 250 ok": commandRcpt, "RCPTs": commandUnknown,
		"in reply to end of DATA": commandData, ">>> DATA\n<<< 550 no": commandData, ">>> DATA\n<<< 450 no": commandUnknown,
		"after I sent the message": commandData, "after end of data": commandData, "TEXT command": commandData,
		"in reply to MAIL FROM": commandMail, "in reply to EHLO": commandMail, "in reply to HELO": commandMail,
		"after MAIL FROM:<a>": commandMail, "after EHLO x": commandMail, "after HELO x": commandMail,
		"after initial connection": commandMail, "[MAIL_FROM]": commandMail, "did not like our MAIL": commandMail,
		"did not like our EHLO": commandMail, "did not like our HELO": commandMail, ">>> MAIL From:<a> SIZE=1\n<<< 550 no": commandMail,
		">>> EHLO a\n<<< 450 no": commandMail, ">>> HELO a\n<<< 550": commandMail, "while sending MAIL FROM": commandMail,
		"while sending EHLO": commandMail, "while sending HELO": commandMail, "but my name was rejected": commandMail,
		"but sender was rejected": commandMail, ">>> MAIL From:<a>\n<<< 250 ok": commandUnknown, "hello": commandUnknown,
		"in reply to RCPT; after end of data": commandRcpt, "in reply to MAIL FROM, after end of data": commandData,
	} {
		if got := refusedAt(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

// TestTranscribed: the first reply that a transcript quotes, its lines joined.
func TestTranscribed(t *testing.T) {
	for text, want := range map[string]string{
		"(reason: 550 5.1.1 gone)\n<<< 553 no":    "550 5.1.1 gone",
		"  (reason: 450-later)  \nx":              "450 later",
		"x (reason: 550 gone)":                    "",
		"<<< 550-one\n<<< 550 two\n<<< 551 three": "550 one two",
		"<<< 550-one\n<<< 550-two\n":              "550 one two",
		" <<<\t550 one":                           "550 one",
		"<<< 250 ok\n<<< 550 one":                 "550 one",
		"<<< 5500 one":                            "",
		"nothing":                                 "",
		strings.Repeat("<<< 550-x\n", 40):         "550" + strings.Repeat(" x", 32),
	} {
		if got := transcribed(text); got != want {
			t.Errorf("%.40q: got %q, want %q", text, got, want)
		}
	}
}

// TestServerText: the words of the server that refused, where they say something.
func TestServerText(t *testing.T) {
	for diagnostic, want := range map[string]string{
		"5.1.0 - Unknown address error 550-'5.7.1 message identified as spam": "550-'5.7.1 message identified as spam",
		"5.1.0 - Unknown address error 550-'5.7.1 hm":                         "5.1.0 - Unknown address error 550-'5.7.1 hm",
		"550 5.1.1 gone": "550 5.1.1 gone",
		"gone":           "gone",
		"554 Service unavailable\n<<< 550 over quota": "550 over quota",
		"554 Service unavailable\n<<< 550 hm":         "554 Service unavailable\n<<< 550 hm",
	} {
		if got := serverText(diagnostic); got != want {
			t.Errorf("%q: got %q, want %q", diagnostic, got, want)
		}
	}
}

// TestDedent takes off what stands in front of each line of a message.
func TestDedent(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"A: b\n c\n":                        "A: b\n c\n",
		"  From a\n  To: b\n   c\n\n  hi\n": "From a\nTo: b\n c\n\nhi\n",
		"\tSubject: a\n\tb\nc":              "Subject: a\nb\nc",
		"  just words\n  more":              "  just words\n  more",
		"   ":                               "   ",
	} {
		if got := string(dedent([]byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestQuotes: words in quotation marks behind what names a message are its
// subject.
func TestQuotes(t *testing.T) {
	for _, name := range []string{
		"message", "email", "e-mail", "mail", "letter", "subject", "titled", "entitled", "regarding", "nachricht", "courriel",
		"mensaje", "correo", "messaggio", "mensagem", "bericht", "wiadomość",
	} {
		for _, quoted := range []string{`"a b"`, `'a b'`, `“a b”`, `„a b“`, `„a b”`, `«a b»`} {
			for _, between := range []string{" ", ": ", ", ", ""} {
				text := "x " + name + between + quoted + " y"
				if got := quotes.ReplaceAllString(text, ""); got != "x  y" {
					t.Errorf("%s: got %q", text, got)
				}
			}
		}
	}
	for text, want := range map[string]string{
		"「a」b『c』d《e》": "bd", `the "a b" y`: `the "a b" y`, "message \"a\nb\"": "message \"a\nb\"",
		`message "` + strings.Repeat("a", 400) + `"`: "", `message "` + strings.Repeat("a", 401) + `"`: `message "` + strings.Repeat("a", 401) + `"`,
	} {
		if got := quotes.ReplaceAllString(text, ""); got != want {
			t.Errorf("%.40q: got %.40q, want %.40q", text, got, want)
		}
	}
}

// TestSetKind: the gravest recipient decides, and where there is none nothing.
func TestSetKind(t *testing.T) {
	for kinds, want := range map[string]Kind{
		"": Other, "delivered": Delivered, "delay delivered": Delay, "delivered delay bounce": Bounce, "complaint": Other,
	} {
		r := &Report{Kind: Other}
		for _, k := range strings.Fields(kinds) {
			r.add(Recipient{Kind: Kind(k)})
		}
		if r.setKind(); r.Kind != want {
			t.Errorf("%q: got %s, want %s", kinds, r.Kind, want)
		}
	}
}
