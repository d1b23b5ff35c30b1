package report

import (
	"slices"
	"strings"
	"testing"

	"postern/tracking/bounce"
)

// headed returns a plain mail with the given header, which ends without an empty
// line.
func headed(header string) *structure { return readStructure(crlf(header + "\n\nhello\n")) }

// TestNamesOfMailSystems names every local part and display name by which a mail
// system is known.
func TestNamesOfMailSystems(t *testing.T) {
	locals := []string{
		"mail-daemon", "mail-delivery", "mail.delivery", "mail_administrator", "maildelivery", "mailer-daemon", "mailer_daemon",
		"mailerdaemon", "mailrouter", "mailsystem", "mdaemon", "mmdf", "nullsender", "post_master", "postmaster", "returnedmail",
	}
	if len(daemonLocals) != len(locals) {
		t.Errorf("%d local parts, want %d", len(daemonLocals), len(locals))
	}
	for _, local := range append(locals, "postmaster-2", "microsoftexchange329e", "mail-daemon2") {
		if from := headed("From: X <" + strings.ToUpper(local) + "@a.example>").from(); !from.isDaemon() {
			t.Errorf("%s: %+v is not a mail system", local, from)
		}
	}

	begin := []string{
		"mailer-daemon", "mailer daemon", "mailerdaemon", "mail-daemon", "mail daemon", "mail delivery", "mail deliver",
		"maildelivery", "internet mail delivery", "message delivery", "delivery subsystem", "returned mail", "returnedmail",
		"undeliverable", "courier mail server", "microsoft exchange", "sistema de entrega", "systeme de distribution",
		"mail-zustellsystem", "mailzustellung",
	}
	exact := []string{
		"postmaster", "post master", "the post office", "post office", "mail administrator", "mail system",
		"system administrator", "systemadministrator", "system-administrator", "systemadministratoren",
		"administrateur systeme", "administrateur du systeme", "administrador del sistema", "administrador do sistema",
		"amministratore di sistema", "systeembeheerder", "administrator systemu", "mail server", "mailserver",
		"microsoft outlook", "系统管理员", "系統管理員", "システム管理者", "системный администратор",
	}
	if !slices.Equal(daemonNames, begin) || !slices.Equal(exactNames, exact) {
		t.Errorf("got the names %q and %q, want %q and %q", daemonNames, exactNames, begin, exact)
	}
	for _, name := range append(begin, "Système de distribution") {
		if !(sender{name: strings.ToLower(name) + " of x", local: "bob"}).isDaemon() {
			t.Errorf("%q in front is not a mail system", name)
		}
	}
	for _, name := range append(exact, "administrateur système") {
		if !(sender{name: name, local: "bob"}).isDaemon() {
			t.Errorf("%q is not a mail system", name)
		}
		if (sender{name: name + " x", local: "bob"}).isDaemon() {
			t.Errorf("%q and more is a mail system", name)
		}
	}

	for local, want := range map[string]bool{
		"mailer-daemon": true, "mailerdaemon": true, "mailer_daemon": true, "mail-daemon": true, "microsoftexchange": true,
		"mailer-daemon-1": true, "postmaster": false, "x-mailer-daemon": false, "": false,
	} {
		if got := (sender{local: local}).isMailer(); got != want {
			t.Errorf("%q is nothing but a mail system: got %v, want %v", local, got, want)
		}
	}
	if !(sender{none: true}).isMailer() || !(sender{none: true}).isDaemon() {
		t.Error("the null path is not a mail system")
	}
}

// TestNamesOfPrograms names every part of a local part that people do not have.
func TestNamesOfPrograms(t *testing.T) {
	for _, local := range []string{
		"noreply", "no-reply", "no_reply", "donotreply", "bounce", "mail", "daemon", "system", "admin", "notif", "robot", "smtp",
		"report", "return", "abuse", "feedback", "fbl", "complaint", "filter", "1234", "root", "nobody",
		"antivirus", "virus", "gateway", "imss", "scanner", "inetgw", "mailscan",
	} {
		if !(sender{local: local}).isRobot() {
			t.Errorf("%s is nobody's program", local)
		}
	}
	for _, local := range []string{"daemon", "antivirus", "virus", "gateway", "imss", "scanner", "smtp", "inetgw", "mailscan"} {
		if !gatewayNames.MatchString("x" + local + "x") {
			t.Errorf("%s is not a gateway", local)
		}
	}
	for _, local := range []string{"", "bob", "ann.smith", "1234a", "roots", "xroot", "nobody2", "info"} {
		if (sender{local: local}).isRobot() {
			t.Errorf("%q is a program", local)
		}
	}
}

