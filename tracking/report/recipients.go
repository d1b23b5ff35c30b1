package report

import (
	"regexp"
	"strings"

	"postern/tracking/bounce"
)

// recipientLines are how notices name a recipient, on a line of its own or at
// the head of what is said of it. Group 1 is the address, group 2 the rest.
var recipientLines = []*regexp.Regexp{
	regexp.MustCompile(`^[*>\-\s"'<\[]*(` + addr + `)[>"'\]]*\s*[:,.;]?()$`),
	regexp.MustCompile(`^[*>\s]*<(` + addr + `)>\s*[:,;]?\s+(.*)$`),
	regexp.MustCompile(`^[*>\s]*<(` + addr + `)>:(.*)$`),
	regexp.MustCompile(`^[*>\-\s"']*(` + addr + `)["']?\s*:\s+(\S.*)$`),
	regexp.MustCompile(`^[*>\-\s"']*(` + addr + `)["']?\s+([(\[].*)$`),
	regexp.MustCompile(`^[*>\-\s"']*(` + addr + `)["']?\s+(on (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|\d).*)$`),
	regexp.MustCompile(`^[*>\-\s"']*(` + addr + `)["']?(?: ?\.\.\.| - | -- |,)\s*(\S.*)$`),
	regexp.MustCompile(`^[*>\-\s"']*(` + addr + `)["']?\s+((?i:error|failed|failure|unknown|rejected|bounced)\b.*)$`),
	regexp.MustCompile(`^[*>\-\s]*(` + addr + `)<mailto:[^>]*>(.*)$`),
	regexp.MustCompile(`^\s*(?:\S+ )?\S+ <(` + addr + `)>\s*[:;]?()$`),
	regexp.MustCompile(`(?i)\b` + anyOf(
		"recipients?", "address", "mailbox", "destination", "user", "affected", "following",
		`(?:un)?deliver[a-z]*\b[^<@\n]{0,40}\b(?:to|for)`,
	) + `\s*(?:\([^)]*\)\s*)?[:=]?\s*[<"'\[](` + addr + `)[>"'\]](.*)$`),
	regexp.MustCompile(`(?i)\b(?:mailbox|user|recipient|account|address)\s+[<"']?(` + addr + `)[>"']?\s+(` + anyOf(
		"is", "was", "has", "does", "doesn't", "could", "couldn't", "cannot", "can't",
		"not", "unknown", "unavailable", "invalid",
	) + `\b.*)$`),
	regexp.MustCompile(`(?i)\b(?:message|mail|e-?mail) (?:[a-z]+ ){0,4}to\s+[<"']?(` + addr + `)[>"']?\s+(` + anyOf(
		"is", "was", "has", "could", "couldn't", "cannot", "can't", "did",
	) + `\b.*)$`),
	regexp.MustCompile(`(?i)^\s*error-for:\s*(` + addr + `)()$`),
	regexp.MustCompile(`\bSMTP[=:](` + addr + `)(.*)$`),
	regexp.MustCompile(`(?i)\b(?:un)?deliver[a-z]*\b[^<@\n]{0,40}\b(?:to|for)\s*:?\s+(` + addr + `)(.*)$`),
	regexp.MustCompile(`(?i)\b` + anyOf(
		"recipients?", "address", `address\(es\)`, `recipient\(s\)`, "mailbox", "user", "attempts", "undeliverable",
	) + `[^:\n]{0,60}:\s*(` + addr + `)(.*)$`),
}

// replyLines name a recipient inside an SMTP dialogue or a reply.
var replyLines = []*regexp.Regexp{
	regexp.MustCompile(`^[\s<>]*\d{3}[ \-](?:\d\.\d+\.\d+ )?<?(` + addr + `)>?(?:\.\.\.|:)\s*(.*)$`),
	regexp.MustCompile(`(?i)RCPT TO:\s*<?(` + addr + `)>?()`),
	regexp.MustCompile(`^[\s<>]*\d{3}[ \-].*?<(` + addr + `)>(.*)$`),
}

var (
	smtpDialogue = regexp.MustCompile(`(?im)^\s*(>>>|<<<|Sent <<<|Received >>>|Sent >>>)\s*(RCPT|MAIL|DATA|[45]\d\d)\b`)
	notRecipient = regexp.MustCompile(`(?i)^\s*\(?\s*` + anyOf(
		"from", "sender", "reply-to", "mail from", "cc", "subject", "sent", "message-id", "by", "e?smtp", "reason",
		"expanded from", "generated (?:from|by)", "contact", "please", "if you", "for more", "to reach", "questions",
		"for (?:further )?assistance", "von", "de", "absender", "expediteur", "remitente",
	) + `\b|MAIL FROM:|contact\b|mailto:[^>]*\?|assistance`)
)

// noticeRecipients finds the recipients that a notice names, each with what is
// said up to the next one.
func noticeRecipients(shown string) []Recipient {
	lines := strings.Split(undisclosed.ReplaceAllString(shown, "$1"), "\n")
	out := collect(lines, recipientLines, true)
	if len(out) == 0 {
		out = collect(lines, replyLines, false)
	}
	if len(out) == 0 {
		out = looseRecipients(lines)
	}

	return out
}

