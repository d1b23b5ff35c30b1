package message

import (
	"bufio"
	"bytes"
)

// Check returns what keeps a message from being sent: the faults of RFC 5321
// section 2.3.8 that ReadMessage refuses, which decoded parts or header values
// could have brought in again.
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

// WriteData writes a message in the DATA form of RFC 5321 section 4.5.2: dots
// at the start of a line doubled, a CRLF added where the last line lacks one,
// and the final dot. The message may come in parts, cut anywhere. It writes
// nothing at all if the parts together fail Check. The caller flushes.
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

// checkParts is Check of a message in parts. A CR that ends a part needs its LF
// at the start of the next one.
func checkParts(parts [][]byte) error {
	var before byte // the part
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

// writeStuffed writes lines with their leading dots doubled. lineStart reports
// that p, which is not empty, begins a line.
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
