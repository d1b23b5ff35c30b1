package rewrite

import "bytes"

// foldMethod says how a line that is too long for SMTP is made shorter where
// its part cannot be encoded.
type foldMethod byte

const (
	foldPlain  foldMethod = iota // a line end and a space, as mail servers do
	foldSoft                     // a soft line break of quoted-printable
	foldHeader                   // at white space, where there is some (RFC 5322 section 2.2.3)
)

func foldMethodOf(enc encoding) foldMethod {
	if enc == quotedPrintable {
		return foldSoft
	}

	return foldPlain
}

// foldLines breaks the lines that are longer than maxLine. No line that it
// makes can be taken for a delimiter of a multipart.
func foldLines(raw []byte, method foldMethod) []byte {
	out := make([]byte, 0, len(raw))
	for at := 0; at < len(raw); {
		end := lineEnd(raw, at, len(raw))
		line := raw[at:end]
		at = end
		if len(bytes.TrimSuffix(line, crlf)) <= maxLine {
			out = append(out, line...)
			continue
		}

		out = appendFolded(out, line, method)
	}

	return out
}

// appendFolded appends one line that is too long.
func appendFolded(out, line []byte, method foldMethod) []byte {
	if bytes.HasPrefix(line, []byte("--")) && method != foldHeader {
		out = append(out, ' ') // its first piece could be a delimiter
	}

	const room = maxLine - 2 // for the space in front, and for the = of a soft break
	for len(bytes.TrimSuffix(line, crlf)) > room {
		n := foldAt(line[:room], method)
		out = append(out, line[:n]...)
		line = line[n:]

		switch {
		case method == foldSoft:
			out = append(out, "=\r\n"...)
		case method == foldHeader && isBlank(line[0]):
			out = append(out, crlf...)
		default:
			out = append(out, "\r\n "...)
		}
	}

	return append(out, line...)
}

// foldAt returns how much of a line stays in front of a break.
func foldAt(line []byte, method foldMethod) int {
	switch method {
	case foldSoft: // not within =XX, and no piece begins with a dash
		for n := len(line) - 1; n > len(line)/2; n-- {
			if line[n-1] != '=' && line[n-2] != '=' && line[n] != '-' {
				return n
			}
		}
	case foldHeader: // in front of white space with more than that before it
		i := bytes.LastIndexAny(line, " \t")
		if i > 0 && len(bytes.TrimLeft(line[:i], " \t")) > 0 {
			return i
		}
	}

	return len(line)
}