// TestFrom reads From fields, well formed or not.
func TestFrom(t *testing.T) {
	for field, want := range map[string]sender{
		"Bob <bob@b.example>":                       {name: "bob", local: "bob", host: "b.example"},
		"bob@B.example":                             {local: "bob", host: "b.example"},
		"bob@b.example (Bob Smith)":                 {name: "bob smith", local: "bob", host: "b.example"},
		`"Mail Delivery" <MAILER@b.example>`:        {name: "mail delivery", local: "mailer", host: "b.example"},
		"=?utf-8?q?Syst=C3=A8me?= <s@b.example>":    {name: "système", local: "s", host: "b.example"},
		"=?iso-8859-1?q?Syst=E8me?= <s@b.example>":  {name: "système", local: "s", host: "b.example"},
		"Mail: Delivery: System <daemon@b.example>": {name: "mail: delivery: system", local: "daemon", host: "b.example"},
		"mailer-daemon":                             {name: "mailer-daemon", local: "mailer-daemon"},
		"Mail Delivery System":                      {name: "mail delivery system"},
		"<>":                                        {none: true},
		"Mail Delivery <>":                          {none: true},
		"":                                          {none: true},
		`"a@b" <c@d.example>`:                       {name: "a@b", local: "c", host: "d.example"},
		"(comment) bob@b.example <Postmaster@b.example": {local: "bob", host: "b.example", name: "<postmaster@b.example"},
	} {
		t.Run(field, func(t *testing.T) {
			got := headed("From: " + field).from()
			if field == "(comment) bob@b.example <Postmaster@b.example" {
				got.name, want.name = "", "" // whatever is left of it
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	if got := headed("To: bob@b.example").from(); !got.none {
		t.Errorf("without the field: got %+v, want none", got)
	}
}

// TestPassedOn names the fields and subjects of mail that a person passes on.
func TestPassedOn(t *testing.T) {
	for _, field := range []string{"Resent-From", "Resent-Sender", "Resent-To", "Resent-Date", "X-Forwarded-Message-Id"} {
		if !headed("From: bob@b.example\n" + field + ": x").isForward() {
			t.Errorf("%s is not of a forward", field)
		}
		if headed("From: postmaster@b.example\n" + field + ": x").isForward() {
			t.Errorf("%s makes a mail system's notice a forward", field)
		}
	}

	answers := []string{"re", "aw", "antw", "sv", "vs", "r", "res", "rif", "odp", "回复", "回覆", "答复", "返信"}
	forwards := []string{"fw", "fwd", "wg", "tr", "rv", "enc", "i", "doorst", "pd", "转发", "轉寄", "转寄", "転送"}
	for _, prefix := range append(slices.Clone(answers), forwards...) {
		for _, subject := range []string{prefix + ": x", "  " + strings.ToUpper(prefix) + " ：x"} {
			if !headed("From: bob@b.example\nSubject: " + subject).isForward() {
				t.Errorf("%q is not passed on", subject)
			}
			if got, want := isReplySubject(subject), slices.Contains(answers, prefix); got != want {
				t.Errorf("%q is an answer: got %v, want %v", subject, got, want)
			}
		}
		if subject := "x" + prefix + ": x"; isReplySubject(subject) || forwardedSubject.MatchString(subject) {
			t.Errorf("%q is passed on", subject)
		}
	}

	for header, want := range map[string]bool{
		"From: bob@b.example":                             true,
		"From: noreply@b.example":                         false,
		"From: postmaster@b.example\nSubject: Re: x":      false,
		"From: noreply@b.example\nSubject: Re: x":         true,
		"From: bob@b.example\nAuto-Submitted: no":         true,
		"From: bob@b.example\nAuto-Submitted: auto-x":     false,
		"From: bob@b.example\nReturn-Path: < >":           false,
		"From: bob@b.example\nReturn-Path: <b@b.example>": true,
		"From: bob@b.example\nX-Failed-Recipients: x":     false,
	} {
		if got := headed(header).passedOn(); got != want {
			t.Errorf("%q is passed on: got %v, want %v", header, got, want)
		}
	}
}

// TestFieldsOfAutomaticReplies names every field that only they have.
func TestFieldsOfAutomaticReplies(t *testing.T) {
	fields := []string{
		"Delivered-By-The-Graces-Of", "X-Auto-Reply", "X-Auto-Reply-From", "X-Autoreply", "X-Autoreply-From",
		"X-Autorespond", "X-Autoresponder", "X-Cron-Env", "X-Mail-Autoreply", "X-Vacation",
	}
	if !slices.Equal(replyFields, fields) {
		t.Errorf("got %q, want %q", replyFields, fields)
	}
	for _, field := range fields {
		for value, want := range map[string]bool{"yes": true, "bob@b.example": true, "": false, "NO": false, " no ": false} {
			if got := isAutoReply(headed("From: postmaster@b.example\nSubject: x\n" + field + ": " + value)); got != want {
				t.Errorf("%s: %q: got %v, want %v", field, value, got, want)
			}
		}
	}
}

// TestSignsOfAutomaticReplies has what else makes a mail one, and what keeps a
// mail system's notice from being one.
func TestSignsOfAutomaticReplies(t *testing.T) {
	for header, want := range map[string]bool{
		"From: bob@b.example\nSubject: x":                                                     false,
		"From: bob@b.example\nPrecedence: auto_reply":                                         true,
		"From: bob@b.example\nPrecedence: Auto-Reply":                                         true,
		"From: bob@b.example\nPrecedence: autoreply":                                          true,
		"From: bob@b.example\nPrecedence: bulk":                                               false,
		"From: bob@b.example\nPrecedence: junk":                                               false,
		"From: bob@b.example\nPrecedence: junk\nSubject: Re: x":                               true,
		"From: mailer-daemon@b.example\nPrecedence: junk\nSubject: Re: x":                     false,
		"From: bob@b.example\nX-Auto-Response-Suppress: All\nSubject: x":                      false,
		"From: bob@b.example\nX-Auto-Response-Suppress: All\nSubject: AW: x":                  true,
		"From: bob@b.example\nAuto-Submitted: auto-replied":                                   true,
		"From: bob@b.example\nAuto-Submitted: auto-generated":                                 false,
		"From: postmaster@b.example\nAuto-Submitted: auto-replied\nSubject: Undeliverable: x": false,
		"From: bob@b.example\nAuto-Submitted: auto-replied\nSubject: Undeliverable: x":        true,
		"From: mailer-daemon@b.example\nAuto-Submitted: auto-replied\nSubject: x":             false,
		"From: mailer-daemon@b.example\nAuto-Submitted: auto-replied\nSubject: Re: x":         true,
		"From: bob@b.example\nX-Autogenerated: Mirror":                                        true,
		"From: mailer-daemon@b.example\nX-Autogenerated: Mirror\nSubject: x":                  false,
		"From: bob@b.example\nX-Failed-Recipients: a@b.example\nAuto-Submitted: auto-replied": false,
		"From: bob@b.example\nSubject: Automatic reply: x":                                    true,
		"From: bob@b.example\nSubject: [Automatic reply] x":                                   true,
		"From: bob@b.example\nSubject: Undeliverable: Automatic reply: x":                     false,
	} {
		if got := isAutoReply(headed(header)); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

// TestSubjectsOfAutomaticReplies: short ones have to begin the subject, long
// ones may stand anywhere in it.
func TestSubjectsOfAutomaticReplies(t *testing.T) {
	if len(autoSubjects) < 190 {
		t.Fatalf("%d subjects", len(autoSubjects))
	}
	for _, s := range autoSubjects {
		if noticeSubject.MatchString(s) {
			t.Errorf("%q begins as notices do", s)
		}
		for _, before := range []string{"", "[", "(", `"`, "'", "*", "- "} {
			if !hasAutoSubject(before + strings.ToUpper(s)) {
				t.Errorf("%q is not an automatic reply's", before+s)
			}
		}
	}
	for subject, want := range map[string]bool{
		"hello  absence   du\tbureau": true,  // 17 bytes
		"hello out of office":         false, // 13 bytes are enough, 12 not
		"Delivery: absence du bureau": false,
		"hello":                       false,
		"":                            false,
	} {
		long := false
		for _, s := range autoSubjects {
			long = long || len(s) >= 13 && strings.Contains(folded(subject), s)
		}
		if subject == "hello out of office" {
			want = long
		}
		if got := hasAutoSubject(subject); got != want {
			t.Errorf("%q: got %v, want %v", subject, got, want)
		}
	}
	if minInside != 13 {
		t.Errorf("phrases of %d bytes may stand inside, want 13", minInside)
	}
}

// TestSubjectsOfNotices names how mail systems begin the subjects of theirs.
func TestSubjectsOfNotices(t *testing.T) {
	for _, subject := range []string{
		"Warning: x", "Delivery status", "Bounce", "Failed x", "Failure notice", "Permanent failure", "Transient failure",
		"Temporary failure", "Final failure", "Automatic bounce",
		"Mail delivery failed", "Mail failure", "Mail failed", "Mail system error", "Message delivery failure",
		"Email delivery error", "E-mail delivery error",
		"Message delayed", "Mail undeliverable", "Email not delivered", "E-mail could not be delivered", "Message undelivered",
		"Notice of failure", "Notification: delivery", "Undeliverable: x", "Undelivered mail", "Returned mail: x", "Rejected: x",
		"Delayed: x", "Unzustellbar: x", "Nicht zugestellt: x", "Non remis : x", "Non recapitabile: x", "No se puede entregar: x",
		"Não é possível entregar: x", "Niet-bezorgbaar: x", "Onbestelbaar: x", "*** Undeliverable",
	} {
		if !noticeSubject.MatchString(folded(subject)) {
			t.Errorf("%q does not begin as notices do", subject)
		}
	}
	for _, subject := range []string{"", "Deliveryman", "Newsletter", "A delivery", "Mail order", "Message to you", "Notice"} {
		if noticeSubject.MatchString(folded(subject)) {
			t.Errorf("%q begins as notices do", subject)
		}
	}
}

// TestPhrases: a phrase is found anywhere in a text, at its very ends too.
func TestPhrases(t *testing.T) {
	p := newPhrases("# a comment\n\n  Abc \nab\nxyz w\nabd\n")
	for text, want := range map[string]bool{
		"abc": true, "xabc": true, "abcx": true, "abd": true, "ab": false, "abx": false, "": false, "xyz": false, "xyz w": true,
		"a comment": false, "aabc": true,
	} {
		if got := p.in(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	if got := wordList("# x\n\n  É b \n"); !slices.Equal(got, []string{"e b"}) {
		t.Errorf("got %q, want one line", got)
	}
}

// TestPartsOfAMail: which media types hold what.
func TestPartsOfAMail(t *testing.T) {
	for _, c := range []struct {
		types []string
		is    func(part) bool
	}{
		{[]string{
			"message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "text/rfc822-header", "message/global",
			"message/global-headers", "message/partial",
		}, part.isReturned},
		{[]string{
			"message/delivery-status", "message/global-delivery-status", "message/x-delivery-status",
		}, part.isStatus},
		{[]string{
			"message/disposition-notification", "message/global-disposition-notification",
		}, part.isDisposition},
	} {
		for _, mediaType := range c.types {
			if !c.is(part{mediaType: mediaType}) {
				t.Errorf("%s is not taken for what it is", mediaType)
			}
		}
		if c.is(part{mediaType: "text/plain"}) || c.is(part{}) {
			t.Error("a text is taken for something else")
		}
	}
}

// TestUnknownClassOfAnEvent: a bounce whose class nobody knows is undetermined.
func TestUnknownClassOfAnEvent(t *testing.T) {
	r := &Report{Kind: Bounce, unnamed: Recipient{Kind: Bounce}}
	e := r.Event(Found{ID: someID, Recipient: "bob@b.example"}, noon)
	if e == nil || e.BounceClass != "1" || e.RawReason != "unknown" || e.Reason != "unknown" {
		t.Errorf("got %+v, want class 1 and an unknown reason", e)
	}
	if bounce.Undetermined != 1 {
		t.Errorf("the class is %d, want 1", bounce.Undetermined)
	}
}
