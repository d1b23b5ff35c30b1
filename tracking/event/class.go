package event

import classes "postern/tracking/bounce"

// SparkPost's bounce classes; package bounce tells them apart.
const (
	ClassUndetermined     = classes.Undetermined
	ClassInvalidRecipient = classes.InvalidRecipient
	ClassSoftBounce       = classes.SoftBounce
	ClassDNSFailure       = classes.DNSFailure
	ClassMailboxFull      = classes.MailboxFull
	ClassTooLarge         = classes.TooLarge
	ClassTimeout          = classes.Timeout
	ClassAdminFailure     = classes.AdminFailure
	ClassNoRcpt           = classes.NoRecipient
	ClassGenericBounce    = classes.GenericBounce
	ClassMailBlock        = classes.MailBlock
	ClassSpamBlock        = classes.SpamBlock
	ClassSpamContent      = classes.SpamContent
	ClassAttachment       = classes.Attachment
	ClassRelayingDenied   = classes.RelayingDenied
	ClassAutoReply        = classes.AutoReply
	ClassTransientFailure = classes.TransientFailure
	ClassSubscribe        = classes.Subscribe
	ClassUnsubscribe      = classes.Unsubscribe
	ClassChallengeReply   = classes.ChallengeReply
)

// KnownBounceClass reports whether a number is one of the classes.
func KnownBounceClass(n int) bool { return classes.Known(n) }

// BounceClass is Classify without its second result.
func BounceClass(category, status, text string, own map[string]int) int {
	class, _ := Classify(category, status, text, own)

	return class
}

// Classify maps a category (the site's own names first), the status and the
// reply's text to a bounce class, as bounce.Classify does. hard says that the
// address or its domain does not exist or takes no mail any more.
func Classify(category, status, text string, own map[string]int) (class int, hard bool) {
	v := classes.Classify(classes.Refusal{Category: category, Status: status, Text: text, Own: own})

	return v.Class, v.Hard
}
