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

var (
	// failureWords are how mail systems say that a message was returned.
	failureWords = newPhrases(failureFile)

	// delayWords are how mail systems say that a message may still be delivered.
	delayWords = newPhrases(delayFile)
)

// permanentWords say that delivery of a message is not tried again. They count more
// than delayWords.
var permanentWords = []string{
	"this is a permanent error",
	"will be deleted from queue",
	"has been given up",
	"giving up",
}

// noticeText is the text of what may be a notice, and who says it.
type noticeText struct {
	shown    string // the system's own words, without the returned message
	byDaemon bool   // the sender is a mail system
	failed   bool   // mail failed, in known words
	delayed  bool   // mail may still be delivered, in known words
}

// notice reads a bounce in the words of a mail system.
func (r *Report) notice(m *structure) bool {
	n, ok := r.readNotice(m)
	if !ok {
		return false
	}
	if !n.isAboutFailure(m) {
		return n.byDaemon && r.nested()
	}
	if !n.isBelievable(m) {
		return false
	}

	kind := n.kind()
	found := failedOnly(noticeRecipients(n.shown), m.get("X-Failed-Recipients"))
	if len(found) == 0 && r.nested() {
		return true
	}
	if len(found) == 0 {
		found = r.otherRecipients(m, n.shown)
	}

	// Without a recipient known words are not enough: people write such words, too.
	if len(found) == 0 {
		if !n.failed || !strongReply.MatchString(n.shown) && !m.from().isMailer() {
			return false
		}

		r.Kind = kind
		r.unnamed = Recipient{Kind: kind, Diagnostic: noticeReply(n.shown)}

		return true
	}

	r.addNoticed(found, kind, n.shown)

	return true
}

// readNotice reads the text of a mail. It returns false if the sender is not a
// mail system or a gateway. What follows the notice is the returned message,
// unless the mail has that in a part of its own.
func (r *Report) readNotice(m *structure) (noticeText, bool) {
	byDaemon := fromMailSystem(m) || strings.Contains(strings.ToLower(m.get("Subject")), "loop alert")
	if !byDaemon && !m.fromGateway() {
		return noticeText{}, false
	}

	shown, behind := cutReturned(m.text())
	if r.returned == nil && behind != "" {
		r.setReturned([]byte(behind))
	}

	shown = r.ownWords(shown)
	subject := folded(r.cutSubject(m.get("Subject")))
	low := folded(shown)

	return noticeText{
		shown:    shown,
		byDaemon: byDaemon,
		failed:   failureWords.in(subject) || failureWords.in(low),
		delayed:  delayWords.in(subject) || delayWords.in(low),
	}, true
}

// isAboutFailure reports whether the notice is about mail that was not delivered.
func (n noticeText) isAboutFailure(m *structure) bool {
	return n.failed || n.delayed || m.header.Has("X-Failed-Recipients") || smtpDialogue.MatchString(n.shown)
}

// isBelievable reports whether the notice could not be the words of a person: it
// is from a mail system or a gateway, or quotes a server.
func (n noticeText) isBelievable(m *structure) bool {
	return n.byDaemon || smtpDialogue.MatchString(n.shown) || strongReply.MatchString(n.shown) ||
		gatewayNames.MatchString(m.from().local)
}

// kind returns whether the notice is about a bounce or a delay.
func (n noticeText) kind() Kind {
	if n.delayed && !containsAny(folded(n.shown), permanentWords) {
		return Delay
	}

	return Bounce
}

// addNoticed adds the recipients that a notice names. Those of which it says
// nothing get the reason or the reply that it gives for all.
func (r *Report) addNoticed(found []Recipient, kind Kind, shown string) {
	reply := noticeReply(shown)
	labelled := labelledReason(shown)
	for _, c := range found {
		c.Kind = kind
		if labelled != "" && reply == "" && (c.Diagnostic == "" || c.isContext) {
			c.Diagnostic = labelled
			c.isContext = false
		}

		codeless := replyCode(c.Diagnostic) == "" && cleanStatus(c.Diagnostic) == ""
		if reply != "" && (c.Diagnostic == "" || codeless && len(found) == 1) {
			c.Diagnostic = strings.TrimSpace(c.Diagnostic + " " + reply)
		}
		r.add(c)
	}

	r.Kind = kind
}

// failedOnly returns the recipients that are in the field X-Failed-Recipients, or all
// if there is no such field. Notices name other addresses, too, such as the sender's.
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

// nested reads a report that a gateway attached to a notice without recipients.
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

// strongReply matches the code of a reply that cannot be another number: it has a
// status code, begins a line or follows a word that introduces replies.
var strongReply = regexp.MustCompile(`(?im)` + anyOf(
	`[45]\d\d[ \-]#?\(?[45]\.\d{1,3}\.\d{1,3}\b`,
	`\(#[45]\.\d{1,3}\.\d{1,3}\)`,
	`^[\s<>*"'(\[#\-]*[45][0-5]\d[ \-]\D`,
	`\b(?:said|error|code|response|reply|replied|returned|status|smtp)\b[^\n]{0,20}\b[45][0-5]\d\b`,
))

// otherRecipients returns the recipients of a notice whose text does not name any:
// those of X-Failed-Recipients, or else the one of the returned message.
func (r *Report) otherRecipients(m *structure, shown string) (out []Recipient) {
	c := Recipient{Diagnostic: noticeReply(shown)}
	if c.Diagnostic == "" {
		c.Diagnostic = event.Clip(shown, maxDiagnostic)
		c.isContext = true
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
				c.Diagnostic = line
				c.isContext = false
			}

			return []Recipient{c}
		}
	}

	return nil
}

// lineAbout returns the first line that begins with the local part of an address and
// has known words, such as "bob (user not found)", or "".
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

// containsAny reports whether s contains any of words.
func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}

	return false
}

// noticeReply returns the first line with an SMTP reply in a notice and up to five
// lines that follow, joined, or "".
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
