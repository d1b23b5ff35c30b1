package htmledit

import "bytes"

// ConditionalContent returns the range of a comment that Outlook reads as HTML,
// where the comment is a downlevel-hidden conditional one:
//
//	<!--[if EXPR]> HTML <![endif]-->
//
// ok is false for all other comments.
func ConditionalContent(c []byte) (from, to int, ok bool) {
	const open = "<!--[if"
	if len(c) < len(open) || !EqualFold(c[:len(open)], open) {
		return 0, 0, false
	}

	i := bytes.Index(c, []byte("]>"))
	j := bytes.LastIndex(c, []byte("<![")) // of <![endif]
	if i < 0 || j < i+2 {
		return 0, 0, false
	}

	return i + 2, j, true
}
