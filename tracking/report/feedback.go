package report

import (
	"encoding/json"
	"strings"
)

// feedback reads a feedback report (RFC 5965), or what providers send in its
// place: Microsoft's JMRP forwards the message bare, with X-HmXmrOriginalRecipient.
func (r *Report) feedback(m *structure) bool {
	for _, p := range m.parts {
		if !p.is("message/feedback-report", "text/feedback-report") {
			continue
		}
		r.Kind = Complaint
		all := fields{}
		for _, g := range groups(string(p.body)) {
			for k, v := range g {
				if all[k] == "" {
					all[k] = v
				}
			}
		}
		r.FeedbackType = strings.ToLower(all["feedback-type"])
		if r.FeedbackType == "" {
			r.FeedbackType = "abuse"
		}
		r.UserAgent, r.ReportingMTA, r.SourceIP = all["user-agent"], typed(all["reporting-mta"]), all["source-ip"]
		r.ReportedTo = all["reported-domain"]
		r.OriginalEnvelopeID = all["original-envelope-id"]
		r.complainants(rcptTo(string(p.body)))
		return true
	}
	return r.bareComplaint(m)
}

// rcptTo gives every Original-Rcpt-To, of which there may be several.
func rcptTo(report string) []string {
	var out []string
	for line := range strings.Lines(report) {
		name, v, ok := strings.Cut(line, ":")
		if ok && (strings.EqualFold(strings.TrimSpace(name), "Original-Rcpt-To") || strings.EqualFold(strings.TrimSpace(name), "Removal-Recipient")) {
			if a := addressOf(v); strings.Contains(a, "@") {
				out = append(out, a)
			}
		}
	}
	return out
}

// complainants adds those that the report names, else whom the message went to.
func (r *Report) complainants(named []string) {
	if len(named) == 0 {
		h := returnedHeader(r.returned)
		for _, name := range []string{"x-hmxmroriginalrecipient", "x-original-to", "delivered-to", "to"} {
			if named = addressIn.FindAllString(h[name], maxRecipients); len(named) > 0 {
				break
			}
		}
	}
	seen := map[string]bool{}
	for _, a := range named {
		if !seen[strings.ToLower(a)] {
			seen[strings.ToLower(a)] = true
			r.add(Recipient{Kind: Complaint, Final: a})
		}
	}
}

// bareComplaint knows the providers that forward the message without a report.
func (r *Report) bareComplaint(m *structure) bool {
	from := strings.ToLower(m.get("From"))
	h := returnedHeader(r.returned)
	switch {
	case m.header.Has("X-HmXmrOriginalRecipient"):
		r.complainants(addressIn.FindAllString(m.get("X-HmXmrOriginalRecipient"), 1))
	case h["x-hmxmroriginalrecipient"] != "":
		r.complainants(addressIn.FindAllString(h["x-hmxmroriginalrecipient"], 1))
	case r.returned != nil && (strings.Contains(from, "staff@hotmail.com") || strings.Contains(from, "feedbackloop@") || strings.Contains(from, "feedback@arf.") || strings.Contains(from, "complaints@") || strings.Contains(from, "fbl@")) && !fromDaemon(m):
		r.complainants(nil)
	default:
		return false
	}
	r.Kind, r.FeedbackType = Complaint, "abuse"
	return true
}

// returnedHeader reads the header of the returned message, leniently.
func returnedHeader(returned []byte) fields {
	head, _ := splitMessage(returned)
	if gs := groups(string(head)); len(gs) > 0 {
		return gs[0]
	}
	return fields{}
}

// sesNotification reads what Amazon SES sends by way of SNS: JSON in a text.
func (r *Report) sesNotification(m *structure) bool {
	text := m.text()
	i := strings.IndexByte(text, '{')
	if i < 0 || !strings.Contains(text, "notificationType") {
		return false
	}
	// Line ends come in on the way, even inside of strings.
	text = strings.NewReplacer("\n", "", "\r", "").Replace(text[i:])
	type bounced struct {
		EmailAddress, Action, Status, DiagnosticCode string
	}
	var n struct {
		NotificationType string
		Bounce           struct {
			BounceType        string
			BouncedRecipients []bounced
		}
		Complaint struct {
			ComplaintFeedbackType string
			ComplainedRecipients  []bounced
		}
		Delivery struct{ Recipients []string }
	}
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&n); err != nil {
		return false
	}
	switch n.NotificationType {
	case "Bounce":
		for _, b := range n.Bounce.BouncedRecipients {
			c := Recipient{Kind: Bounce, Final: b.EmailAddress, Status: cleanStatus(b.Status), Diagnostic: typed(b.DiagnosticCode)}
			if b.Action == "delayed" {
				c.Kind = Delay
			}
			r.add(c)
		}
		r.setKind()
	case "Complaint":
		r.Kind, r.FeedbackType = Complaint, n.Complaint.ComplaintFeedbackType
		if r.FeedbackType == "" {
			r.FeedbackType = "abuse"
		}
		for _, b := range n.Complaint.ComplainedRecipients {
			r.add(Recipient{Kind: Complaint, Final: b.EmailAddress})
		}
	case "Delivery":
		r.Kind = Delivered
		for _, a := range n.Delivery.Recipients {
			r.add(Recipient{Kind: Delivered, Final: a})
		}
	}
	return r.Kind != Other
}
