package report

import (
	"regexp"
)

// forwardedSubject begins the subject of what a person passes on or answers.
var forwardedSubject = regexp.MustCompile(`(?i)^\s*` + anyOf(
	"fwd?", "wg", "tr", "rv", "enc", "i", "doorst", "pd", "转发", "轉寄", "转寄", "転送",
	"re", "aw", "antw", "sv", "vs", "rif", "r", "res", "odp", "回复", "回覆", "答复", "返信",
) + `\s*[:：]`)

// passedOn reports whether a person sends on or answers what a mail system
// wrote: such a mail speaks of nothing that was sent back here.
func (m *structure) passedOn() bool {
	return m.isForward() || !m.from().isDaemon() && !m.isAutomatic() && !m.from().isRobot()
}

// isForward reports whether a mail says that it is passed on or an answer.
func (m *structure) isForward() bool {
	if m.from().isDaemon() {
		return false
	}

	for _, name := range []string{"Resent-From", "Resent-Sender", "Resent-To", "Resent-Date", "X-Forwarded-Message-Id"} {
		if m.header.Has(name) {
			return true
		}
	}

	return forwardedSubject.MatchString(m.get("Subject"))
}

// isAutomatic reports whether a program says that it made the mail (RFC 3834,
// section 5), or the null return path does (RFC 5321, section 4.5.5).
func (m *structure) isAutomatic() bool {
	auto := keyword(m.get("Auto-Submitted"))

	return auto != "" && auto != "no" || m.hasNullPath() || m.header.Has("X-Failed-Recipients")
}
