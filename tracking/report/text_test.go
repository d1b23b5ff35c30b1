package report

import (
	"strings"
	"testing"
)

// TestCutReturned parts a notice from the message that it returns.
func TestCutReturned(t *testing.T) {
	const before = "It failed.\n\n"
	for _, separator := range []string{
		"--- Below this line is a copy of the message.", "------ This is a copy of the message ------", "-----Original Message-----",
		"-- Unsent message below:", "-- enclosed", "----- Message follows -----", "--- header of the message", "--- failed message ---",
		"--- your message ---", "--- Returned message ---", "--- returned mail ---", "--- header and top 20 lines ---",
		"----- message text", "---- Headers", "----Message", "Included is a copy of the message", "Attached is the header",
		"Below is a copy", "Following is the header.", "Enclosed is a copy of it", "Here is a copy:",
		"Original message follows.", "Original mail follows:", "Message headers follow:", "Message header follow", "Original headers follow",
		"Original message headers:", "Bounced e-mail:", "Bounced email", "Original mail as follows:",
		"Original message as received: x", "Your message reads:", "Your message began:", "Your message begins", "Your message was as follows:",
		"Your message follows:", "Your message starts:", "The first 50 lines of your original message:", "Top 9 lines of the message",
		"Ursprüngliche Nachricht:", "urspruengliche Kopfzeilen", "Ursprungliche Nachricht", "Originale Nachricht",
		"En-têtes du message", "Texte de votre message", "entetes x", "The header of the original message:",
		"The attachment contains the original mail headers of it", "Reported-MTA: x", "> | * Included is a copy",
	} {
		want := [2]string{before, "A: b\n"}
		if separator == "entetes x" {
			want = [2]string{before + separator + "\n\nA: b\n", ""}
		}
		notice, returned := cutReturned(before + separator + "\n\nA: b\n")
		if notice != want[0] || returned != want[1] {
			t.Errorf("%s: got %q and %q, want %q", separator, notice, returned, want)
		}
	}

	for _, c := range []struct{ name, text, notice, returned string }{
		{"no separator", "It failed.\nSorry.\n", "It failed.\nSorry.\n", ""},
		{"a separator in front", "--- Original message ---\nx\n", "--- Original message ---\nx\n", ""},
		{"one dash", "a\n- original message\nx\n", "a\n- original message\nx\n", ""},
		{"a header", "It failed.\n\nReceived: x\n y\n\tz\nFrom: a\nTo: b\n\nhi\n", "It failed.\n\n", "Received: x\n y\n\tz\nFrom: a\nTo: b\n\nhi\n"},
		{"two fields alone", "It failed.\n\nFrom: a\nTo: b\n\nhi\n", "It failed.\n\nFrom: a\nTo: b\n\nhi\n", ""},
		{"fields apart", "x\nFrom: a\nTo: b\nsaid\nDate: c\n", "x\nFrom: a\nTo: b\nsaid\nDate: c\n", ""},
		{"fields of a part", "x\nContent-Type: a\nContent-Y: b\nContent-Z: c\n", "x\nContent-Type: a\nContent-Y: b\nContent-Z: c\n", ""},
		{"a header in front", "From: a\nTo: b\nDate: c\n", "From: a\nTo: b\nDate: c\n", ""},
		{"every field", "x\nReturn-Path: a\nMessage-ID: b\nSubject: c\n", "x\n", "Return-Path: a\nMessage-ID: b\nSubject: c\n"},
		{"and more", "x\nDKIM-Signature: a\nDelivered-To:\nMIME-Version: 1\n", "x\n", "DKIM-Signature: a\nDelivered-To:\nMIME-Version: 1\n"},
		{"fields of programs", "x\nX-Mailer: a\nX-Y: b\nX-Z: c\n", "x\n", "X-Mailer: a\nX-Y: b\nX-Z: c\n"},
		{"an empty value, spaced", "x\nFrom:  a\nTo:  b\nDate:  c\n", "x\nFrom:  a\nTo:  b\nDate:  c\n", ""},
		{"CRLF", "x\r\n--- Original message ---\r\n\r\nA: b\r\n", "x\r\n", "A: b\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if notice, returned := cutReturned(c.text); notice != c.notice || returned != c.returned {
				t.Errorf("got %q and %q, want %q and %q", notice, returned, c.notice, c.returned)
			}
		})
	}
}

