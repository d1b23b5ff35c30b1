// Package bounce maps what a receiving system says of a refusal to one of
// SparkPost's bounce classes.
//
// Classify asks the enhanced status code (RFC 3463) first and then the words of
// the reply. The words are in the files under words, one phrase a line. Names
// that somebody else chose are no words: addresses, host names, IP addresses,
// URLs, ids and quoted subjects are taken out of a reply before it is searched,
// and phrases match whole words only. Otherwise bachelor@example.com would be
// refused for its HELO.
//
// All functions are safe for concurrent use.
package bounce

import (
	"strings"
)

// SparkPost's bounce classes, as its documentation page "Bounce Classification
// Codes" lists them.
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

// Known reports whether a number is one of the classes.
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

// Verdict is what a refusal comes to.
type Verdict struct {
	Class int
	Hard  bool // the address or its domain does not exist or takes no mail any more
}

// Vague reports whether a verdict says no more than that mail was refused.
func (v Verdict) Vague() bool {
	switch v.Class {
	case 0, Undetermined, GenericBounce, TransientFailure, SoftBounce:
		return true
	}

	return false
}

// soften returns the verdict of a temporary failure: never hard, and of no class
// by which senders stop writing to an address.
func (v Verdict) soften() Verdict {
	if v.Class == InvalidRecipient || v.Class == NoRecipient || v.Class == Unsubscribe {
		v.Class = SoftBounce
	}
	v.Hard = false

	return v
}

// Refusal is what is known of one refused recipient.
type Refusal struct {
	Category  string         // PowerMTA's bounceCat; empty where there is none
	Status    string         // enhanced status code
	Text      string         // the receiving system's reply
	Recipient string         // whose local part is no word of the reply; may be empty
	Own       map[string]int // the site's own categories and their classes
}

// categories maps PowerMTA's bounceCat names. No official mapping is published.
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

// refusesDomain is the reply of a host that knows that a domain accepts no mail
// (RFC 7504, section 3).
const refusesDomain = "556"

// Classify maps a refusal to a class. It asks, in this order: the site's own
// category, a reply that says more than PowerMTA's category, that category, a
// status code that is seldom misused, the words of the reply, any status code,
// the reply code. A temporary failure is hard only where the reply itself says
// that the address is gone.
func Classify(r Refusal) Verdict {
	category := strings.ToLower(strings.TrimSpace(r.Category))
	if class, ok := r.Own[category]; ok && category != "" {
		return Verdict{class, class == InvalidRecipient || class == NoRecipient || class == Unsubscribe}
	}

	words := Words(r.Text, r.Recipient)
	if v, ok := categories[category]; ok {
		if words.Found && (v.Class == MailBlock || v.Class == SpamBlock || v.Class == AdminFailure) {
			return words.Verdict
		}

		return v
	}

	status, _, _ := strings.Cut(strings.TrimSpace(r.Status), " ")
	_, detail, _ := strings.Cut(status, ".")
	if words.Weak && strings.HasPrefix(detail, "7.") {
		words = Said{}
	}
	temporary := strings.HasPrefix(status, "4.") || status == "" && strings.HasPrefix(strings.TrimSpace(r.Text), "4")

	if v, ok := strongStatus[detail]; ok && !words.First && !(v.Hard && words.contradicts()) {
		if temporary && !(words.Found && words.Hard) {
			return v.soften()
		}

		return v
	}
	if words.Found {
		if temporary {
			return words.soften()
		}

		return words.Verdict
	}
	if v, ok := byStatus(detail); ok {
		if temporary {
			return v.soften()
		}

		return v
	}

	switch {
	case temporary:
		return Verdict{Class: TransientFailure}
	case strings.HasPrefix(strings.TrimSpace(r.Text), refusesDomain):
		return Verdict{Class: DNSFailure, Hard: true}
	case strings.HasPrefix(status, "5."):
		return Verdict{Class: GenericBounce}
	}

	return Verdict{Class: Undetermined}
}
