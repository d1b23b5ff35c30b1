package rewrite

import (
	"net/url"
	"strconv"
	"strings"

	"postern/relay/message"
)

// contentHeader is what the MIME header fields of an entity say.
type contentHeader struct {
	mediaType  string // lower case
	boundary   string
	charset    string
	start      string // of multipart/related: the Content-ID of the root
	flow       flow
	encoding   encoding
	attachment bool
	named      bool   // it has a file name
	id         string // Content-ID, without angle brackets
}

// flow says how the lines of a text/plain part are joined for display (RFC 3676).
type flow byte

const (
	fixedLines  flow = iota // also flowed lines that are joined with a space
	joinedLines             // format=flowed; delsp=yes: the space at a soft line break is removed
)

// readContentHeader reads the MIME header fields of an entity. ok is false if
// they are ambiguous: of a field that appears twice, some mail programs read the
// first and others the last.
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

// readType reads a Content-Type field. It returns false for values that mail
// programs read differently.
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

// readDisposition reads a Content-Disposition field. Everything but "inline" is
// an attachment (RFC 2183 section 2.8).
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

// isToken reports whether s is a token (RFC 2045 section 5.1).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}

	return s != ""
}

// trimAngles returns s without white space and angle brackets around it.
func trimAngles(s string) string {
	s = strings.TrimSpace(s)
	s = strings.TrimPrefix(s, "<")

	return strings.TrimSuffix(s, ">")
}

// joinedParams are the parameters whose pieces are joined.
var joinedParams = []string{"boundary", "charset", "name", "filename", "start", "format", "delsp"}

// splitParams reads `value; name=word; name="quoted"`, with comments (RFC 2045
// section 5.1). It is lenient: anything that is not a parameter is skipped.
// Parameters in several pieces, or with a charset, are joined and decoded
// (RFC 2231). ok is false if the reading would be a guess: a parameter appears
// twice, or its pieces are incomplete.
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
		isName := base == "name" || base == "filename" // their values are not used
		if !isName && (!whole || found && twice) {
			return value, params, false
		}
		if found || isName && !whole {
			params[base] = v
		}
	}

	return value, params, true
}

// decodeFirst decodes the first piece of a parameter, which begins with a charset
// and a language (RFC 2231 section 4).
func decodeFirst(s string) (string, bool) {
	parts := strings.SplitN(s, "'", 3)
	if len(parts) != 3 {
		return "", false
	}

	return decodePiece(parts[2])
}

// decodePiece decodes a percent-encoded piece of a parameter.
func decodePiece(s string) (string, bool) {
	out, err := url.PathUnescape(s)
	return out, err == nil
}

// joinPieces joins the pieces of the parameter base: base*, or base*0, base*1 and
// so on, where another * at the end says that a piece is percent-encoded (RFC
// 2231 sections 3 and 4). whole is false if a piece is missing or malformed.
func joinPieces(pieces map[string]string, base string) (v string, found, whole bool) {
	left := 0
	for name := range pieces {
		if strings.HasPrefix(name, base+"*") {
			left++
		}
	}

	if s, ok := pieces[base+"*"]; ok {
		v, ok = decodeFirst(s)
		return v, ok, ok && left == 1
	}

	for i := 0; left > 0; i++ {
		name := base + "*" + strconv.Itoa(i)
		s, ok := pieces[name]
		e, encoded := pieces[name+"*"]
		if ok == encoded { // neither, or both
			return "", false, false
		}
		switch {
		case encoded && i == 0:
			s, ok = decodeFirst(e)
		case encoded:
			s, ok = decodePiece(e)
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

// nextParam cuts the first parameter off s. The name is in lower case; it is
// empty where something else is skipped.
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

// stripComments returns s without its comments (RFC 5322 section 3.2.2). There
// are none in quoted strings.
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