// TestOwnWords: lines that quote the message and its subject are not the mail
// system's.
func TestOwnWords(t *testing.T) {
	for _, c := range []struct{ subject, text, want string }{
		{"", "It failed.\n> hi\nSorry.\n", "It failed.\nSorry.\n"},
		{"", ">>> RCPT\n> > x\n> <bob@b.example>\n> bob@b.example\n>x\n", ">>> RCPT\n> > x\n> <bob@b.example>\n> bob@b.example\n>x\n"},
		{"", "Subject: a\nSorry.\n", "Sorry.\n"},
		{"", "Subject: a\n b\n\tc\n\nSorry.\n", "\nSorry.\n"},
		{"", "Subject: a\n b@c.example\n d\n", " b@c.example\n d\n"},
		{"", "Subject: a\n b: c\n", " b: c\n"},
		{"", "> The original message subject : a\nx\n", "x\n"},
		{"", "Mail subject= a\nE-Mail Subject： a\nx\n", "x\n"},
		{"", "Our subject: a\nsubjects: a\n", "Our subject: a\nsubjects: a\n"},
		{"Sale today", "About Sale today: no\n", "About : no\n"},
		{"Sales!", "About Sales! no\n", "About  no\n"},
		{"Sales", "About Sales no\n", "About Sales no\n"},
	} {
		t.Run(c.subject+" "+c.text, func(t *testing.T) {
			r := &Report{returnedSubject: c.subject}
			if got := r.ownWords(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	for _, name := range []string{
		"Subject", "Betreff", "Objet", "Sujet", "Asunto", "Oggetto", "Onderwerp", "Assunto", "Temat", "Тема", "件名", "主题", "主旨", "제목",
	} {
		if got := (&Report{}).ownWords(name + ": user unknown\nx\n"); got != "x\n" {
			t.Errorf("%s: got %q, want it left out", name, got)
		}
	}
}

// TestRecipientLines names how notices name a recipient.
func TestRecipientLines(t *testing.T) {
	for line, want := range map[string]string{ // the address and the rest
		"bob@b.example":                                             "bob@b.example|",
		"  <bob@b.example>":                                         "bob@b.example|",
		"* - \"bob@b.example\":":                                    "bob@b.example|",
		"[bob@b.example].":                                          "bob@b.example|",
		"<bob@b.example>: no":                                       "bob@b.example|no",
		"<bob@b.example> no":                                        "bob@b.example|no",
		"<bob@b.example>:no":                                        "bob@b.example|no",
		"bob@b.example: no":                                         "bob@b.example|no",
		"bob@b.example (no)":                                        "bob@b.example|(no)",
		"bob@b.example [no]":                                        "bob@b.example|[no]",
		"bob@b.example on Mon, 1 Jan":                               "bob@b.example|on Mon, 1 Jan",
		"bob@b.example on 1/1/01":                                   "bob@b.example|on 1/1/01",
		"bob@b.example... no":                                       "bob@b.example|no",
		"bob@b.example - no":                                        "bob@b.example|no",
		"bob@b.example -- no":                                       "bob@b.example|no",
		"bob@b.example, no":                                         "bob@b.example|no",
		"bob@b.example Unknown":                                     "bob@b.example|Unknown",
		"bob@b.example failed twice":                                "bob@b.example|failed twice",
		"bob@b.example<mailto:bob@b.example> no":                    "bob@b.example| no",
		"Bob Smith <bob@b.example>":                                 "bob@b.example|",
		"Bob <bob@b.example>:":                                      "bob@b.example|",
		"Final recipient: <bob@b.example> no":                       "bob@b.example| no",
		"the address (x): 'bob@b.example' no":                       "bob@b.example| no",
		"Undelivered to: \"bob@b.example\" no":                      "bob@b.example| no",
		"We say that mailbox bob@b.example is full":                 "bob@b.example|is full",
		"Sorry, user <bob@b.example> doesn't exist":                 "bob@b.example| doesn't exist",
		"Your message to bob@b.example could not be sent":           "bob@b.example|could not be sent",
		"RCPT SMTP:bob@b.example no":                                "bob@b.example| no",
		"to SMTP=bob@b.example;":                                    "bob@b.example|;",
		"It was not delivered to bob@b.example today":               "bob@b.example| today",
		"Failed recipient(s): bob@b.example":                        "bob@b.example|",
		"Address(es) with errors: bob@b.example x":                  "bob@b.example| x",
		"Error-For:  bob@b.example":                                 "bob@b.example|",
		"bob@b.example said hello":                                  "",
		"ask bob@b.example":                                         "",
		"no address at all":                                         "",
		"From: bob@b.example":                                       "",
		"Sender <bob@b.example>: no":                                "",
		"Reply-To: <bob@b.example>":                                 "",
		"Message-ID: <x@b.example>":                                 "",
		"by <bob@b.example>":                                        "",
		"please ask <bob@b.example>":                                "",
		"(expanded from: <bob@b.example>)":                          "",
		"Contact recipient: <bob@b.example>":                        "",
		"for assistance, mailbox: <bob@b.example>":                  "",
		"mailto:bob@b.example?subject=x":                            "",
		"Absender: <bob@b.example>":                                 "",
		"sender address: <bob@b.example> to address: <a@b.example>": "",
		"they take no mail from bob@b.example is no user":           "",
		strings.Repeat("x", 2001-len(" recipient: <bob@b.example>")) + " recipient: <bob@b.example>": "",
	} {
		t.Run(line, func(t *testing.T) {
			got := ""
			if a, rest, ok := matchLine(line, recipientLines); ok {
				got = a + "|" + rest
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	if _, _, ok := matchLine(strings.Repeat("x", 2000-len(" recipient: <bob@b.example>"))+" recipient: <bob@b.example>", recipientLines); !ok {
		t.Error("a line of 2000 bytes is not read")
	}

	for line, want := range map[string]string{
		"550 <bob@b.example>... no":          "bob@b.example|no",
		"<<< 550 5.1.1 <bob@b.example>: no":  "bob@b.example|no",
		"550-bob@b.example... no":            "bob@b.example|no",
		">>> RCPT To: <bob@b.example>":       "bob@b.example|",
		"550 5.1.1 Sorry, <bob@b.example> x": "bob@b.example| x",
		"hello <bob@b.example>":              "",
	} {
		got := ""
		if a, rest, ok := matchLine(line, replyLines); ok {
			got = a + "|" + rest
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// TestNoticeRecipients: whom a notice names, and what it says of each.
func TestNoticeRecipients(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string
	}{
		{"what follows is said of it", "<a@b.example>:\n550 no\n\nreally\n<c@b.example>\nfull\n", "a@b.example=550 no/really/; c@b.example=full/"},
		{"blanks at the end", "a@b.example: \n550 no\n", "a@b.example=550 no/"},
		{"named twice", "<a@b.example>:\n550 no\n<A@b.example>: again\n", "a@b.example=550 no/<A@b.example>: again/"},
		{"what is said in front", "user unknown\n<a@b.example>\n", "a@b.example=user unknown/"},
		{"what is said in front, not just in front", "user unknown\n\n<a@b.example>\n", "a@b.example="},
		{"in front, nothing known", "hello there\n<a@b.example>\n", "a@b.example="},
		{"in front, of another", "x@b.example has an unknown user\n<a@b.example>\n", "a@b.example="},
		{"the sender behind the line that says so", "Message from:\n<a@b.example>\nTo address: <c@b.example>\n", "c@b.example="},
		{"in a dialogue", ">>> RCPT TO:<a@b.example>\n<<< 550 no\n", "a@b.example=>>> RCPT TO:<a@b.example>/<<< 550 no/"},
		{"in replies, each for itself", "550 <a@b.example>... no\n... x\n550 <c@b.example>... full\nbye\n",
			"a@b.example=550 <a@b.example>... no/; c@b.example=550 <c@b.example>... full/"},
		{"in whatever words", "We could not deliver this.\nAsk a@b.example about it\nand this\n", "a@b.example=Ask a@b.example about it/and this/"},
		{"up to six lines below", "We could not deliver this.\n1\n2\n3\n4\n5\nsee a@b.example now\n", "a@b.example=see a@b.example now/"},
		{"seven lines below", "We could not deliver this.\n1\n2\n3\n4\n5\n6\nsee a@b.example now\n", ""},
		{"two in a line", "We could not deliver this.\nsee a@b.example and c@b.example now\n", ""},
		{"a help desk", "We could not deliver this.\nsee helpdesk@b.example now\n", ""},
		{"named twice in whatever words", "We could not deliver this.\nsee a@b.example now\nsee A@b.example now\n", "a@b.example=see a@b.example now/"},
		{"nobody", "We could not deliver this.\n", ""},
		{"an alias", "failed:\n\n  an undisclosed address\n    (generated from a@b.example)\nno\n", "a@b.example=no/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, x := range noticeRecipients(c.text) {
				got = append(got, x.Final+"="+strings.ReplaceAll(x.Diagnostic, "\n", "/"))
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got %q, want %q", strings.Join(got, "; "), c.want)
			}
		})
	}

	for _, local := range []string{"postmaster", "mailer-daemon", "abuse", "support", "help", "helpdesk", "noreply", "No-Reply"} {
		if !helpDesk.MatchString(local + "@b.example") {
			t.Errorf("%s is not a place to ask", local)
		}
	}
	for _, word := range []string{"sent by", "Message from:", "mail from", "sender :", "from", "von", "expediteur", "remitente", "mittente"} {
		if !sentBy.MatchString("the " + word) {
			t.Errorf("%q names no sender", word)
		}
	}

	var many strings.Builder
	for i := range maxRecipients + 5 {
		many.WriteString("r" + itoa(i) + "@b.example\n")
	}
	if n := len(noticeRecipients(many.String())); n != maxRecipients {
		t.Errorf("%d recipients are read, want %d", n, maxRecipients)
	}
	if n := len(noticeRecipients("could not deliver\n" + strings.ReplaceAll(many.String(), "r", "could not deliver r"))); n != maxRecipients {
		t.Errorf("%d recipients are read of words, want %d", n, maxRecipients)
	}
	long := noticeRecipients("<a@b.example>:\n" + strings.Repeat(strings.Repeat("x", 99)+"\n", 99))
	if n := len(long[0].Diagnostic); n != 4000 {
		t.Errorf("%d bytes are said of one, want 4000", n)
	}
}

// TestReplyOfANotice: the first reply and the lines that go on with it.
func TestReplyOfANotice(t *testing.T) {
	for text, want := range map[string]string{
		"It failed.\n550 no\nreally\n\nbye":   "550 no really",
		"(#5.1.1)":                            "(#5.1.1)",
		"It failed.":                          "",
		"550 1\n2\n3\n4\n5\n6\n7":             "550 1 2 3 4 5 6",
		"550 1\n \n2":                         "550 1",
		strings.Repeat("x", 1996) + " 550\ny": strings.Repeat("x", 1996) + " 550 y",
		strings.Repeat("x", 1997) + " 550\ny": "",
	} {
		if got := noticeReply(text); got != want {
			t.Errorf("%.40q: got %.60q, want %.60q", text, got, want)
		}
	}

	for text, want := range map[string]bool{
		"550 5.1.1": true, "550-#5.1.1 x": true, "450 (4.1.1": true, "(#5.1.1)": true, "> 550 no": true, "550-no": true,
		"said: 550 x": true, "error code 554": true, "SMTP response 421": true, "status is 550": true, "returned a 450": true,
		"room 550 no": false, "560 no": false, "550no": false, "550 1": false, "5.1.1": false, "said what the price was, it is 550": false,
	} {
		if got := strongReply.MatchString(text); got != want {
			t.Errorf("%q is a reply: got %v, want %v", text, got, want)
		}
	}
}

// TestLabelledReasons: in many languages, where the reason is one that is known.
func TestLabelledReasons(t *testing.T) {
	for _, label := range []string{
		"Error", "Error message", "Error text", "Error type", "Reason", "The reason", "Reason code", "Cause", "Diagnosis", "Diagnostic",
		"Diagnostic code", "Diagnostic information", "Problem", "Explanation", "Grund", "Ursache", "Fehler", "Fehlermeldung", "Motif",
		"Raison", "Erreur", "Motivo", "Causa", "Razon", "Razón", "Errore", "Erro", "Reden", "Oorzaak", "Fout", "Powód", "Przyczyna",
		"Błąd", "Причина", "Ошибка", "原因", "退信原因", "错误", "エラー", "エラー内容", "理由",
	} {
		for _, colon := range []string{": ", " = ", "："} {
			if got := labelledReason("x\n * " + label + colon + "user unknown\ny"); got != "user unknown" {
				t.Errorf("%s: got %q, want the reason", label+colon, got)
			}
		}
	}
	for _, text := range []string{"Reason: nobody knows", "Season: user unknown", "A reason: user unknown", "Reason: \nuser unknown", ""} {
		if got := labelledReason(text); got != "" {
			t.Errorf("%q: got %q", text, got)
		}
	}
	if got := labelledReason("Error: 1\nReason: what?\nCause: over quota\n"); got != "over quota" {
		t.Errorf("got %q, want the first that is known", got)
	}
	if got := labelledReason(strings.Repeat("Error: x\n", 4) + "Error: over quota\n"); got != "" {
		t.Errorf("got %q of the fifth", got)
	}
}

// TestLineAbout: a line that begins with the local part and says why.
func TestLineAbout(t *testing.T) {
	for text, want := range map[string]string{
		"x\n  bob (user not found)\n": "bob (user not found)",
		"BOB: user unknown":           "BOB: user unknown",
		"bob\tuser unknown":           "bob\tuser unknown",
		"bob-user unknown":            "bob-user unknown",
		"bob":                         "",
		"bobby user unknown":          "",
		"bob said hello":              "",
		"user bob unknown":            "",
		"bob user unknown" + strings.Repeat(" ", 10) + strings.Repeat("x", 1974): "bob user unknown" + strings.Repeat(" ", 10) + strings.Repeat("x", 1974),
		"bob user unknown" + strings.Repeat(" ", 10) + strings.Repeat("x", 1975): "",
	} {
		if got := lineAbout(text, "Bob@b.example"); got != want {
			t.Errorf("%.30q: got %.30q, want %.30q", text, got, want)
		}
	}
}

// TestFailedOnly: where the header names who failed, others are left out.
func TestFailedOnly(t *testing.T) {
	found := []Recipient{{Final: "a@b.example"}, {Final: "C@b.example"}, {Final: "d@b.example"}}
	for failed, want := range map[string]string{
		"": "a@b.example C@b.example d@b.example", "nobody": "a@b.example C@b.example d@b.example",
		"A@b.example, c@b.example": "a@b.example C@b.example", "x@b.example": "",
	} {
		var got []string
		for _, c := range failedOnly(found, failed) {
			got = append(got, c.Final)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", failed, got, want)
		}
	}
}
