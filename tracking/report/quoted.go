package report

import (
	"bytes"
	"regexp"
	"strings"
)

// anyOf returns a pattern that matches what any of several patterns matches.
func anyOf(patterns ...string) string { return "(?:" + strings.Join(patterns, "|") + ")" }

// minSubject is the least length in bytes of a subject that is removed from notices.
// Shorter ones could be part of any word.
const minSubject = 6

// cutSubject removes the subject of the returned message from a text, because it was
// written by the sender and not by the mail system.
func (r *Report) cutSubject(text string) string {
	own := r.returnedSubject
	if len(own) < minSubject {
		return text
	}

	return strings.ReplaceAll(text, own, "")
}

// subjectLine matches a line of a notice with the subject of the message.
var subjectLine = regexp.MustCompile(`(?i)^[\s>*|]*(?:the )?(?:original |message |mail |e-?mail )*` + anyOf(
	"subject", "betreff", "objet", "sujet", "asunto", "oggetto", "onderwerp", "assunto", "temat",
	"тема", "件名", "主题", "主旨", "제목") + `\s*[:：=]`)

// quotedLine reports whether a line quotes a mail as mail programs do. Lines of an
// SMTP session (>>> RCPT) do not.
func quotedLine(line string) bool {
	rest, ok := strings.CutPrefix(line, "> ")

	return ok && !strings.HasPrefix(rest, ">") && !isAddress(strings.Trim(rest, " \t\r\n<>"))
}

// ownWords returns what the mail system wrote of a notice: all of it but lines that
// quote the message, and its subject.
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

// continuesSubject reports whether a line continues a subject.
func continuesSubject(line string) bool {
	return (line[0] == ' ' || line[0] == '\t') && strings.TrimSpace(line) != "" && !strings.ContainsAny(line, "@:")
}

// separators match lines with which the returned message begins within a text.
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

// headerLine matches the beginning of common header fields.
var headerLine = regexp.MustCompile(`^` + anyOf(
	"Received", "Return-Path", "From", "To", "Subject", "Message-ID", "Date", "DKIM-Signature", "Delivered-To",
	"MIME-Version", "X-[A-Za-z-]+", "Content-[A-Za-z-]+") + `: ?(?:\S|$)`)

// cutReturned splits a text into a notice and the message that it returns.
func cutReturned(text string) (notice, returned string) {
	at := 0            // where the line begins
	run, runAt := 0, 0 // header fields in a row, and where they begin
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

// dedent removes the indentation of the first line of a message from all its lines.
func dedent(message []byte) []byte {
	first := bytes.TrimLeft(message, " \t")
	indent := message[:len(message)-len(first)]
	if len(indent) == 0 {
		return message
	}

	line, _ := cutLine(first)
	if !headerLine.Match(line) && !bytes.HasPrefix(line, []byte("From ")) {
		return message
	}

	var out []byte
	for line := range bytes.Lines(message) {
		out = append(out, bytes.TrimPrefix(line, indent)...)
	}

	return out
}
