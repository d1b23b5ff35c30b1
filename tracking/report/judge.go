package report

import (
	"regexp"
	"strings"
	"sync"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// judge sets the class of each recipient. The rest of the notice is used only if
// there is one recipient; of several, it could be about any.
func (r *Report) judge(m *structure) {
	if r.Kind != Bounce && r.Kind != Delay {
		for i := range r.Recipients {
			r.Recipients[i].Diagnostic = reason(r.Recipients[i].Diagnostic)
		}

		return
	}

	text := m.text()
	shown, _ := cutReturned(text)
	shown = quotes.ReplaceAllString(r.ownWords(shown), " ")
	at := sync.OnceValue(func() command { return refusedAt(text) })

	for i := range r.Recipients {
		r.Recipients[i].judge(r.ownWords(r.Recipients[i].Diagnostic), at)
	}
	if r.unnamed.Kind != "" {
		r.unnamed.judge(r.ownWords(r.unnamed.Diagnostic), at)
	}

	if len(r.Recipients) == 1 {
		r.Recipients[0].lookAround(shown)
	}
}

// lookAround uses the notice if nothing is known of what the diagnostic says: first
// the reply of the server that it quotes, then its own words, which never mean a
// hard bounce.
func (c *Recipient) lookAround(shown string) {
	v := bounce.Verdict{Class: c.Class, Hard: c.Hard}
	if c.Kind != Bounce && c.Kind != Delay || !v.Vague() || c.doubted {
		return
	}

	reply := noticeReply(shown)
	if strongReply.MatchString(reply) {
		said := bounce.Words(event.Clip(reply, maxDiagnostic), c.Address())
		if said.Found && !said.Vague() {
			c.Class = said.Class
			c.Hard = said.Hard && c.Kind == Bounce && !strings.HasPrefix(c.Status, "4")

			return
		}
	}

	around := soft(bounce.Words(event.Clip(shown, maxDiagnostic), c.Address()))
	if !around.Vague() {
		c.Class = around.Class
	}
}

// reason returns a diagnostic on one line, cut to maxReason bytes.
func reason(diagnostic string) string { return event.Clip(oneLine(diagnostic), maxReason) }

// bareRefusal matches a reply that names the recipient and no reason.
var bareRefusal = regexp.MustCompile(`(?i)^(?:reason: )?5\d\d (?:5\.\d+\.\d+ )?` +
	`<?(?:` + addr + `)>?:? (?:recipient )?(?:address )?rejected\.?$`)

// unknownUser matches replies that say that the recipient does not exist.
var unknownUser = regexp.MustCompile(`(?i)user unknown|unknown user`)

// judge sets the status, the reply code and the class of a recipient. said is the
// diagnostic without what the sender wrote; refused returns the command that the
// notice says was refused.
func (c *Recipient) judge(said string, refused func() command) {
	c.Diagnostic = reason(c.Diagnostic)
	if c.Kind != Bounce && c.Kind != Delay {
		return
	}

	if c.ReplyCode == "" {
		c.ReplyCode = replyCode(c.Diagnostic)
	}
	c.Status = bestStatus(c.Status, c.Diagnostic)

	said = quotes.ReplaceAllString(said, " ")
	server := serverText(said)
	v := c.classify(said, server)

	if v.Hard || c.Status == otherAddress {
		at := refusedAt(event.Clip(said, maxReason))
		if at == commandUnknown {
			at = refused()
		}

		hard := v.Hard
		v = c.doubt(v, server, at)
		c.doubted = hard && !v.Hard
	}

	c.Class = v.Class
	c.Hard = v.Hard && c.Kind == Bounce
}

// classify returns the verdict on what is said of a recipient; server is the part
// of it that the refusing server wrote. Words without any code mean a hard bounce
// only if they are those of a mail system.
func (c *Recipient) classify(said, server string) bounce.Verdict {
	v := bounce.Classify(bounce.Refusal{
		Status:    c.Status,
		Text:      server,
		Recipient: c.Address(),
	})
	words := bounce.Words(said, c.Address())
	codeless := c.Status == "" && c.ReplyCode == ""

	if c.isContext && c.Status == "" || codeless && words.Loose {
		v = soft(words)
	}
	if v.Vague() && bareRefusal.MatchString(c.Diagnostic) {
		v = bounce.Verdict{Class: bounce.InvalidRecipient, Hard: true}
	}
	if codeless && v.Hard && v.Class == bounce.InvalidRecipient && !namesReason(said) {
		v = bounce.Verdict{Class: bounce.SoftBounce}
	}

	return v
}

// otherAddress is the status of an address that is wrong in a way that the server
// does not say (RFC 3463, section 3.2). If RCPT was refused it is the recipient's.
const otherAddress = "5.1.0"

// namesReason reports whether words without a code are those of a mail system.
func namesReason(said string) bool {
	return reasonLabel.MatchString(said) || ownDirectory.MatchString(folded(said))
}

// ownDirectory is how mail systems from before status codes say that a name is not
// in their own directory: Exchange 5.5, Domino, vpopmail, IMail. Anything else that
// is said without a code may come from a filter, or be the guess of a gateway.
var ownDirectory = regexp.MustCompile(anyOf(
	`unknown (?:(?:local|virtual) )?(?:user|recipient|mailbox|local[ -]part)`, "recipient name is not recognized",
	"not listed in", "(?:mailbox|user|account) here by that name", "by that name here",
	"invalid final delivery", "no valid recipient", `\(user not found\)`, "宛先の.{1,30}見つかりませ",
))

// doubt corrects a verdict by the command that was refused:
//
//   - Before RCPT no recipient is refused.
//   - "User unknown" in reply to the message comes from a filter, because the
//     recipient was accepted before. Filters of mobile providers have words of
//     their own for it.
//   - "User unknown" with a status which means that the mailbox exists (RFC 3463,
//     section 3.3) counts only if RCPT was refused.
func (c *Recipient) doubt(v bounce.Verdict, server string, at command) bounce.Verdict {
	vague := c.Status == "" || vagueness(c.Status) > 0

	switch {
	case v.Hard && at == commandMail:
		return bounce.Verdict{Class: bounce.MailBlock}
	case !v.Hard:
		if at == commandRcpt && v.Vague() {
			return bounce.Verdict{Class: bounce.InvalidRecipient, Hard: true}
		}

		return v
	case !unknownUser.MatchString(server):
		return v
	case at == commandData && vague,
		strings.Contains(c.Diagnostic, "550 : User unknown"),
		at == commandUnknown && vague && filterReply.MatchString(server):
		return bounce.Verdict{Class: bounce.MailBlock}
	case at != commandRcpt && (c.Status == "5.2.0" || c.Status == "5.2.1"):
		return bounce.Verdict{Class: bounce.SoftBounce}
	}

	return v
}

// filterReply is how filters of mobile providers refuse: without a status code, and
// with the address of the recipient at the end.
var filterReply = regexp.MustCompile(`(?i)^550 (?:unknown user (?:` + addr + `)|: user unknown)\s*$`)

// serverText returns the part of a diagnostic that the refusing server wrote if it
// has known words, and otherwise all of it. The mail system that wrote the report
// adds labels of its own (5.1.0 - Unknown address error 550-'5.7.1 ... Access
// denied').
func serverText(diagnostic string) string {
	if own := transcribed(diagnostic); saysSomething(own) {
		return own
	}

	at := replyWithStatus.FindStringSubmatchIndex(diagnostic)
	if at == nil {
		return diagnostic
	}

	if own := diagnostic[at[2]:]; saysSomething(own) {
		return own
	}

	return diagnostic
}

// saysSomething reports whether a text has known words that give a reason.
func saysSomething(text string) bool {
	said := bounce.Words(text, "")

	return said.Found && !said.Vague()
}

// transcript is how Sendmail and programs like it quote the reply of a server. What
// they add is their guess: "550 5.1.1 ... User unknown" for any refusal of RCPT,
// "554 5.0.0 Service unavailable" for one of DATA.
var transcript = regexp.MustCompile(`(?m)^\s*\(reason: ([45]\d\d[ -][^\n]*)\)\s*$|^\s*<<<[ \t]*([45]\d\d[ -][^\n]*)$`)

// transcribed returns the first reply that a transcript quotes, with its lines
// joined, or "".
func transcribed(diagnostic string) string {
	if !strings.Contains(diagnostic, "<<<") && !strings.Contains(diagnostic, "(reason:") {
		return ""
	}

	reply := ""
	for _, m := range transcript.FindAllStringSubmatch(diagnostic, maxReplyLines) {
		line := m[1] + m[2]
		if reply == "" {
			reply = line[:3] // the code
		}
		reply += " " + strings.TrimSpace(line[4:])

		if m[1] != "" || line[3] == ' ' {
			break
		}
	}

	return reply
}

// maxReplyLines is the most lines of a reply that are read.
const maxReplyLines = 32

// quotes matches the subject of a message, in quotation marks behind a word for
// "message" or "subject".
var quotes = regexp.MustCompile(`(?i)\b` + anyOf(
	"message", "e-?mail", "mail", "letter", "subject", "titled", "entitled", "regarding",
	"nachricht", "courriel", "mensaje", "correo", "messaggio", "mensagem", "bericht", `wiadomo\S*`,
) + `\s*[:,]?\s*` + anyOf(
	`"[^"\n]{1,400}"`, `'[^'\n]{1,400}'`, `“[^”\n]{1,400}”`, `„[^“”\n]{1,400}[“”]`, `«[^»\n]{1,400}»`,
) + `|「[^」\n]{1,400}」|『[^』\n]{1,400}』|《[^》\n]{1,400}》`)

// soft returns the verdict on words that may be those of anybody, which is never a
// hard one.
func soft(said bounce.Said) bounce.Verdict {
	if !said.Found || said.Hard {
		return bounce.Verdict{Class: bounce.Undetermined}
	}

	return said.Verdict
}
