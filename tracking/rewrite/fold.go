package rewrite

import "bytes"

// foldMethod says how to break a line that is too long for SMTP in a part that
// cannot be encoded.
type foldMethod byte

const (
	foldPlain  foldMethod = iota // with a line end and a space, as mail servers do
	foldSoft                     // with a soft line break of quoted-printable
	foldHeader                   // at white space if there is some (RFC 5322 section 2.2.3)
)

// foldMethodOf returns the method for a part with that encoding.
func foldMethodOf(enc encoding) foldMethod {
	if enc == quotedPrintable {
		return foldSoft
	}

	return foldPlain
}

// foldLines returns raw with the lines broken that are longer than maxLine. The
// new lines cannot be mistaken for delimiters of a multipart.
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

// appendFolded appends a line that is too long.
func appendFolded(out, line []byte, method foldMethod) []byte {
	if bytes.HasPrefix(line, []byte("--")) && method != foldHeader {
		out = append(out, ' ') // its first piece could be a delimiter
	}

	const room = maxLine - 2 // without the space in front and the = of a soft break
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

// foldAt returns the number of bytes of a line to keep before the next break.
func foldAt(line []byte, method foldMethod) int {
	switch method {
	case foldSoft: // not inside =XX, nor before a dash
		for n := len(line) - 1; n > len(line)/2; n-- {
			if line[n-1] != '=' && line[n-2] != '=' && line[n] != '-' {
				return n
			}
		}
	case foldHeader: // before white space that follows something else
		i := bytes.LastIndexAny(line, " \t")
		if i > 0 && len(bytes.TrimLeft(line[:i], " \t")) > 0 {
			return i
		}
	}

	return len(line)
}
