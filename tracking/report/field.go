package report

import (
	"net/mail"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// structured returns the value of a structured field without comments and folding
// (RFC 5322, section 3.2.2). A parenthesis that is never closed is not a comment.
func structured(v string) string {
	if !strings.Contains(v, "(") {
		return strings.Join(strings.Fields(v), " ")
	}

	var out strings.Builder
	quoted := false
	depth, open := 0, 0
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && i+1 < len(v):
			if depth == 0 {
				out.WriteString(v[i : i+2])
			}
			i++

			continue

		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			if depth == 0 {
				open = i
			}
			depth++

			continue

		case c == ')' && depth > 0:
			depth--
			out.WriteByte(' ')

			continue
		}

		if depth == 0 {
			out.WriteByte(c)
		}
	}

	if depth > 0 {
		out.WriteString(v[open:])
	}

	return strings.Join(strings.Fields(out.String()), " ")
}

// comment returns the comment of a structured field, or "".
func comment(v string) string {
	_, inside, ok := strings.Cut(v, "(")
	if !ok {
		return ""
	}
	if i := strings.LastIndexByte(inside, ')'); i >= 0 {
		inside = inside[:i]
	}

	return strings.TrimSpace(inside)
}

// keyword returns the first word of a structured field in lower case. It is the
// value of fields such as Action, Feedback-Type and Auto-Submitted.
func keyword(v string) string {
	v, _, _ = strings.Cut(structured(v), ";")
	if fields := strings.Fields(v); len(fields) > 0 {
		return strings.ToLower(strings.Trim(fields[0], `",.`))
	}

	return ""
}

// cutType splits a value such as `rfc822; x` or `smtp; x` behind its type (RFC 3464,
// section 2.1.2).
func cutType(v string) (kind, rest string) {
	before, behind, ok := strings.Cut(v, ";")
	before = structured(before)
	if !ok || before == "" || strings.ContainsAny(before, " @<.") {
		return "", strings.TrimSpace(v)
	}

	return strings.ToLower(before), strings.TrimSpace(behind)
}

// typed returns a value without its type.
func typed(v string) string {
	_, rest := cutType(v)

	return rest
}

// mtaName returns the name in a field such as Reporting-MTA.
func mtaName(v string) string { return structured(typed(v)) }

const (
	// localChars are the characters that are not part of a local part in running
	// text. Chinese and Japanese are among them, since no space separates them from
	// an address.
	localChars = `\s<>()\[\]{}:;,"|\\` + "`" + `\p{Han}\p{Hiragana}\p{Katakana}\x{3000}-\x{303F}\x{FF00}-\x{FFEF}`

	// labelChars are the characters of a label of a domain.
	labelChars = `A-Za-z0-9\p{Latin}\p{Greek}\p{Cyrillic}`

	// addr matches an address in running text.
	addr = `"[^"\r\n]{1,64}"@[A-Za-z0-9.\-]{1,255}|` +
		`[^'` + localChars + `][^` + localChars + `]{0,127}@` +
		`[` + labelChars + `](?:[` + labelChars + `.\-]{0,254}[` + labelChars + `])?`
)

// addressIn matches an address in running text.
var addressIn = regexp.MustCompile(addr)

// addressOf returns the address of a recipient field. A value without an address is
// returned as it is. If a character of the address cannot be decoded it returns "",
// because a part of an address would be the address of somebody else.
func addressOf(v string) string {
	v = strings.Trim(structured(cutX400(typed(v))), "<> \t")
	v, ok := decodeUTF8Address(v)
	if !ok {
		return ""
	}
	if isAddress(v) {
		return v
	}

	if a := addressIn.FindString(v); a != "" && isAddress(a) {
		return a
	}

	return v
}

// x400 matches the Internet address within one of X.400 (RFC 2156, section 4.1).
var x400 = regexp.MustCompile(`(?i)/rfc-?822=([^/]+?)\(a\)([^/]+)`)

// cutX400 returns the Internet address within one of X.400, or v.
func cutX400(v string) string {
	if m := x400.FindStringSubmatch(v); m != nil {
		return m[1] + "@" + m[2]
	}

	return v
}

// isAddress reports whether a text is one address and nothing else.
func isAddress(v string) bool {
	if len(v) > 512 || !strings.Contains(v, "@") {
		return false
	}

	_, err := mail.ParseAddress("<" + v + ">")

	return err == nil
}

// embedded matches an encoded character of decodeUTF8Address.
var embedded = regexp.MustCompile(`\\x\{([0-9A-Fa-f]{1,6})\}`)

// decodeUTF8Address decodes the ASCII form of an internationalized address (RFC 6533,
// section 3), such as b\x{F6}b@example.com. It returns false if there is a character
// that cannot be part of one.
func decodeUTF8Address(v string) (string, bool) {
	if !strings.Contains(v, `\x{`) {
		return v, true
	}

	ok := true
	out := embedded.ReplaceAllStringFunc(v, func(s string) string {
		n, err := strconv.ParseUint(s[3:len(s)-1], 16, 32)
		r := rune(n)
		valid := err == nil && utf8.ValidRune(r) && unicode.IsGraphic(r)
		if !valid || unicode.IsSpace(r) || strings.ContainsRune("@<>", r) {
			ok = false
		}

		return string(r)
	})

	return out, ok && !strings.Contains(out, `\x{`)
}
