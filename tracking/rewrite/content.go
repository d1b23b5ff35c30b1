package rewrite

import (
	"net/url"
	"strconv"
	"strings"

	"postern/relay/message"
)

// contentHeader is what the MIME fields of an entity say.
type contentHeader struct {
	mediaType  string // lower case
	boundary   string
	charset    string
	start      string // of multipart/related: the Content-ID of its root
	flow       flow
	encoding   encoding
	attachment bool
	named      bool   // it has a file name
	id         string // Content-ID, without angle brackets
}

// flow is how the lines of a text/plain part are joined when it is shown
// (RFC 3676).
type flow byte

const (
	fixedLines  flow = iota // or flowed ones that are joined with a space
	joinedLines             // format=flowed; delsp=yes: the space at a soft line break goes
)

// readContentHeader reads the MIME fields. ok is false where they cannot be
// told for certain: mail programs read the first or the last of two, so none is
// read.
func readContentHeader(header []byte, defaultType string) (h contentHeader, ok bool) {
	h.mediaType = defaultType
	var types, encodings, dispositions, ids int
	for _, f := range message.Fields(header) {
		switch {
		case f.Is("Content-Type"):
			types++
			if !h.readType(f.Value()) {
				return h, false
			}
		case f.Is("Content-Transfer-Encoding"):
			encodings++
			value, _, _ := splitParams(f.Value())
			h.encoding = encodingByName(strings.ToLower(value))
		case f.Is("Content-Disposition"):
			dispositions++
			h.readDisposition(f.Value())
		case f.Is("Content-ID"):
			ids++
			h.id = trimAngles(f.Value())
		}
	}

	if ids > 1 {
		h.id = ""
	}

	return h, types <= 1 && encodings <= 1 && dispositions <= 1
}

// readType reads a Content-Type. It returns false for values that mail programs
// do not agree on.
func (h *contentHeader) readType(field string) bool {
	value, params, ok := splitParams(field)
	if !ok {
		return false
	}

	if strings.Contains(value, "/") {
		h.mediaType = strings.ToLower(value)
	}

	_, named := params["name"]
	h.named = h.named || named
	h.boundary = params["boundary"]
	h.charset = params["charset"]
	h.start = trimAngles(params["start"])
	if strings.EqualFold(params["format"], "flowed") && strings.EqualFold(params["delsp"], "yes") {
		h.flow = joinedLines
	}

	return true
}

// readDisposition reads a Content-Disposition. What is not plainly inline is an
// attachment (RFC 2183 section 2.8).
func (h *contentHeader) readDisposition(field string) {
	value, params, _ := splitParams(field)
	_, named := params["filename"]
	h.named = h.named || named
	h.attachment = !strings.EqualFold(value, "inline")
}

// isMediaType reports whether s is two tokens with a slash between them
// (RFC 2045 section 5.1).
func isMediaType(s string) bool {
	kind, sub, ok := strings.Cut(s, "/")
	return ok && isToken(kind) && isToken(sub)
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}

	return s != ""
}

func trimAngles(s string) string {
	s = strings.TrimSpace(s)
	s = strings.TrimPrefix(s, "<")

	return strings.TrimSuffix(s, ">")
}

// joinedParams are the parameters that are put together where they come in
// pieces.
var joinedParams = []string{"boundary", "charset", "name", "filename", "start", "format", "delsp"}

// splitParams reads `value; name=word; name="quoted"` as RFC 2045 section 5.1
// has it, with comments, leniently: what is not a parameter is passed
// over. Parameters in pieces, and those with a charset of their own, are put
// together as RFC 2231 has it. ok is false for what would need guessing: a
// parameter that appears twice, or whose pieces do not make a whole.
func splitParams(s string) (value string, params map[string]string, ok bool) {
	s = stripComments(s)
	value, rest, _ := strings.Cut(s, ";")
	value = strings.TrimSpace(value)
	params = map[string]string{}

	var pieces map[string]string // as named: boundary*0, charset*
	for rest != "" {
		var name, v string
		name, v, rest = nextParam(rest)
		if name == "" {
			continue
		}

		into := params
		if strings.IndexByte(name, '*') > 0 {
			if pieces == nil {
				pieces = map[string]string{}
			}
			into = pieces
		}
		if _, twice := into[name]; twice {
			return value, params, false
		}
		into[name] = v
	}
	if pieces == nil {
		return value, params, true
	}

	for _, base := range joinedParams {
		v, found, whole := joinPieces(pieces, base)
		_, twice := params[base]
		isName := base == "name" || base == "filename" // only whether there is one matters
		if !isName && (!whole || found && twice) {
			return value, params, false
		}
		if found || isName && !whole {
			params[base] = v
		}
	}

	return value, params, true
}

// decodePiece undoes the percent-encoding of a piece, the first of which begins
// with a charset and a language (RFC 2231 section 4).
func decodePiece(s string, first bool) (string, bool) {
	if first {
		parts := strings.SplitN(s, "'", 3)
		if len(parts) != 3 {
			return "", false
		}
		s = parts[2]
	}

	out, err := url.PathUnescape(s)

	return out, err == nil
}

// joinPieces puts a parameter together from NAME*, or NAME*0, NAME*1 and on,
// where a * at the end says that a piece is percent-encoded (RFC 2231 sections
// 3 and 4). whole is false where pieces are left over.
func joinPieces(pieces map[string]string, base string) (v string, found, whole bool) {
	left := 0
	for name := range pieces {
		if strings.HasPrefix(name, base+"*") {
			left++
		}
	}

	if s, ok := pieces[base+"*"]; ok {
		v, ok = decodePiece(s, true)
		return v, ok, ok && left == 1
	}

	for i := 0; left > 0; i++ {
		name := base + "*" + strconv.Itoa(i)
		s, ok := pieces[name]
		e, encoded := pieces[name+"*"]
		if ok == encoded { // neither, or both
			return "", false, false
		}
		if encoded {
			s, ok = decodePiece(e, i == 0)
		}
		if !ok {
			return "", false, false
		}

		v += s
		found = true
		left--
	}

	return v, found, true
}

func nextParam(s string) (name, value, rest string) {
	s = strings.TrimLeft(s, "; \t")
	i := strings.IndexAny(s, "=;")
	switch {
	case i < 0:
		return "", "", ""
	case s[i] == ';':
		return "", "", s[i:]
	}

	name = strings.ToLower(strings.TrimSpace(s[:i]))
	s = strings.TrimLeft(s[i+1:], " \t")
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ";")
		return name, strings.TrimSpace(value), rest
	}

	var b strings.Builder
	for j := 1; j < len(s); j++ {
		switch {
		case s[j] == '"':
			return name, b.String(), s[j+1:]
		case s[j] == '\\' && j+1 < len(s):
			j++
		}
		b.WriteByte(s[j])
	}

	return name, b.String(), ""
}

// stripComments takes out RFC 5322 comments, leaving quoted strings alone.
func stripComments(s string) string {
	if strings.IndexByte(s, '(') < 0 {
		return s
	}

	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			if depth == 0 {
				b.WriteString(s[i : i+2])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}

	return b.String()
}
