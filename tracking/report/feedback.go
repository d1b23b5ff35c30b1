package report

import (
	"mime"
	"regexp"
	"strings"
)

// feedback reads a feedback report (RFC 5965), or a message that a provider forwards
// without one.
func (r *Report) feedback(m *structure) bool {
	for _, p := range m.parts {
		if !p.is("message/feedback-report", "text/feedback-report") {
			continue
		}
		if m.isForward() && m.reportType() != "feedback-report" {
			continue
		}

		all := fields{}
		for _, g := range groups(string(p.body)) {
			for k, v := range g {
				if all[k] == "" {
					all[k] = v
				}
			}
		}

		r.Kind = Complaint
		r.FeedbackType = feedbackType(all["feedback-type"])
		r.UserAgent = structured(all["user-agent"])
		r.ReportingMTA = mtaName(all["reporting-mta"])
		r.SourceIP = structured(all["source-ip"])
		r.ReportedTo = structured(all["reported-domain"])
		r.OriginalEnvelopeID = all["original-envelope-id"]
		r.complainants(rcptTo(string(p.body)))

		return true
	}

	return r.bareComplaint(m)
}

// feedbackType returns the value of the field Feedback-Type. Older reports do not
// have it and are complaints.
func feedbackType(v string) string {
	v = keyword(v)
	if v == "" {
		return "abuse"
	}

	return v
}

// rcptTo returns the values of all fields Original-Rcpt-To and Removal-Recipient.
func rcptTo(report string) []string {
	var out []string
	for _, f := range unfolded(report) {
		name, v, _ := strings.Cut(f, ":")
		name = strings.TrimSpace(name)
		if !strings.EqualFold(name, "Original-Rcpt-To") && !strings.EqualFold(name, "Removal-Recipient") {
			continue
		}

		if a := addressOf(v); strings.Contains(a, "@") && len(out) < maxRecipients {
			out = append(out, a)
		}
	}

	return out
}

// unfolded returns the lines of a header, joined with their continuations (RFC 5322,
// section 2.2.3).
func unfolded(header string) []string {
	var out []string
	for line := range strings.Lines(header) {
		line = strings.TrimRight(line, "\r\n")

		last := len(out) - 1
		if last < 0 || line == "" || line[0] != ' ' && line[0] != '\t' {
			out = append(out, line)
		} else if len(out[last]) < maxFieldValue {
			out[last] += " " + strings.TrimSpace(line)
		}
	}

	return out
}

// complainants adds the recipients that the report names, or else those of the
// returned message.
func (r *Report) complainants(named []string) {
	if len(named) == 0 {
		h := returnedHeader(r.returned)
		for _, name := range []string{"x-hmxmroriginalrecipient", "x-original-to", "delivered-to", "to"} {
			named = addressIn.FindAllString(h[name], maxRecipients)
			if len(named) > 0 {
				break
			}
		}
	}

	seen := map[string]bool{}
	for _, a := range named {
		key := strings.ToLower(a)
		if !seen[key] {
			seen[key] = true
			r.add(Recipient{Kind: Complaint, Final: a})
		}
	}
}

// forwarders are the addresses from which providers forward messages that somebody
// complained about, without a report.
var forwarders = regexp.MustCompile(`^` + anyOf(
	`staff@hotmail\.com`, `feedback@arf\..+`, `(?:feedbackloop|fbl|complaints?|abuse-report|scomp)@.+`,
) + `$`)

// bareComplaint reads a message that a provider forwards without a report, attached
// to a mail that says nothing. Microsoft's JMRP adds X-HmXmrOriginalRecipient.
func (r *Report) bareComplaint(m *structure) bool {
	h := returnedHeader(r.returned)
	from := m.from()
	bare := !m.isForward() && m.isWordless()

	switch {
	case m.header.Has("X-HmXmrOriginalRecipient"):
		r.complainants(addressIn.FindAllString(m.get("X-HmXmrOriginalRecipient"), 1))
	case h["x-hmxmroriginalrecipient"] != "" && bare:
		r.complainants(addressIn.FindAllString(h["x-hmxmroriginalrecipient"], 1))
	case m.hasAttachedMessage() && forwarders.MatchString(from.local+"@"+from.host) && bare:
		r.complainants(nil)
	default:
		return false
	}

	r.Kind = Complaint
	r.FeedbackType = "abuse"

	return true
}

// standardWords are what providers write when they forward a message.
var standardWords = regexp.MustCompile(`(?i)^\s*` + anyOf(
	"this is an? (?:e-?mail |spam )*(?:abuse|spam) (?:report|complaint)",
	"complaint about message from",
	"an? (?:user|customer|subscriber)[^.?]{0,80} (?:complained|reported)",
))

// isWordless reports whether a mail says nothing of its own.
func (m *structure) isWordless() bool {
	text := strings.TrimSpace(m.text())

	return text == "" || standardWords.MatchString(text) && !strings.Contains(text, "?")
}

// hasAttachedMessage reports whether a whole message is attached.
func (m *structure) hasAttachedMessage() bool {
	for _, p := range m.parts {
		if p.is("message/rfc822", "message/global") {
			return true
		}
	}

	return false
}

// returnedHeader parses the header of the returned message leniently.
func returnedHeader(returned []byte) fields {
	head, _ := splitMessage(returned)
	if gs := groups(string(head)); len(gs) > 0 {
		return gs[0]
	}

	return fields{}
}

// returnedSubject returns the decoded subject of the returned message.
func returnedSubject(returned []byte) string {
	v := returnedHeader(returned)["subject"]
	if d, err := new(mime.WordDecoder).DecodeHeader(v); err == nil {
		v = d
	}

	return strings.TrimSpace(v)
}
