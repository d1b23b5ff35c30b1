package relay

import (
	"strconv"
	"strings"
)

// replyCodes reads the codes at the beginning of an answer as envelope.Reply
// writes it. What is further behind is the other server's text, and not looked
// at. Either may be empty.
func replyCodes(answer string) (code, status string) {
	first, rest, _ := strings.Cut(answer, " ")
	if n, err := strconv.Atoi(first); err == nil && len(first) == 3 && n >= 200 && n <= 599 {
		code = first
		first, _, _ = strings.Cut(rest, " ")
	}

	parts := strings.Split(first, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || strings.IndexByte("245", parts[0][0]) < 0 {
		return code, ""
	}
	for _, p := range parts {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return code, ""
		}
	}
	return code, first
}
