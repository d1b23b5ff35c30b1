package report

import (
	"regexp"
	"strings"
	"sync"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// judge gives each recipient its class. What the notice says around is asked
// where there is one recipient alone: of several, it could be about any.
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

// lookAround asks the notice where the diagnostic says nothing that is known:
// first the server's reply that it quotes, then its own words, which never make
// a hard bounce.
func (c *Recipient) lookAround(shown string) {
	v := bounce.Verdict{Class: c.Class, Hard: c.Hard}
	if c.Kind != Bounce && c.Kind != Delay || !v.Vague() || c.doubted {
		return
	}

	if reply := noticeReply(shown); strongReply.MatchString(reply) {
		if said := bounce.Words(event.Clip(reply, maxDiagnostic), c.Address()); said.Found && !said.Vague() {
			c.Class, c.Hard = said.Class, said.Hard && c.Kind == Bounce && !strings.HasPrefix(c.Status, "4")
			return
		}
	}

	if around := soft(bounce.Words(event.Clip(shown, maxDiagnostic), c.Address())); !around.Vague() {
		c.Class = around.Class
	}
}

// reason is a diagnostic as an event has it: on one line, and no longer than is
// of use.
func reason(diagnostic string) string { return event.Clip(oneLine(diagnostic), maxReason) }

// bareRefusal names the recipient, and no reason.
var bareRefusal = regexp.MustCompile(`(?i)^(?:reason: )?5\d\d (?:5\.\d+\.\d+ )?` +
	`<?(?:` + addr + `)>?:? (?:recipient )?(?:address )?rejected\.?$`)

var unknownUser = regexp.MustCompile(`(?i)user unknown|unknown user`)

// judge fills in what follows from status and words. said is the diagnostic
// without what the sender wrote; refused returns the command that was.
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
	v := bounce.Classify(bounce.Refusal{Status: c.Status, Text: server, Recipient: c.Address()})
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
	if v.Hard || c.Status == otherAddress {
		at := refusedAt(event.Clip(said, maxReason))
		if at == commandUnknown {
			at = refused()
		}
		hard := v.Hard
		v = c.doubt(v, server, at)
		c.doubted = hard && !v.Hard
	}
	c.Class, c.Hard = v.Class, v.Hard && c.Kind == Bounce
}

// otherAddress is the status of an address that is wrong, the server does not
// say how (RFC 3463, section 3.2): the recipient's, where RCPT was refused.
const otherAddress = "5.1.0"

// namesReason reports whether words without a code are a mail system's own.
func namesReason(said string) bool {
	return reasonLabel.MatchString(said) || ownDirectory.MatchString(folded(said))
}

// ownDirectory is how mail systems older than codes say that a name is not in the
// directory of their own: Exchange 5.5, Domino, vpopmail, IMail. What else is said
// without a code may be a filter's word or a gateway's guess.
var ownDirectory = regexp.MustCompile(anyOf(
	`unknown (?:(?:local|virtual) )?(?:user|recipient|mailbox|local[ -]part)`, "recipient name is not recognized",
	"not listed in", "(?:mailbox|user|account) here by that name", "by that name here",
	"invalid final delivery", "no valid recipient", `\(user not found\)`, "宛先の.{1,30}見つかりませ",
))

// doubt returns what a verdict comes to at the command that was refused. Before
// RCPT no recipient is refused. "User unknown" may not mean that: in answer to
// the message, the recipient having been accepted, filters of the
// recipient's own refuse so; those of mobile providers do so in words of their
// own. Beside a status by which the mailbox exists (RFC 3463, section 3.3) it
// needs a refused RCPT to count.
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

// filterReply is how filters of mobile providers refuse without an enhanced
// status, the recipient's address last.
var filterReply = regexp.MustCompile(`(?i)^550 (?:unknown user (?:` + addr + `)|: user unknown)\s*$`)

// serverText is the part of a diagnostic that the refusing server wrote, where
// what is known of it says something: the mail system in front has labels of its
// own (5.1.0 - Unknown address error 550-'5.7.1 ... Access denied').
func serverText(diagnostic string) string {
	if own := transcribed(diagnostic); own != "" {
		if said := bounce.Words(own, ""); said.Found && !said.Vague() {
			return own
		}
	}

	at := replyWithStatus.FindStringSubmatchIndex(diagnostic)
	if at == nil {
		return diagnostic
	}

	own := diagnostic[at[2]:]
	if said := bounce.Words(own, ""); said.Found && !said.Vague() {
		return own
	}

	return diagnostic
}

// transcript is how Sendmail and its kin quote the server's reply; what they add
// to it is their own guess: "550 5.1.1 ... User unknown" to any refusal of RCPT,
// "554 5.0.0 Service unavailable" to one of DATA.
var transcript = regexp.MustCompile(`(?m)^\s*\(reason: ([45]\d\d[ -][^\n]*)\)\s*$|^\s*<<<[ \t]*([45]\d\d[ -][^\n]*)$`)

// transcribed returns the first reply that a transcript quotes, its lines joined,
// or "".
func transcribed(diagnostic string) string {
	if !strings.Contains(diagnostic, "<<<") && !strings.Contains(diagnostic, "(reason:") {
		return ""
	}

	reply := ""
	for _, m := range transcript.FindAllStringSubmatch(diagnostic, maxReplyLines) {
		line := m[1] + m[2]
		code, text := line[:3], strings.TrimSpace(line[4:])
		if reply == "" {
			reply = code
		}
		reply += " " + text

		if m[1] != "" || line[3] == ' ' {
			break
		}
	}

	return reply
}

// maxReplyLines is how many lines of a reply are read.
const maxReplyLines = 32

// quotes are words in quotation marks behind what names a message: its subject.
var quotes = regexp.MustCompile(`(?i)\b` + anyOf(
	"message", "e-?mail", "mail", "letter", "subject", "titled", "entitled", "regarding",
	"nachricht", "courriel", "mensaje", "correo", "messaggio", "mensagem", "bericht", `wiadomo\S*`,
) + `\s*[:,]?\s*` + anyOf(
	`"[^"\n]{1,400}"`, `'[^'\n]{1,400}'`, `“[^”\n]{1,400}”`, `„[^“”\n]{1,400}[“”]`, `«[^»\n]{1,400}»`,
) + `|「[^」\n]{1,400}」|『[^』\n]{1,400}』|《[^》\n]{1,400}》`)

// soft is what words come to that may be anybody's: a hard bounce never.
func soft(said bounce.Said) bounce.Verdict {
	if !said.Found || said.Hard {
		return bounce.Verdict{Class: bounce.Undetermined}
	}

	return said.Verdict
}
