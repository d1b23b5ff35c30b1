package rewrite

import (
	"strings"

	"postern/tracking/rewrite/htmledit"
)

// maxTarget is the length of the longest target that is wrapped, in bytes.
const maxTarget = 4096

// targets decides which links of a part are wrapped.
type targets struct {
	own     string // the tracking URL without a slash at its end
	charset textCharset
}

// newTargets returns the targets of a part with that charset.
func newTargets(o Options, cs textCharset) targets {
	return targets{own: strings.TrimSuffix(o.Tracker, "/"), charset: cs}
}

// fromHref is check for the raw value of an attribute.
func (ts targets) fromHref(raw []byte) (target string, ok bool, why Reason) {
	if !ts.charset.utf8Bytes && !isASCII(raw) {
		return "", false, "" // its bytes depend on the charset of the document
	}

	return ts.check(htmledit.Unescape(raw))
}

// check returns the target of a link without what browsers remove from it. ok is
// false for links that are not wrapped: URLs other than absolute http and https
// ones, those that browsers cannot follow, those of the tracker, and templates
// that are filled in behind the gateway, for which why is set.
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
		return "", false, "" // queries are sent in the charset of the document
	}
	if n := len(ts.own); len(location) > n && location[n] == '/' && strings.EqualFold(location[:n], ts.own) {
		return "", false, ""
	}

	return t, true, ""
}

// hasNonASCIIQuery reports whether the query of a URL is not ASCII. The query is
// the only part of a URL that is encoded in the charset of the document (URL
// standard, query state).
func hasNonASCIIQuery(t string) bool {
	if isASCIIString(t) {
		return false
	}

	t, _, _ = strings.Cut(t, "#")
	_, query, _ := strings.Cut(t, "?")

	return !isASCIIString(query)
}

// templatePairs are the brackets of template languages: Liquid and Jinja,
// Mailchimp, ERB and AMPscript, PowerMTA, shell, Ruby.
var templatePairs = [][2]string{{"{%", "%}"}, {"*|", "|*"}, {"<%", "%>"}, {"[[", "]]"}, {"${", "}"}, {"#{", "}"}}

// hasTemplateSyntax reports whether a URL contains a variable of a template
// language, such as Mustache (which AMP for Email uses) or Handlebars. In a
// sealed token it could not be filled in any more.
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

// hasPercentVariable reports whether t contains %%name%%.
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
