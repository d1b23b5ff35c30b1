package reply

import (
	"strconv"
	"strings"
)

// ParseCodes returns the reply code and the enhanced status code at the
// beginning of a reply, in the form that Reply.String writes. Either may be
// missing, and is empty then. The text behind them is another server's, and is
// not searched.
func ParseCodes(text string) (code, enhanced string) {
	first, rest, _ := strings.Cut(text, " ")
	if isCode(first) {
		code = first
		first, _, _ = strings.Cut(rest, " ")
	}

	if !isEnhancedCode(first) {
		return code, ""
	}
	return code, first
}

// isCode reports whether s is a reply code of 200 to 599.
func isCode(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && len(s) == 3 && n >= 200 && n <= 599
}

// isEnhancedCode reports whether s is an enhanced status code (RFC 3463 section
// 2).
func isEnhancedCode(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return false
	}

	for _, p := range parts {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}
