package bounce

import (
	"strings"
)

// subjectNames are the names of the subject field in several languages.
var subjectNames = []string{
	"subject", "betreff", "objet", "asunto", "oggetto", "onderwerp", "assunto", "temat", "тема", "件名", "主题", "主旨",
}

// cutSubjects removes subjects: what follows the word "subject" or a translation,
// in quotes or up to the end of the line.
func cutSubjects(text string) string {
	low := strings.ToLower(text)
	if len(low) != len(text) { // some letters have another length in lower case
		text = low
	}

	for _, name := range subjectNames {
		if !strings.Contains(low, name) {
			continue
		}
		text = cutSubject(text, low, name)
		low = strings.ToLower(text)
	}

	return text
}

// cutSubject removes the subjects behind one name; low is text in lower case.
func cutSubject(text, low, name string) string {
	var out strings.Builder
	done := 0
	for {
		i := strings.Index(low[done:], name)
		if i < 0 {
			break
		}

		start := done + i + len(name)
		end := start
		if boundary(low, done+i) {
			end = subjectEnd(text, start)
		}

		out.WriteString(text[done:start])
		done = end
	}
	out.WriteString(text[done:])

	return out.String()
}

// subjectEnd returns where the subject ends that begins at a position, or the
// position itself if there is none.
func subjectEnd(text string, from int) int {
	i := skipBlanks(text, from)
	colon := i < len(text) && text[i] == ':'
	switch {
	case colon:
		i = skipBlanks(text, i+1)
	case strings.HasPrefix(text[i:], "of "):
		i = skipBlanks(text, i+3)
	}

	if i < len(text) {
		if closing, ok := quotation[text[i]]; ok {
			if end := strings.IndexByte(text[i+1:], closing); end >= 0 {
				return i + 1 + end + 1
			}
		}
	}
	if !colon {
		return from
	}

	if end := strings.IndexByte(text[i:], '\n'); end >= 0 {
		return i + end
	}

	return len(text)
}

// quotation maps opening to closing quotation marks of subjects.
var quotation = map[byte]byte{'"': '"', '\'': '\'', '(': ')', '[': ']', '<': '>'}

// skipBlanks returns the position of the first byte from i on that is not a space
// or tab.
func skipBlanks(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}

	return i
}
