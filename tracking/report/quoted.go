package report

import (
	"bytes"
	"regexp"
	"strings"
)

// anyOf joins patterns into one that matches any of them.
func anyOf(patterns ...string) string { return "(?:" + strings.Join(patterns, "|") + ")" }

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
var subjectLine = regexp.MustCompile(`(?i)^[\s>*|]*(?:the )?(?:original |message |mail |e-?mail )*` + anyOf(
	"subject", "betreff", "objet", "sujet", "asunto", "oggetto", "onderwerp", "assunto", "temat",
	"тема", "件名", "主题", "主旨", "제목") + `\s*[:：=]`)

// quotedLine reports whether a line quotes a mail as people's programs do, and
// not an SMTP dialogue (>>> RCPT).
func quotedLine(line string) bool {
	rest, ok := strings.CutPrefix(line, "> ")

	return ok && !strings.HasPrefix(rest, ">") && !isAddress(strings.Trim(rest, " \t\r\n<>"))
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
		case inSubject && continuesSubject(line):
		default:
			inSubject = false
			out.WriteString(line)
		}
	}

	return out.String()
}

// continuesSubject reports whether a line is the rest of a subject that was too
// long for one.
func continuesSubject(line string) bool {
	return (line[0] == ' ' || line[0] == '\t') && strings.TrimSpace(line) != "" && !strings.ContainsAny(line, "@:")
}

// separators begin the returned message inside of a text.
var separators = regexp.MustCompile(`(?i)^[\s>*|]*` + anyOf(
	`-{2,}.*\b(?:original|copy|unsent|enclosed|message follows|header of|failed message|your message)\b.*`,
	`-{2,}.*\b(?:returned (?:message|mail)|header and top \d+ lines)\b.*`,
	`-{4,} ?(?:message(?: text)?|headers?)\b.*`,
	`(?:included|attached|below|following|enclosed|here) is (?:a|the) (?:copy|header).*`,
	`(?:original message|message headers?|original mail|original headers?).{0,12}follows?\.?:?`,
	`(?:original message headers|bounced e-?mail|original mail as follows):?`,
	`original message as received.*`,
	`your message (?:reads|began|begins|was as follows|follows|starts).*`,
	`.*\b(?:first|top) \d+ lines of (?:the|your) (?:original )?message\b.*`,
	`(?:urspr(?:u|ü|ue)ngliche|originale) (?:nachricht|kopfzeilen).*`,
	`(?:en-?têtes|texte) (?:du|de) (?:message|votre message).*`,
	`the header of the original message.*`,
	`the attachment contains the original mail headers.*`,
	`reported-mta:.*`,
) + `\s*$`)

var headerLine = regexp.MustCompile(`^` + anyOf(
	"Received", "Return-Path", "From", "To", "Subject", "Message-ID", "Date", "DKIM-Signature", "Delivered-To",
	"MIME-Version", "X-[A-Za-z-]+", "Content-[A-Za-z-]+") + `: ?(?:\S|$)`)

// cutReturned parts the notice from the message that it returns.
func cutReturned(text string) (notice, returned string) {
	at := 0            // where the line begins
	run, runAt := 0, 0 // fields in a row, and where they begin
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

// dedent takes off each line of a message that a notice shows indented what
// stands in front of its first one.
func dedent(message []byte) []byte {
	first := bytes.TrimLeft(message, " \t")
	indent := message[:len(message)-len(first)]
	if line, _ := cutLine(first); len(indent) == 0 || !headerLine.Match(line) && !bytes.HasPrefix(line, []byte("From ")) {
		return message
	}

	var out []byte
	for line := range bytes.Lines(message) {
		out = append(out, bytes.TrimPrefix(line, indent)...)
	}

	return out
}
