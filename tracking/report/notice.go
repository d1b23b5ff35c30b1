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
var permanentWords = []string{"this is a permanent error", "will be deleted from queue", "has been given up", "giving up"}

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
	if !byDaemon && !gatewayNames.MatchString(m.from().local) && !smtpDialogue.MatchString(shown) && !strongReply.MatchString(shown) {
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
		return failed && r.nameless(kind, shown)
	}

	reply, labelled := noticeReply(shown), labelledReason(shown)
	for _, c := range found {
		c.Kind = kind
		if labelled != "" && reply == "" && (c.Diagnostic == "" || c.isContext) {
			c.Diagnostic, c.isContext = labelled, false
		}
		if c.Diagnostic == "" || !c.isContext && replyCode(c.Diagnostic) == "" && cleanStatus(c.Diagnostic) == "" {
			if reply != "" && (len(found) == 1 || c.Diagnostic == "") {
				c.Diagnostic = strings.TrimSpace(c.Diagnostic + " " + reply)
			}
		}
		r.add(c)
	}
	r.Kind = kind

	return true
}

// reasonLabel is how mail systems introduce why they could not deliver.
var reasonLabel = regexp.MustCompile(`(?im)^[\s*>\-]*(?:the )?(?:error(?: message| text| type)?|reason(?: code)?|cause|diagnosis|diagnostic(?: code| information)?|problem|explanation|grund|ursache|fehler(?:meldung)?|motif|raison|erreur|motivo|causa|raz[oó]n|errore|erro|reden|oorzaak|fout|pow[oó]d|przyczyna|b[lł][aą]d|причина|ошибка|(?:退信)?原因|错误|エラー(?:内容)?|理由)[ \t]*[:：=][ \t]*(\S.*)$`)

