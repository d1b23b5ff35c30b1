package htmledit

import "bytes"

// conditionalContent finds what Outlook reads of a downlevel-hidden comment,
// <!--[if EXPR]> ... <![endif]-->.
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
