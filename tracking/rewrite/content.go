package rewrite

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"postern/relay/envelope"
)

// contentHeader is what the MIME fields of an entity say.
type contentHeader struct {
	mediaType  string // lower case
	boundary   string
	charset    string // lower case
	encoding   encoding
	attachment bool
}

// readContentHeader reads the MIME fields. ok is false where they cannot be
// told for certain: mail programs take the first or the last of two, so none
// is taken.
func readContentHeader(header []byte, defaultType string) (h contentHeader, ok bool) {
	h.mediaType = defaultType
	var types, encodings, dispositions int
	for _, f := range envelope.Fields(header) {
		switch {
		case f.Is("Content-Type"):
			if types++; types > 1 {
				return h, false
			}
			value, params, ok := splitParams(f.Value())
			if !ok {
				return h, false
			}
			if strings.Contains(value, "/") {
				h.mediaType = strings.ToLower(value)
			}
			h.boundary, h.charset = params["boundary"], strings.ToLower(params["charset"])
		case f.Is("Content-Transfer-Encoding"):
			if encodings++; encodings > 1 {
				return h, false
			}
			value, _, _ := splitParams(f.Value())
			h.encoding = encodingByName(strings.ToLower(value))
		case f.Is("Content-Disposition"):
			if dispositions++; dispositions > 1 {
				return h, false
			}
			value, _, _ := splitParams(f.Value())
			h.attachment = strings.EqualFold(value, "attachment")
		}
	}
	return h, true
}

// splitParams reads `value; name=word; name="quoted"` as RFC 2045 section 5.1
// has it, with comments, leniently: a parameter that is no parameter is passed
// over. Parameters in pieces, and those with a charset of their own, are put
// together as RFC 2231 has it. ok is false for what would need guessing: a
// parameter that stands twice, or whose pieces do not make a whole.
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
		if strings.IndexByte(name, '*') > 0 {
			if pieces == nil {
				pieces = map[string]string{}
			}
			if _, twice := pieces[name]; twice {
				return value, params, false
			}
			pieces[name] = v
			continue
		}
		if _, twice := params[name]; twice {
			return value, params, false
		}
		params[name] = v
	}
	for _, base := range []string{"boundary", "charset"} {
		v, found, whole := joinPieces(pieces, base)
		if _, twice := params[base]; !whole || found && twice {
			return value, params, false
		}
		if found {
			params[base] = v
		}
	}
	return value, params, true
}

// joinPieces puts a parameter together from NAME*, or NAME*0, NAME*1 and on,
// where a * at the end says that a piece is percent-encoded (RFC 2231 sections
// 3 and 4). whole is false where pieces are left over.
func joinPieces(pieces map[string]string, base string) (v string, found, whole bool) {
	used := 0
	decode := func(s string, first bool) (string, bool) {
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
	if s, ok := pieces[base+"*"]; ok {
		if v, ok = decode(s, true); !ok {
			return "", false, false
		}
		found, used = true, 1
	}
	for i := 0; !found || i > 0; i++ {
		name := base + "*" + strconv.Itoa(i)
		s, ok := pieces[name]
		if e, encoded := pieces[name+"*"]; encoded {
			if ok {
				return "", false, false
			}
			if s, ok = decode(e, i == 0); !ok {
				return "", false, false
			}
		}
		if !ok {
			break
		}
		v += s
		used++
		found = true
	}
	have := 0
	for name := range pieces {
		if strings.HasPrefix(name, base+"*") {
			have++
		}
	}
	return v, found, used == have
}

func nextParam(s string) (name, value, rest string) {
	s = strings.TrimLeft(s, "; \t")
	i := strings.IndexAny(s, "=;")
	if i < 0 || s[i] == ';' {
		if i < 0 {
			return "", "", ""
		}
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

// Charsets in which every byte below 0x80 is the ASCII character, so that
// markup can be found and edited in place.
var asciiSupersets = []string{
	"", "us-ascii", "ascii", "utf-8", "utf8", "iso-8859-", "iso8859-", "windows-125", "cp125",
	"latin1", "koi8-", "macintosh", "euc-", "gb2312", "tis-620", "ks_c_5601",
}

// charsetAllows tells whether data in that charset may be edited in place, and
// whether its bytes above 0x7f are UTF-8. Charsets that hide ASCII bytes inside
// characters are left alone, unknown ones too unless the data is plain ASCII.
func charsetAllows(charset string, data []byte) (isUTF8, ok bool) {
	ascii := isASCII(data)
	if ascii && bytes.IndexByte(data, 0x1b) < 0 {
		// ISO-2022 needs its escapes; UTF-7, HZ and UTF-16 hide in plain ASCII.
		switch {
		case charset == "utf-7", strings.HasPrefix(charset, "hz"), strings.HasPrefix(charset, "utf-16"), strings.HasPrefix(charset, "utf-32"):
			return false, false
		}
		return true, true
	}
	for _, name := range asciiSupersets {
		if charset == name || strings.HasSuffix(name, "-") && strings.HasPrefix(charset, name) ||
			strings.HasSuffix(name, "125") && strings.HasPrefix(charset, name) {
			isUTF8 = (charset == "" || strings.HasPrefix(charset, "utf")) && utf8.Valid(data)
			return isUTF8, true
		}
	}
	return false, false
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
