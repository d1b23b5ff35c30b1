package rewrite

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"postern/tracking/rewrite/htmledit"
)

// msysPrefix begins the names of the attributes that control the tracking of a
// link, which are SparkPost's
// (https://developers.sparkpost.com/api/template-language/). All of them are
// removed.
var msysPrefix = []byte("data-msys-")

// hasMsys reports whether data contains data-msys-, in any case. It looks at the
// dashes only.
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

// linkAttribute is a data-msys-* attribute that links have.
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

// linkAttributeNamed returns the linkAttribute with that name, which is without
// the prefix, or -1.
func linkAttributeNamed(name []byte) int {
	for i, n := range linkAttributes {
		if htmledit.EqualFold(name, n) {
			return i
		}
	}

	return -1
}

// applyMsys returns the link, and whether it is to be wrapped, after an attribute
// has been applied.
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

// maxLinkName bounds the length of a link's name, in bytes.
const maxLinkName = 63

// cutName shortens a link's name to maxLinkName bytes, at a character boundary.
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

// maxSublink bounds the length of the path segments of a link, in bytes.
const maxSublink = 100

// cleanSublink returns s without slashes around it, if it consists of path
// segments that need no escaping in a URL, and an empty string otherwise.
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

// maxTextAttributes bounds the length of the attributes behind a URL in a text,
// in bytes.
const maxTextAttributes = 1024

var msysOpening = []byte("[[data-msys-")

// beginsTextAttributes reports whether d begins with [[data-msys-, in any case.
func beginsTextAttributes(d []byte) bool {
	n := len(msysOpening)
	return len(d) >= n && d[0] == '[' && bytes.EqualFold(d[:n], msysOpening)
}

// allTextAttributes reads the attributes behind a URL at offset at, which may be
// in several pairs of brackets, and returns the link, whether it is to be wrapped,
// and the end of the attributes. Without attributes the end is at.
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

// textAttributes applies [[data-msys-NAME="VALUE" ...]] at an offset to l and
// track, and returns its end; ok is false if there is none.
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
		key := a.Name(inner)
		if len(key) < len(msysPrefix) || !htmledit.EqualFold(key[:len(msysPrefix)], string(msysPrefix)) {
			continue
		}
		if which := linkAttributeNamed(key[len(msysPrefix):]); which >= 0 && which != int(linkName) {
			value := strings.TrimSpace(string(a.Value(inner)))
			*l, *track = applyMsys(*l, *track, linkAttribute(which), value)
		}
	}

	return at + n + 2, true
}
