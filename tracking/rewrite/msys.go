package rewrite

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"postern/tracking/rewrite/htmledit"
)

var msysPrefix = []byte("data-msys-")

// hasMsys looks for data-msys- in any case, in one pass over the dashes.
func hasMsys(data []byte) bool {
	for at := 0; ; {
		i := bytes.IndexByte(data[at:], '-')
		if i < 0 {
			return false
		}
		at += i + 1

		if at >= 5 && len(data) >= at+5 && bytes.EqualFold(data[at-5:at+5], msysPrefix) {
			return true
		}
	}
}

// linkAttribute is one of the attributes data-msys-NAME of a link.
type linkAttribute int

const (
	clickTrack linkAttribute = iota
	linkName
	unsubscribe
	sublink
)

var linkAttributes = [...]string{
	clickTrack:  "clicktrack",
	linkName:    "linkname",
	unsubscribe: "unsubscribe",
	sublink:     "sublink",
}

func linkAttributeNamed(name []byte) int {
	for i, n := range linkAttributes {
		if htmledit.EqualFold(name, n) {
			return i
		}
	}

	return -1
}

// applyMsys reads one attribute of a link.
func applyMsys(l Link, track bool, which linkAttribute, value string) (Link, bool) {
	switch which {
	case clickTrack:
		track = value != "0"
	case linkName:
		l.Name = cutName(value)
	case unsubscribe:
		l.Unsubscribe = value == "1"
	case sublink:
		l.Sublink = cleanSublink(value)
	}

	return l, track
}

// maxLinkName is where data-msys-linkname is cut, on a character boundary, in
// bytes.
const maxLinkName = 63

func cutName(s string) string {
	if len(s) <= maxLinkName {
		return s
	}

	n := maxLinkName
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}

	return s[:n]
}

const maxSublink = 100

// cleanSublink accepts a path segment, or several, that a URL can hold as they
// are; it returns an empty string for anything else.
func cleanSublink(s string) string {
	s = strings.Trim(s, "/")
	if len(s) > maxSublink {
		return ""
	}

	for segment := range strings.SplitSeq(s, "/") {
		if strings.Trim(segment, ".") == "" {
			return ""
		}
		for i := 0; i < len(segment); i++ {
			if c := segment[i]; !isAlnum(c) && strings.IndexByte("-_.~", c) < 0 {
				return ""
			}
		}
	}

	return s
}

// maxTextAttributes is how long attributes behind a URL in a text may be, in
// bytes.
const maxTextAttributes = 1024

var msysOpening = []byte("[[data-msys-")

func beginsTextAttributes(d []byte) bool {
	n := len(msysOpening)
	return len(d) >= n && d[0] == '[' && bytes.EqualFold(d[:n], msysOpening)
}

// allTextAttributes reads the attributes behind a URL, which may stand in
// brackets of their own each; after is at where there are none.
func allTextAttributes(d []byte, at int) (l Link, track bool, after int) {
	track = true
	for after = at; ; {
		next, ok := textAttributes(d, after, &l, &track)
		if !ok {
			return l, track, after
		}
		after = next
	}
}

// textAttributes reads [[data-msys-NAME="VALUE" ...]] at an offset into l and
// track, and returns where it ends; ok is false where there is none.
func textAttributes(d []byte, at int, l *Link, track *bool) (after int, ok bool) {
	if !beginsTextAttributes(d[at:]) {
		return at, false
	}

	window := d[at:min(len(d), at+maxTextAttributes)]
	n := bytes.Index(window, []byte("]]"))
	if n < 0 || bytes.IndexByte(window[:n], '\n') >= 0 {
		return at, false
	}

	inner := append(append([]byte("<a "), window[2:n]...), '>')
	for _, a := range htmledit.AppendAttributes(nil, inner, len("<a")) {
		key := inner[a.NameStart:a.NameEnd]
		if len(key) < len(msysPrefix) || !htmledit.EqualFold(key[:len(msysPrefix)], string(msysPrefix)) {
			continue
		}
		if which := linkAttributeNamed(key[len(msysPrefix):]); which >= 0 && which != int(linkName) {
			value := strings.TrimSpace(string(inner[a.ValueStart:a.ValueEnd]))
			*l, *track = applyMsys(*l, *track, linkAttribute(which), value)
		}
	}

	return at + n + 2, true
}
