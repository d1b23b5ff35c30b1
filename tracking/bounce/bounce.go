// Package bounce classifies refusals: it maps what a receiving system replied to
// one of SparkPost's bounce classes.
//
// Classify uses the enhanced status code (RFC 3463) and the words of the reply.
// Phrases to look for are in the files under words, one a line. Before a reply is
// searched, names that somebody else chose are removed from it: addresses, host
// names, IP addresses, URLs, ids and quoted subjects. Phrases match whole words
// only. Otherwise bachelor@example.com would be refused for its HELO.
//
// All functions are safe for concurrent use.
package bounce

import (
	"strings"
)

// SparkPost's bounce classes, as listed on the page "Bounce Classification Codes"
// of its documentation.
const (
	Undetermined     = 1
	InvalidRecipient = 10
	SoftBounce       = 20
	DNSFailure       = 21
	MailboxFull      = 22
	TooLarge         = 23
	Timeout          = 24
	AdminFailure     = 25
	NoRecipient      = 30
	GenericBounce    = 40
	MailBlock        = 50
	SpamBlock        = 51
	SpamContent      = 52
	Attachment       = 53
	RelayingDenied   = 54
	AutoReply        = 60
	TransientFailure = 70
	Subscribe        = 80
	Unsubscribe      = 90
	ChallengeReply   = 100
)

// Known reports whether class is one of the classes.
func Known(class int) bool {
	switch class {
	case Undetermined,
		InvalidRecipient,
		SoftBounce, DNSFailure, MailboxFull, TooLarge, Timeout, AdminFailure,
		NoRecipient,
		GenericBounce,
		MailBlock, SpamBlock, SpamContent, Attachment, RelayingDenied,
		AutoReply,
		TransientFailure,
		Subscribe,
		Unsubscribe,
		ChallengeReply:
		return true
	}

	return false
}

// Verdict is the result of classifying a refusal.
type Verdict struct {
	Class int
	Hard  bool // the address or its domain does not exist, or accepts no mail any more
}

// Vague reports whether the verdict says no more than that mail was refused.
func (v Verdict) Vague() bool {
	switch v.Class {
	case 0, Undetermined, GenericBounce, TransientFailure, SoftBounce:
		return true
	}

	return false
}

// soften returns the verdict as that of a temporary failure, which is never hard
// and never of a class for which senders stop writing to an address.
func (v Verdict) soften() Verdict {
	if isHard(v.Class) {
		v.Class = SoftBounce
	}
	v.Hard = false

	return v
}

// Refusal is what is known of the refusal of one recipient. All fields may be
// empty.
type Refusal struct {
	Category  string         // PowerMTA's bounceCat
	Status    string         // enhanced status code
	Text      string         // reply of the receiving system
	Recipient string         // address; its local part is not a word of the reply
	Own       map[string]int // classes of the site's own categories
}

// categories maps PowerMTA's bounce categories (User's Guide 5.0, bounceCat).
// No mapping of them to SparkPost's classes is published.
var categories = map[string]Verdict{
	"bad-configuration":   {AdminFailure, false},
	"bad-connection":      {Timeout, false},
	"bad-domain":          {DNSFailure, true},
	"bad-mailbox":         {InvalidRecipient, true},
	"content-related":     {SpamContent, false},
	"inactive-mailbox":    {InvalidRecipient, true},
	"invalid-sender":      {MailBlock, false},
	"message-expired":     {Timeout, false},
	"no-answer-from-host": {Timeout, false},
	"policy-related":      {MailBlock, false},
	"protocol-errors":     {AdminFailure, false},
	"quota-issues":        {MailboxFull, false},
	"relaying-issues":     {RelayingDenied, false},
	"routing-errors":      {DNSFailure, false},
	"spam-related":        {SpamBlock, false},
	"virus-related":       {Attachment, false},
}

// refusesDomain is the reply code of a host that knows that a domain does not
// accept mail (RFC 7504, section 3).
const refusesDomain = "556"

// Classify returns the class of a refusal. In this order, it uses:
//
//   - the site's own category,
//   - a reply that says more than PowerMTA's category, or else that category,
//   - a status code that is seldom misused,
//   - the words of the reply,
//   - any other status code,
//   - the reply code.
//
// A temporary failure is hard only if the reply itself says that the address does
// not exist.
func Classify(r Refusal) Verdict {
	category := strings.ToLower(strings.TrimSpace(r.Category))
	if class, ok := r.Own[category]; ok && category != "" {
		return Verdict{Class: class, Hard: isHard(class)}
	}

	words := Words(r.Text, r.Recipient)
	if v, ok := categories[category]; ok {
		if words.Found && v.isGeneral() {
			return words.Verdict
		}

		return v
	}

	return newReply(r).classify(words)
}

// isHard reports whether senders stop writing to addresses of a class.
func isHard(class int) bool {
	return class == InvalidRecipient || class == NoRecipient || class == Unsubscribe
}

// isGeneral reports whether PowerMTA uses the category of a verdict for many
// reasons.
func (v Verdict) isGeneral() bool {
	return v.Class == MailBlock || v.Class == SpamBlock || v.Class == AdminFailure
}

// reply is what a server answered, apart from its words.
type reply struct {
	text      string // without leading space
	status    string // enhanced status code (RFC 3463)
	detail    string // status without its class: 1.1
	temporary bool
}

// newReply returns the reply of a refusal.
func newReply(r Refusal) reply {
	text := strings.TrimSpace(r.Text)
	status, _, _ := strings.Cut(strings.TrimSpace(r.Status), " ")
	_, detail, _ := strings.Cut(status, ".")

	return reply{
		text:      text,
		status:    status,
		detail:    detail,
		temporary: strings.HasPrefix(status, "4.") || status == "" && strings.HasPrefix(text, "4"),
	}
}

// classify returns the class of a reply with these words.
func (r reply) classify(words Said) Verdict {
	if words.Weak && strings.HasPrefix(r.detail, "7.") {
		words = Said{}
	}

	strong, isStrong := strongStatus[r.detail]
	if isStrong && !words.First && !(strong.Hard && words.contradicts()) {
		if words.Found && words.Hard {
			return strong
		}

		return r.soften(strong)
	}

	if words.Found {
		return r.soften(words.Verdict)
	}
	if v, ok := byStatus(r.detail); ok {
		return r.soften(v)
	}

	return r.byCode()
}

// soften returns the verdict of a permanent failure as it is, and softens that of
// a temporary one.
func (r reply) soften(v Verdict) Verdict {
	if r.temporary {
		return v.soften()
	}

	return v
}

// byCode returns the class of a reply of which only the code is understood.
func (r reply) byCode() Verdict {
	switch {
	case r.temporary:
		return Verdict{Class: TransientFailure}
	case strings.HasPrefix(r.text, refusesDomain):
		return Verdict{Class: DNSFailure, Hard: true}
	case strings.HasPrefix(r.status, "5."):
		return Verdict{Class: GenericBounce}
	}

	return Verdict{Class: Undetermined}
}
