package report

import (
	"encoding/json"
	"strings"
)

// notification is a notification of Amazon SES.
type notification struct {
	NotificationType string

	Bounce struct {
		BouncedRecipients []notified
	}
	Complaint struct {
		ComplaintFeedbackType string
		ComplainedRecipients  []notified
	}
	Delivery struct {
		Recipients   []string
		SMTPResponse string
	}
}

// notified is what a notification says of one recipient.
type notified struct {
	EmailAddress   string
	Action         string
	Status         string
	DiagnosticCode string
}

// sesNotification reads a notification that Amazon SES sends with SNS, which is JSON
// in the text of a mail.
func (r *Report) sesNotification(m *structure) bool {
	text := m.text()
	i := strings.IndexByte(text, '{')
	if i < 0 || !strings.Contains(text, "notificationType") {
		return false
	}

	// On the way lines are broken, even within strings.
	text = strings.NewReplacer("\n", "", "\r", "").Replace(text[i:])

	var n notification
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&n); err != nil {
		return false
	}

	switch n.NotificationType {
	case "Bounce":
		for _, b := range n.Bounce.BouncedRecipients {
			c := Recipient{
				Kind:       Bounce,
				Final:      b.EmailAddress,
				Status:     cleanStatus(b.Status),
				Diagnostic: typed(b.DiagnosticCode),
			}
			if b.Action == "delayed" {
				c.Kind = Delay
			}
			r.add(c)
		}
		r.setKind()
	case "Complaint":
		r.Kind = Complaint
		r.FeedbackType = n.Complaint.ComplaintFeedbackType
		if r.FeedbackType == "" {
			r.FeedbackType = "abuse"
		}
		for _, b := range n.Complaint.ComplainedRecipients {
			r.add(Recipient{Kind: Complaint, Final: b.EmailAddress})
		}
	case "Delivery":
		r.Kind = Delivered
		for _, a := range n.Delivery.Recipients {
			r.add(Recipient{Kind: Delivered, Final: a, Status: cleanStatus(n.Delivery.SMTPResponse)})
		}
	}

	return r.Kind != Other
}
