package report

import (
	"regexp"
	"strings"

	"postern/tracking/bounce"
)

// linePatterns are how lines of one kind name a recipient. Group 1 of each pattern
// is the address, group 2 the rest of what the line says.
type linePatterns struct {
	follow bool // lines that follow are about the recipient, too
	list   []*regexp.Regexp
}

// recipientLines name a recipient on a line of its own, or at the head of what is
// said of it.
var recipientLines = linePatterns{follow: true, list: []*regexp.Regexp{
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
}}

// replyLines name a recipient within an SMTP dialogue or a reply.
var replyLines = linePatterns{list: []*regexp.Regexp{
	regexp.MustCompile(`^[\s<>]*\d{3}[ \-](?:\d\.\d+\.\d+ )?<?(` + addr + `)>?(?:\.\.\.|:)\s*(.*)$`),
	regexp.MustCompile(`(?i)RCPT TO:\s*<?(` + addr + `)>?()`),
	regexp.MustCompile(`^[\s<>]*\d{3}[ \-].*?<(` + addr + `)>(.*)$`),
}}

var (
	// smtpDialogue matches a line of an SMTP session.
	smtpDialogue = regexp.MustCompile(`(?im)^\s*(>>>|<<<|Sent <<<|Received >>>|Sent >>>)\s*(RCPT|MAIL|DATA|[45]\d\d)\b`)

	// notRecipient matches lines whose address is not that of a recipient.
	notRecipient = regexp.MustCompile(`(?i)^\s*\(?\s*` + anyOf(
		"from", "sender", "reply-to", "mail from", "cc", "subject", "sent", "message-id", "by", "e?smtp", "reason",
		"expanded from", "generated (?:from|by)", "contact", "please", "if you", "for more", "to reach", "questions",
		"for (?:further )?assistance", "von", "de", "absender", "expediteur", "remitente",
	) + `\b|MAIL FROM:|contact\b|mailto:[^>]*\?|assistance`)
)

// noticeRecipients returns the recipients that a notice names, each with what is
// said of it, which is what follows up to the next one.
func noticeRecipients(shown string) []Recipient {
	lines := strings.Split(undisclosed.ReplaceAllString(shown, "$1"), "\n")

	out := collect(lines, recipientLines)
	if len(out) == 0 {
		out = collect(lines, replyLines)
	}
	if len(out) == 0 {
		out = looseRecipients(lines)
	}

	return out
}

// undisclosed is how Exim names an alias without the address behind it.
var undisclosed = regexp.MustCompile(`an undisclosed address\s*\n\s*\(generated from (` + addr + `)\)`)

// maxAfter is how many lines below a line that says that mail failed an address may
// be that of the recipient.
const maxAfter = 6

// looseRecipients returns the addresses in and shortly below lines that say that
// mail failed, in any form.
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
			after = maxAfter + 1 // including this one
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

// helpDesk are addresses that notices name for questions.
var helpDesk = regexp.MustCompile(`(?i)^(?:postmaster|mailer-daemon|abuse|support|help|helpdesk|noreply|no-reply)@`)

// sentBy ends a line if the next one names the sender.
var sentBy = regexp.MustCompile(`(?i)\b` + anyOf(
	"sent by", "message from", "mail from", "sender", "from", "von", "expediteur", "remitente", "mittente",
) + `\s*:?\s*$`)

// collector gathers the recipients that lines name, and what is said of each.
type collector struct {
	patterns linePatterns
	out      []Recipient
	above    []string       // the line above the first one that names each
	index    map[string]int // of an address in lower case, in out
	cur      int            // index of the recipient that was named last; -1: none
}

// collect returns the recipients that lines name, each with what is said of it.
// For a recipient of which nothing is said this is the line above its own, if that
// has known words.
func collect(lines []string, patterns linePatterns) []Recipient {
	c := collector{patterns: patterns, index: map[string]int{}, cur: -1}

	before, last := "", "" // the last line with text, the last line
	for _, line := range lines {
		line = strings.TrimRight(line, "\r ")
		address, rest, ok := matchLine(line, patterns)
		ok = ok && !sentBy.MatchString(before)
		if !ok {
			c.continueWith(line)
		} else if !c.name(address, line, rest, last) {
			break
		}

		last = line
		if strings.TrimSpace(line) != "" {
			before = line
		}
	}

	return c.recipients()
}

// continueWith adds a line that names nobody to the recipient named last. A reply
// is complete, unless it is about the only recipient.
func (c *collector) continueWith(line string) {
	if c.cur < 0 {
		return
	}

	if c.patterns.follow || !strings.Contains(line, "...") && len(c.out) == 1 {
		appendText(&c.out[c.cur], line)
	}
}

// name takes a line that names an address, with the rest of the line and the line
// above. It returns false if there are too many recipients.
func (c *collector) name(address, line, rest, above string) bool {
	key := strings.ToLower(address)
	i, seen := c.index[key]
	if seen {
		c.cur = i
		if !strings.Contains(c.out[i].Diagnostic, strings.TrimSpace(line)) {
			appendText(&c.out[i], line)
		}

		return true
	}

	if len(c.out) >= maxRecipients {
		return false
	}

	c.cur = len(c.out)
	c.index[key] = c.cur
	c.above = append(c.above, above)
	c.out = append(c.out, Recipient{Final: address})

	// A line that only names the recipient says nothing of it.
	if strings.TrimSpace(rest) != "" || !c.patterns.follow || bounce.Words(line, address).Found {
		appendText(&c.out[c.cur], line)
	}

	return true
}

// recipients returns what was gathered.
func (c *collector) recipients() []Recipient {
	for i, line := range c.above {
		r := &c.out[i]
		if r.Diagnostic == "" && !strings.Contains(line, "@") && bounce.Words(line, r.Final).Found {
			appendText(r, line)
		}
	}

	return c.out
}

// maxDiagnostic is the most bytes that are collected about one recipient.
const maxDiagnostic = 4000

// appendText adds a line to what is said of a recipient.
func appendText(c *Recipient, line string) {
	line = strings.TrimSpace(line)
	if line != "" && len(c.Diagnostic) < maxDiagnostic {
		c.Diagnostic += line + "\n"
	}
}

// ofSender matches lines about the sender's address.
var ofSender = regexp.MustCompile(`(?i)\bsender(?:'s)?(?: e-?mail)? address:?\s+[<"']?[^\s<>@]+@`)

// maxNoticeLine is the most bytes of a line that is matched with patterns.
const maxNoticeLine = 2000

// acceptsNothingFrom matches lines that name a sender whose mail is not accepted.
var acceptsNothingFrom = regexp.MustCompile(`(?i)\b(?:mail|messages?|e-?mails?) from\s*:?\s+[<"']?[^\s<>@]+@`)

// matchLine returns the recipient that a line names, and the rest of the line.
func matchLine(line string, patterns linePatterns) (address, rest string, ok bool) {
	if len(line) > maxNoticeLine || !strings.Contains(line, "@") || notRecipient.MatchString(line) {
		return "", "", false
	}

	loose := !ofSender.MatchString(line) && !acceptsNothingFrom.MatchString(line)
	for _, p := range patterns.list {
		if !loose && !strings.HasPrefix(p.String(), "^") {
			continue // an address in the middle of the line is that of the sender
		}

		m := p.FindStringSubmatch(line)
		if m != nil && isAddress(m[1]) {
			return m[1], m[2], true
		}
	}

	return "", "", false
}
