package bounce

import (
	"strings"
)

// subjectNames are how a field that holds a subject is called.
var subjectNames = []string{
	"subject", "betreff", "objet", "asunto", "oggetto", "onderwerp", "assunto", "temat", "тема", "件名", "主题", "主旨",
}

// cutSubjects takes out what stands in quotes or up to the end of the line
// behind the word "subject" and its translations.
func cutSubjects(text string) string {
	low := strings.ToLower(text)
	if len(low) != len(text) { // some letters change their length
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

// subjectEnd returns where a quoted subject ends that may begin at a position.
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

// quotation are the marks around a subject.
var quotation = map[byte]byte{'"': '"', '\'': '\'', '(': ')', '[': ']', '<': '>'}

func skipBlanks(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}

	return i
}