// labelledReason returns the reason that a notice gives, if it is one that is
// known.
func labelledReason(shown string) string {
	for _, m := range reasonLabel.FindAllStringSubmatch(event.Clip(shown, maxDiagnostic), 4) {
		if bounce.Words(m[1], "").Found {
			return strings.TrimSpace(m[1])
		}
	}

	return ""
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

// nameless takes a notice without a recipient for a bounce, where a server's
// reply stands in it. Words alone are not enough: people write such words, too.
func (r *Report) nameless(kind Kind, shown string) bool {
	reply := strongReply.FindString(shown)
	if reply == "" {
		return false
	}

	r.Kind = kind
	r.unnamed = Recipient{Kind: kind, Diagnostic: noticeReply(shown)}

	return true
}

// strongReply is a reply that is no number of something else: with a status
// code, at the beginning of a line or behind what introduces one.
var strongReply = regexp.MustCompile(`(?im)[45]\d\d[ \-]#?\(?[45]\.\d{1,3}\.\d{1,3}\b|\(#[45]\.\d{1,3}\.\d{1,3}\)|^[\s<>*"'(\[#\-]*[45][0-5]\d[ \-]\D|\b(?:said|error|code|response|reply|replied|returned|status|smtp)\b[^\n]{0,20}\b[45][0-5]\d\b`)

// otherRecipients looks where the text names nobody: X-Failed-Recipients, what
// stands in replies, and at last whom the returned message was for.
func (r *Report) otherRecipients(m *structure, shown string) (out []Recipient) {
	c := Recipient{Diagnostic: noticeReply(shown)}
	if c.Diagnostic == "" {
		c.Diagnostic, c.isContext = event.Clip(shown, maxDiagnostic), true
	}

	if v := m.get("X-Failed-Recipients"); v != "" {
		for _, a := range strings.Split(v, ",") {
			if c.Final = addressOf(a); c.Final != "" && len(out) < maxRecipients {
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

// minSubject is the least length in bytes of a subject that is looked for in a
// notice; shorter ones are part of anything.
const minSubject = 6

// cutSubject takes the returned message's subject out of a text: it is the
// sender's, not the mail system's.
func (r *Report) cutSubject(text string) string {
	own := r.returnedSubject
	if len(own) < minSubject {
		return text
	}

	return strings.ReplaceAll(text, own, "")
}

// subjectLine is a line of a notice that says which message it is about.
var subjectLine = regexp.MustCompile(`(?i)^[\s>*|]*(?:the )?(?:original |message |mail |e-?mail )*(?:subject|betreff|objet|sujet|asunto|oggetto|onderwerp|assunto|temat|тема|件名|主题|主旨|제목)\s*[:：=]`)

// quotedLine reports whether a line quotes a mail as people's programs do, and
// not an SMTP dialogue (>>> RCPT).
func quotedLine(line string) bool {
	return len(line) > 2 && line[0] == '>' && line[1] == ' ' && line[2] != '>' && !isAddress(strings.Trim(line[2:], " \t\r\n<>"))
}

// ownWords is what of a notice the mail system wrote: without lines that quote
// the message, and without its subject.
func (r *Report) ownWords(shown string) string {
	var out strings.Builder
	inSubject := false
	for line := range strings.Lines(r.cutSubject(shown)) {
		switch {
		case quotedLine(line):
		case subjectLine.MatchString(line[:min(len(line), 200)]):
			inSubject = true
		case inSubject && (line[0] == ' ' || line[0] == '\t') && strings.TrimSpace(line) != "" && !strings.Contains(line, "@") && !strings.Contains(line, ":"):
		default:
			inSubject = false
			out.WriteString(line)
		}
	}

	return out.String()
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// separators begin the returned message inside of a text.
var separators = regexp.MustCompile(`(?i)^[\s>*|]*(-{2,}.*\b(original|copy|returned (?:message|mail)|unsent|message follows|header of|header and top \d+ lines|original mail|enclosed|failed message|your message)\b.*|(?:included|attached|below|following|enclosed|here) is (?:a|the) (?:copy|header).*|your message (?:reads|began|begins|was as follows|follows|starts).*|.*\b(?:first|top) \d+ lines of (?:the|your) (?:original )?message\b.*|(?:ursprungliche|ursprüngliche|originale) (?:nachricht|kopfzeilen).*|(?:en-?têtes|texte) (?:du|de) (?:message|votre message).*|original message as received.*|-{4,} ?(message(?: text)?|headers?)\b.*|(original message|message headers?|original mail|original headers?).{0,12}follows?\.?:?|below is a copy of the original message:?|original message headers:?|bounced e-?mail:?|original mail as follows:?|the header of the original message.*|the attachment contains the original mail headers.*|reported-mta:.*)\s*$`)

var headerLine = regexp.MustCompile(`^(Received|Return-Path|From|To|Subject|Message-ID|Date|DKIM-Signature|X-[A-Za-z-]+|MIME-Version|Content-[A-Za-z-]+|Delivered-To): ?\S`)

// cutReturned parts the notice from the message that it returns.
func cutReturned(text string) (notice, returned string) {
	at, run, runAt := 0, 0, 0
	for line := range strings.Lines(text) {
		trimmed := strings.TrimRight(line, "\r\n")
		if separators.MatchString(trimmed) && at > 0 {
			return text[:at], strings.TrimLeft(text[at+len(line):], "\r\n")
		}
		switch {
		case strings.HasPrefix(trimmed, "Content-"): // of a MIME part as well
		case headerLine.MatchString(trimmed):
			if run == 0 {
				runAt = at
			}
			if run++; run >= 3 && runAt > 0 {
				return text[:runAt], text[runAt:]
			}
		case run > 0 && (strings.HasPrefix(trimmed, " ") || strings.HasPrefix(trimmed, "\t")):
		default:
			run = 0
		}
		at += len(line)
	}
	return text, ""
}

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
	regexp.MustCompile(`(?i)\b(?:failed |intended |invalid |final |original |bad )?(?:recipients?|address|e-?mail address|mailbox|destination|user|(?:un)?deliver[a-z]*\b[^<@\n]{0,40}\b(?:to|for)|affected|following)\s*(?:\([^)]*\)\s*)?[:=]?\s*[<"'\[](` + addr + `)[>"'\]](.*)$`),
	regexp.MustCompile(`(?i)\b(?:mailbox|user|recipient|account|address)\s+[<"']?(` + addr + `)[>"']?\s+((?:is|was|has|does|doesn't|could|couldn't|cannot|can't|not|unknown|unavailable|invalid)\b.*)$`),
	regexp.MustCompile(`(?i)\b(?:message|mail|e-?mail) (?:[a-z]+ ){0,4}to\s+[<"']?(` + addr + `)[>"']?\s+((?:is|was|has|could|couldn't|cannot|can't|did)\b.*)$`),
	regexp.MustCompile(`\bSMTP[=:](` + addr + `)(.*)$`),
	regexp.MustCompile(`(?i)\b(?:un)?deliver[a-z]*\b[^<@\n]{0,40}\b(?:to|for)\s*:?\s+(` + addr + `)(.*)$`),
	regexp.MustCompile(`(?i)\b(?:failed |intended |invalid |final |original |bad |email |mail )?(?:recipients?|address|to address|address\(es\)|recipient\(s\)|mailbox|user|attempts|undeliverable)[^:\n]{0,60}:\s*(` + addr + `)(.*)$`),
}

// replyLines name a recipient inside an SMTP dialogue or a reply.
var replyLines = []*regexp.Regexp{
	regexp.MustCompile(`^[\s<>]*\d{3}[ \-](?:\d\.\d+\.\d+ )?<?(` + addr + `)>?(?:\.\.\.|:)\s*(.*)$`),
	regexp.MustCompile(`(?i)RCPT TO:\s*<?(` + addr + `)>?()`),
	regexp.MustCompile(`^[\s<>]*\d{3}[ \-].*?<(` + addr + `)>(.*)$`),
}

var (
	smtpDialogue = regexp.MustCompile(`(?im)^\s*(>>>|<<<|Sent <<<|Received >>>|Sent >>>)\s*(RCPT|MAIL|DATA|[45]\d\d)\b`)
	notRecipient = regexp.MustCompile(`(?i)^\s*\(?\s*(expanded from|if you|for more|to reach|questions|von|de|absender|expediteur|remitente|generated (?:from|by)|reason|contact|please|for (?:further )?assistance|from|sender|reply-to|mail from|e?smtp|by|message-id|cc|subject|sent)\b|MAIL FROM:|contact\b|mailto:[^>]*\?|assistance`)
)

// noticeRecipients finds the recipients that a notice names, each with what is
// said up to the next one.
func noticeRecipients(shown string) []Recipient {
	lines := strings.Split(shown, "\n")
	out := collect(lines, recipientLines, true)
	if len(out) == 0 {
		out = collect(lines, replyLines, false)
	}
	if len(out) == 0 {
		out = looseRecipients(lines)
	}

	return out
}

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
			after = maxAfter
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
		if len(as) != 1 || notRecipient.MatchString(line) || !isAddress(as[0]) || helpDesk.MatchString(as[0]) || len(out) >= maxRecipients {
			continue
		}
		if key := strings.ToLower(as[0]); !named[key] {
			named[key] = true
			out = append(out, Recipient{Final: as[0], Diagnostic: strings.TrimSpace(line) + "\n"})
		}
	}

	return out
}

// helpDesk are addresses that notices name as places to ask.
var helpDesk = regexp.MustCompile(`(?i)^(?:postmaster|mailer-daemon|abuse|support|help|helpdesk|admin|administrator|info|noreply|no-reply)@`)

// sentBy ends a line when the next one names the sender.
var sentBy = regexp.MustCompile(`(?i)(?:\b(?:sent by|message from|mail from|sender|from)|von|expediteur|remitente|mittente)\s*:?\s*$`)

// collect takes what stands behind a recipient's line as said of it; a reply's
// line (follow false) says all itself, unless it names nobody anew. Where nothing
// follows, the line above counts, if it says something that is known.
func collect(lines []string, patterns []*regexp.Regexp, follow bool) (out []Recipient) {
	index := map[string]int{}
	above := map[int]string{}
	cur, before, last := -1, "", ""
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
		if !seen && len(out) < maxRecipients {
			i = len(out)
			index[key] = i
			above[i] = directlyAbove
			out = append(out, Recipient{Final: a})
		}
		if cur = i; !seen || !strings.Contains(out[i].Diagnostic, strings.TrimSpace(line)) {
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

const maxDiagnostic = 4000

func appendText(c *Recipient, line string) {
	if line = strings.TrimSpace(line); line != "" && len(c.Diagnostic) < maxDiagnostic {
		c.Diagnostic += line + "\n"
	}
}

const maxNoticeLine = 2000

func matchLine(line string, patterns []*regexp.Regexp) (address, rest string, ok bool) {
	if len(line) > maxNoticeLine || !strings.Contains(line, "@") || notRecipient.MatchString(line) {
		return "", "", false
	}
	for _, p := range patterns {
		m := p.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if !isAddress(m[1]) {
			continue
		}
		return m[1], m[2], true
	}
	return "", "", false
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