// undisclosed is how Exim names an alias without what it leads to.
var undisclosed = regexp.MustCompile(`an undisclosed address\s*\n\s*\(generated from (` + addr + `)\)`)

// maxAfter is how many lines behind the one that says so a failed address may
// stand.
const maxAfter = 6

// looseRecipients finds the addresses that stand in or shortly behind a line
// that says that mail failed, in whatever words and language.
func looseRecipients(lines []string) (out []Recipient) {
	named := map[string]bool{}
	after := 0
	for _, line := range lines {
		if len(line) > maxNoticeLine {
			continue
		}
		low := folded(line)
		switch {
		case failureWords.in(low) || delayWords.in(low):
			after = maxAfter + 1 // this one, too
		case after > 0:
			after--
		}

		if after == 0 || !strings.Contains(line, "@") {
			if len(out) > 0 {
				appendText(&out[len(out)-1], line)
			}
			continue
		}
		as := addressIn.FindAllString(line, 2)
		if len(as) != 1 || !isAddress(as[0]) || helpDesk.MatchString(as[0]) {
			continue
		}
		if notRecipient.MatchString(line) || acceptsNothingFrom.MatchString(line) {
			continue
		}

		if len(out) >= maxRecipients {
			break
		}
		if key := strings.ToLower(as[0]); !named[key] {
			named[key] = true
			out = append(out, Recipient{Final: as[0], Diagnostic: strings.TrimSpace(line) + "\n"})
		}
	}

	return out
}

// helpDesk are addresses that notices name as places to ask.
var helpDesk = regexp.MustCompile(`(?i)^(?:postmaster|mailer-daemon|abuse|support|help|helpdesk|noreply|no-reply)@`)

// sentBy ends a line when the next one names the sender.
var sentBy = regexp.MustCompile(`(?i)\b` + anyOf(
	"sent by", "message from", "mail from", "sender", "from", "von", "expediteur", "remitente", "mittente",
) + `\s*:?\s*$`)

// collect takes what stands behind a recipient's line as said of it; a reply's
// line (follow false) says all itself, unless it names nobody anew. Where nothing
// follows, the line above counts, if it says something that is known.
func collect(lines []string, patterns []*regexp.Regexp, follow bool) (out []Recipient) {
	index := map[string]int{}
	above := map[int]string{}
	cur := -1
	before, last := "", ""
	for _, line := range lines {
		line = strings.TrimRight(line, "\r ")
		a, rest, ok := matchLine(line, patterns)
		ok = ok && !sentBy.MatchString(before)
		directlyAbove := last
		last = line
		if strings.TrimSpace(line) != "" {
			before = line
		}
		if !ok {
			if cur >= 0 && (follow || !strings.Contains(line, "...") && len(out) == 1) {
				appendText(&out[cur], line)
			}
			continue
		}

		key := strings.ToLower(a)
		i, seen := index[key]
		if !seen {
			if len(out) >= maxRecipients {
				break
			}
			i = len(out)
			index[key] = i
			above[i] = directlyAbove
			out = append(out, Recipient{Final: a})
		}
		cur = i
		if !seen || !strings.Contains(out[i].Diagnostic, strings.TrimSpace(line)) {
			if strings.TrimSpace(rest) != "" || seen || !follow || bounce.Words(line, a).Found {
				appendText(&out[i], line)
			}
		}
	}

	for i, line := range above {
		if c := &out[i]; c.Diagnostic == "" && !strings.Contains(line, "@") && bounce.Words(line, c.Final).Found {
			appendText(c, line)
		}
	}

	return out
}

// maxDiagnostic bounds in bytes what is collected about one recipient.
const maxDiagnostic = 4000

func appendText(c *Recipient, line string) {
	line = strings.TrimSpace(line)
	if line != "" && len(c.Diagnostic) < maxDiagnostic {
		c.Diagnostic += line + "\n"
	}
}

// ofSender is a line that speaks of the sender's address.
var ofSender = regexp.MustCompile(`(?i)\bsender(?:'s)?(?: e-?mail)? address:?\s+[<"']?[^\s<>@]+@`)

// maxNoticeLine bounds in bytes the lines that are matched with patterns.
const maxNoticeLine = 2000

// acceptsNothingFrom is a line that names whose mail is not wanted.
var acceptsNothingFrom = regexp.MustCompile(`(?i)\b(?:mail|messages?|e-?mails?) from\s*:?\s+[<"']?[^\s<>@]+@`)

func matchLine(line string, patterns []*regexp.Regexp) (address, rest string, ok bool) {
	if len(line) > maxNoticeLine || !strings.Contains(line, "@") || notRecipient.MatchString(line) {
		return "", "", false
	}

	loose := !ofSender.MatchString(line) && !acceptsNothingFrom.MatchString(line)
	for _, p := range patterns {
		if !loose && !strings.HasPrefix(p.String(), "^") {
			continue // the address in the middle of the line is the sender's
		}
		m := p.FindStringSubmatch(line)
		if m != nil && isAddress(m[1]) {
			return m[1], m[2], true
		}
	}

	return "", "", false
}
