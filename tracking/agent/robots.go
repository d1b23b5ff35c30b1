package agent

import (
	_ "embed"
	"regexp"
	"strings"
	"unicode"

	"github.com/mileusna/useragent"
)

//go:embed robots.txt
var robotList string

//go:embed machines.txt
var machineList string

// isRobot reports whether a program is not one that people use: it is on a list, its
// field has the URL of its maker, or it has no name.
func (r *Reader) isRobot(u useragent.UserAgent, said string) bool {
	if !strings.ContainsFunc(said, unicode.IsLetter) {
		return true
	}
	if u.Bot && useragent.Parse(said).Bot { // not only because of the name of its device
		return true
	}

	return r.robots.match(said)
}

// apps are on the list of robots because they fetch previews. In the field of a
// browser, they are the app that a person follows a link in.
var apps = map[string]bool{
	"WhatsApp": true,
	"Viber":    true,
	"coccoc":   true,
	"Daum/":    true,
}

// isBrowser reports whether a field begins as that of a WebKit browser.
func isBrowser(s string) bool {
	return strings.HasPrefix(s, "Mozilla/5.0 (") && strings.Contains(s, " AppleWebKit/")
}

// robots is a set of patterns. Most are plain text, and are looked up by their first
// three bytes; a few are regular expressions.
type robots struct {
	byStart map[[3]byte][]string
	regexps []*regexp.Regexp
}

// readRobots reads a list of patterns, one a line. Lines that begin with # are
// comments.
func readRobots(list string) *robots {
	r := &robots{byStart: map[[3]byte][]string{}}
	for line := range strings.Lines(list) {
		p := strings.TrimRight(line, "\n")
		if p == "" || strings.HasPrefix(p, "#") {
			continue
		}

		text, plain := unquote(p)
		if !plain || len(text) < 3 {
			r.regexps = append(r.regexps, regexp.MustCompile(p))
			continue
		}

		key := [3]byte{text[0], text[1], text[2]}
		r.byStart[key] = append(r.byStart[key], text)
	}

	return r
}

// unquote returns the text that a pattern matches. plain is false if it is a regular
// expression that matches more than one.
func unquote(p string) (text string, plain bool) {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '\\' && i+1 < len(p) && strings.IndexByte(`\/.-+()[]{}|?*^$!: &'"=@,;#_<>`, p[i+1]) >= 0 {
			i++
			b.WriteByte(p[i])
			continue
		}

		if strings.IndexByte(`\.+*?()[]{}|^$`, c) >= 0 {
			return "", false
		}
		b.WriteByte(c)
	}

	return b.String(), true
}

// match reports whether a field matches a pattern.
func (r *robots) match(s string) bool {
	for i := 0; i+3 <= len(s); i++ {
		for _, p := range r.byStart[[3]byte{s[i], s[i+1], s[i+2]}] {
			if strings.HasPrefix(s[i:], p) && isWhole(s, i, i+len(p)) && !(apps[p] && isBrowser(s)) {
				return true
			}
		}
	}

	for _, p := range r.regexps {
		if p.MatchString(s) {
			return true
		}
	}

	return false
}
