package report

import (
	"regexp"
	"strings"
)

// isReport reports whether a mail is a multipart/report (RFC 6522).
func (m *structure) isReport() bool {
	t, _, _ := m.header.ContentType()

	return strings.EqualFold(t, "multipart/report")
}

// reportType is the parameter that says what a multipart/report reports.
func (m *structure) reportType() string {
	if !m.isReport() {
		return ""
	}
	_, params, _ := m.header.ContentType()

	return strings.ToLower(params["report-type"])
}

// hasStatus reports whether a part for machines says what became of a message
// (RFC 3464).
func (m *structure) hasStatus() bool {
	for _, p := range m.parts {
		if p.isStatus() {
			return true
		}
	}

	return false
}

// isRefusal reports whether a message disposition notification says that a
// program refused the message, as the filter of a mailbox does (RFC 5429,
// section 2.1).
func (m *structure) isRefusal() bool {
	_, why, _ := strings.Cut(m.get("Auto-Submitted"), "(")
	if keyword(m.get("Auto-Submitted")) != "auto-replied" || !strings.HasPrefix(strings.ToLower(why), "rejected") {
		return false
	}

	for _, p := range m.parts {
		if p.isDisposition() && automaticDeletion.Match(p.body) {
			return true
		}
	}

	return false
}

var automaticDeletion = regexp.MustCompile(`(?im)^Disposition:\s*automatic-action/MDN-sent-automatically;\s*deleted\b`)

// isReceipt reports whether a mail is a message disposition notification (RFC
// 8098): a receipt for a message that was delivered.
func (m *structure) isReceipt() bool {
	if m.isRefusal() {
		return false
	}
	if m.reportType() == "disposition-notification" {
		return true
	}

	for _, p := range m.parts {
		if p.isDisposition() {
			return true
		}
	}

	return false
}
