package message

import (
	"bufio"
	"bytes"
)

// Check returns an error if a message cannot be sent: if it violates RFC 5321
// section 2.3.8 in a way that ReadMessage refuses. Decoded parts or header
// values could have brought that in again.
func Check(msg []byte) error {
	if bytes.IndexByte(msg, 0) >= 0 {
		return nulByte()
	}

	for p := msg; ; {
		lf := bytes.IndexByte(p, '\n')
		if lf < 0 {
			if bytes.IndexByte(p, '\r') >= 0 {
				return bareCR()
			}
			return nil
		}

		if lf == 0 || p[lf-1] != '\r' {
			return bareLF()
		}
		if bytes.IndexByte(p[:lf-1], '\r') >= 0 {
			return bareCR()
		}
		p = p[lf+1:]
	}
}

// WriteData writes a message in the DATA form of RFC 5321 section 4.5.2: dots at
// the start of a line are doubled, a CRLF is added if the last line lacks one,
// and the final dot follows. The message may be in parts, cut anywhere; if
// together they fail Check, nothing is written. The caller flushes.
func WriteData(w *bufio.Writer, parts ...[]byte) error {
	if err := checkParts(parts); err != nil {
		return err
	}

	lineStart := true
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		writeStuffed(w, p, lineStart)
		lineStart = p[len(p)-1] == '\n'
	}

	if !lineStart {
		w.WriteString("\r\n")
	}

	_, err := w.WriteString(".\r\n") // bufio keeps the first error
	return err
}

// checkParts does what Check does for a message in parts. A CR at the end of a
// part needs its LF at the start of the next one.
func checkParts(parts [][]byte) error {
	var before byte // the last one of the parts so far

	for _, p := range parts {
		if len(p) == 0 {
			continue
		}

		last := p[len(p)-1]
		switch {
		case before == '\r' && p[0] != '\n':
			return bareCR()
		case before == '\r':
			p = p[1:]
		}
		before = last

		if last == '\r' && len(p) > 0 {
			p = p[:len(p)-1]
		}
		if err := Check(p); err != nil {
			return err
		}
	}

	if before == '\r' {
		return bareCR()
	}
	return nil
}

// writeStuffed writes p, which is not empty, with the dots at the start of lines
// doubled. lineStart reports whether p itself is at the start of a line.
func writeStuffed(w *bufio.Writer, p []byte, lineStart bool) {
	if lineStart && p[0] == '.' {
		w.WriteByte('.')
	}

	for {
		i := bytes.Index(p, []byte("\n."))
		if i < 0 {
			w.Write(p)
			return
		}

		w.Write(p[:i+1])
		w.WriteString(".")
		p = p[i+1:]
	}
}
