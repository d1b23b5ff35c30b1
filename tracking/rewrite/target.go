package rewrite

import (
	"strings"

	"postern/tracking/rewrite/htmledit"
)

// maxTarget is the longest target that is wrapped, in bytes.
const maxTarget = 4096

// targets decides which links of one part are wrapped.
type targets struct {
	own     string // the tracker's URL without the slash at its end
	charset textCharset
}

func newTargets(o Options, cs textCharset) targets {
	return targets{own: strings.TrimSuffix(o.Tracker, "/"), charset: cs}
}

// fromHref reads an attribute's value as a browser does.
func (ts targets) fromHref(raw []byte) (target string, ok bool, why Reason) {
	if !ts.charset.utf8Bytes && !isASCII(raw) {
		return "", false, "" // a browser would read these bytes in the document's charset
	}

	return ts.check(htmledit.Unescape(raw))
}

// check returns a target without what a browser drops. ok is false for links
// that are left alone: those that are not absolute http or https URLs, that no
// browser could follow, that lead to the tracker already, or that something
// behind the gateway has yet to fill in; why is set for the last kind.
func (ts targets) check(value string) (target string, ok bool, why Reason) {
	t := cleanURL(value)
	if len(t) > maxTarget {
		return "", false, ""
	}

	location, ok := Redirect(t)
	if !ok {
		return "", false, ""
	}
	if hasTemplateSyntax(t) {
		return "", false, TemplateSyntax
	}
	if !ts.charset.namedUTF8 && hasNonASCIIQuery(t) {
		return "", false, "" // a query is sent in the charset of the document
	}
	if n := len(ts.own); len(location) > n && location[n] == '/' && strings.EqualFold(location[:n], ts.own) {
		return "", false, ""
	}

	return t, true, ""
}

// hasNonASCIIQuery reports whether a URL's query is not ASCII. Of all parts of
// a URL the query alone is encoded in the charset of its document (URL
// standard, query state).
func hasNonASCIIQuery(t string) bool {
	if isASCIIString(t) {
		return false
	}

	t, _, _ = strings.Cut(t, "#")
	_, query, _ := strings.Cut(t, "?")

	return !isASCIIString(query)
}

// templatePairs are brackets of template languages in which a URL may be left
// for somebody else to fill in: Liquid and Jinja, Mailchimp, ERB and AMPscript,
// PowerMTA, shell style.
var templatePairs = [][2]string{{"{%", "%}"}, {"*|", "|*"}, {"<%", "%>"}, {"[[", "]]"}, {"${", "}"}, {"#{", "}"}}

// hasTemplateSyntax reports whether a URL holds a variable of a template
// language, mustache (as in AMP for Email) and Handlebars before all. Sealed
// into a token, it could not be filled in any more.
func hasTemplateSyntax(t string) bool {
	if !strings.ContainsAny(t, "{}*[<%") {
		return false
	}
	if strings.Contains(t, "{{") || strings.Contains(t, "}}") {
		return true
	}

	for _, p := range templatePairs {
		if _, after, ok := strings.Cut(t, p[0]); ok && strings.Contains(after, p[1]) {
			return true
		}
	}

	return hasPercentVariable(t)
}

// hasPercentVariable looks for %%name%%.
func hasPercentVariable(t string) bool {
	for {
		_, after, ok := strings.Cut(t, "%%")
		if !ok {
			return false
		}

		n := 0
		for n < len(after) && (isAlnum(after[n]) || strings.IndexByte("_-. =", after[n]) >= 0) {
			n++
		}
		if n > 0 && isLetter(after[0]) && strings.HasPrefix(after[n:], "%%") {
			return true
		}
		t = after
	}
}
