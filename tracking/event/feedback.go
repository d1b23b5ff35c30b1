package event

import "strings"

// complaintTypes are the feedback types with which a person complains about a
// message: those of RFC 5965, section 7.3, and of RFC 6430, and what providers add
// to them.
var complaintTypes = map[string]bool{
	"abuse":          true,
	"complaint":      true,
	"fraud":          true,
	"miscategorized": true,
	"opt-out":        true,
	"opt-out-list":   true,
	"other":          true,
	"virus":          true,
}

// IsComplaint reports whether a feedback type is a complaint about a message.
// Other types are not: not-spam takes a complaint back, auth-failure (RFC 6591) and
// dmarc are about authentication. Case does not matter.
func IsComplaint(feedbackType string) bool {
	return complaintTypes[strings.ToLower(strings.TrimSpace(feedbackType))]
}
