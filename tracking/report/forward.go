package report

import (
	"regexp"
)

// forwardedSubject begins the subject of forwarded mail and of answers.
var forwardedSubject = regexp.MustCompile(`(?i)^\s*` + anyOf(
	"fwd?", "wg", "tr", "rv", "enc", "i", "doorst", "pd", "转发", "轉寄", "转寄", "転送",
	"re", "aw", "antw", "sv", "vs", "rif", "r", "res", "odp", "回复", "回覆", "答复", "返信",
) + `\s*[:：]`)

// passedOn reports whether a person forwards or answers what a mail system wrote.
// Such a mail is not about a message of this system.
func (m *structure) passedOn() bool {
	return m.isForward() || !m.from().isDaemon() && !m.isAutomatic() && !m.from().isRobot()
}

// forwardFields are the header fields of forwarded mail (RFC 5322, section 3.6.6).
var forwardFields = []string{
	"Resent-From",
	"Resent-Sender",
	"Resent-To",
	"Resent-Date",
	"X-Forwarded-Message-Id",
}

// isForward reports whether a mail says that it is forwarded or an answer.
func (m *structure) isForward() bool {
	if m.from().isDaemon() {
		return false
	}

	for _, name := range forwardFields {
		if m.header.Has(name) {
			return true
		}
	}

	return forwardedSubject.MatchString(m.get("Subject"))
}

// isAutomatic reports whether a mail says that a program wrote it (RFC 3834, section
// 5), or has the null return path (RFC 5321, section 4.5.5).
func (m *structure) isAutomatic() bool {
	auto := keyword(m.get("Auto-Submitted"))

	return auto != "" && auto != "no" || m.hasNullPath() || m.header.Has("X-Failed-Recipients")
}
