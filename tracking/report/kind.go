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

// reportType returns the report-type parameter of a multipart/report, or "".
func (m *structure) reportType() string {
	if !m.isReport() {
		return ""
	}

	_, params, _ := m.header.ContentType()

	return strings.ToLower(params["report-type"])
}

// hasStatus reports whether a mail has the part of a delivery status notification
// (RFC 3464).
func (m *structure) hasStatus() bool {
	for _, p := range m.parts {
		if p.isStatus() {
			return true
		}
	}

	return false
}

// isRefusal reports whether a mail is a message disposition notification which says
// that a program refused the message, as the filter of a mailbox does (RFC 5429,
// section 2.1).
func (m *structure) isRefusal() bool {
	auto := m.get("Auto-Submitted")
	_, why, _ := strings.Cut(auto, "(")
	if keyword(auto) != "auto-replied" || !strings.HasPrefix(strings.ToLower(why), "rejected") {
		return false
	}

	for _, p := range m.parts {
		if p.isDisposition() && automaticDeletion.Match(p.body) {
			return true
		}
	}

	return false
}

// automaticDeletion matches the disposition of a message that a program deleted.
var automaticDeletion = regexp.MustCompile(`(?im)^Disposition:\s*automatic-action/MDN-sent-automatically;\s*deleted\b`)

// isReceipt reports whether a mail is a message disposition notification (RFC 8098)
// for a message that was delivered.
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
