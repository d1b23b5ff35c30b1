package report

import (
	_ "embed"
	"regexp"
	"strings"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

//go:embed words/failure.txt
var failureFile string

//go:embed words/delay.txt
var delayFile string

// failureWords are how mail systems say that a message came back, delayWords
// that it may still arrive.
var (
	failureWords = newPhrases(failureFile)
	delayWords   = newPhrases(delayFile)
)

// permanentWords are said of a message that is not tried again, whatever is
// said of delays.
var permanentWords = []string{
	"this is a permanent error",
	"will be deleted from queue",
	"has been given up",
	"giving up",
}

// notice reads a bounce in the words of a mail system.
func (r *Report) notice(m *structure) bool {
	byDaemon := fromMailSystem(m) || strings.Contains(strings.ToLower(m.get("Subject")), "loop alert")
	if !byDaemon && !m.fromGateway() {
		return false
	}

	shown, behind := cutReturned(m.text())
	if r.returned == nil && behind != "" {
		r.setReturned([]byte(behind))
	}
	shown = r.ownWords(shown)
	subject := folded(r.cutSubject(m.get("Subject")))
	low := folded(shown)

	failed := failureWords.in(subject) || failureWords.in(low)
	delayed := delayWords.in(subject) || delayWords.in(low)
	if !failed && !delayed && !m.header.Has("X-Failed-Recipients") && !smtpDialogue.MatchString(shown) {
		return byDaemon && r.nested()
	}
	quotesServer := smtpDialogue.MatchString(shown) || strongReply.MatchString(shown)
	if !byDaemon && !quotesServer && !gatewayNames.MatchString(m.from().local) {
		return false // a person could write such words
	}

	kind := Bounce
	if delayed && !containsAny(low, permanentWords) {
		kind = Delay
	}

	found := failedOnly(noticeRecipients(shown), m.get("X-Failed-Recipients"))
	if len(found) == 0 && r.nested() {
		return true
	}
	if len(found) == 0 {
		found = r.otherRecipients(m, shown)
	}
	if len(found) == 0 {
		return failed && (strongReply.MatchString(shown) || m.from().isMailer()) && r.nameless(kind, shown)
	}

	reply, labelled := noticeReply(shown), labelledReason(shown)
	for _, c := range found {
		c.Kind = kind
		if labelled != "" && reply == "" && (c.Diagnostic == "" || c.isContext) {
			c.Diagnostic, c.isContext = labelled, false
		}
		codeless := replyCode(c.Diagnostic) == "" && cleanStatus(c.Diagnostic) == ""
		if reply != "" && (c.Diagnostic == "" || codeless && len(found) == 1) {
			c.Diagnostic = strings.TrimSpace(c.Diagnostic + " " + reply)
		}
		r.add(c)
	}
	r.Kind = kind

	return true
}

// failedOnly leaves out addresses that a notice names beside those that its
// header says have failed, such as the sender's. Without that field all stay.
func failedOnly(found []Recipient, failed string) []Recipient {
	known := map[string]bool{}
	for _, a := range addressIn.FindAllString(failed, maxRecipients) {
		known[strings.ToLower(a)] = true
	}

	if len(known) == 0 {
		return found
	}

	var out []Recipient
	for _, c := range found {
		if known[strings.ToLower(c.Final)] {
			out = append(out, c)
		}
	}

	return out
}

// nested reads a report that a gateway wrapped in a notice of its own, which
// names nobody.
func (r *Report) nested() bool {
	if len(r.returned) == 0 {
		return false
	}
	m := readStructure(r.returned)
	if !m.hasStatus() || !r.statusParts(m) {
		return false
	}
	if inner := m.returned(); inner != nil {
		r.setReturned(inner)
	}

	return true
}

// nameless takes a notice without a recipient for a bounce. Words alone are not
// enough for that: people write such words, too.
func (r *Report) nameless(kind Kind, shown string) bool {
	r.Kind = kind
	r.unnamed = Recipient{Kind: kind, Diagnostic: noticeReply(shown)}

	return true
}

// strongReply is a reply that is no number of something else: with a status
// code, at the beginning of a line or behind what introduces one.
var strongReply = regexp.MustCompile(`(?im)` + anyOf(
	`[45]\d\d[ \-]#?\(?[45]\.\d{1,3}\.\d{1,3}\b`,
	`\(#[45]\.\d{1,3}\.\d{1,3}\)`,
	`^[\s<>*"'(\[#\-]*[45][0-5]\d[ \-]\D`,
	`\b(?:said|error|code|response|reply|replied|returned|status|smtp)\b[^\n]{0,20}\b[45][0-5]\d\b`,
))

// otherRecipients looks where the text names nobody: X-Failed-Recipients, what
// stands in replies, and at last whom the returned message was for.
func (r *Report) otherRecipients(m *structure, shown string) (out []Recipient) {
	c := Recipient{Diagnostic: noticeReply(shown)}
	if c.Diagnostic == "" {
		c.Diagnostic, c.isContext = event.Clip(shown, maxDiagnostic), true
	}

	if v := m.get("X-Failed-Recipients"); v != "" {
		for _, a := range strings.Split(v, ",") {
			c.Final = addressOf(a)
			if c.Final != "" && len(out) < maxRecipients {
				out = append(out, c)
			}
		}

		return out
	}

	h := returnedHeader(r.returned)
	for _, v := range []string{h["x-original-to"], h["to"]} {
		if as := addressIn.FindAllString(v, 2); len(as) == 1 {
			c.Final = as[0]
			if line := lineAbout(shown, c.Final); line != "" && c.isContext {
				c.Diagnostic, c.isContext = line, false
			}

			return []Recipient{c}
		}
	}

	return nil
}

// lineAbout returns the line that begins with the local part of an address and
// says something that is known: bob (user not found).
func lineAbout(shown, address string) string {
	local, _, _ := strings.Cut(address, "@")
	for line := range strings.Lines(shown) {
		line = strings.TrimSpace(line)
		rest, ok := strings.CutPrefix(strings.ToLower(line), strings.ToLower(local))
		if !ok || rest == "" || !strings.ContainsAny(rest[:1], " :(\t-") || len(line) > maxNoticeLine {
			continue
		}
		if bounce.Words(rest, address).Found {
			return line
		}
	}

	return ""
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}

	return false
}

// noticeReply is the first SMTP reply that stands in a notice, with the lines
// that go on with it.
func noticeReply(shown string) string {
	lines := strings.Split(shown, "\n")
	for i, line := range lines {
		if len(line) > maxNoticeLine || replyCode(line) == "" && cleanStatus(line) == "" {
			continue
		}
		end := i + 1
		for end < len(lines) && end < i+6 && strings.TrimSpace(lines[end]) != "" {
			end++
		}

		return strings.Join(lines[i:end], " ")
	}

	return ""
}
