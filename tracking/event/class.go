package event

import "strings"

// SparkPost's bounce classes (reference, section 7).
const (
	ClassUndetermined     = 1
	ClassInvalidRecipient = 10
	ClassSoftBounce       = 20
	ClassDNSFailure       = 21
	ClassMailboxFull      = 22
	ClassTooLarge         = 23
	ClassTimeout          = 24
	ClassAdminFailure     = 25
	ClassNoRcpt           = 30
	ClassGenericBounce    = 40
	ClassMailBlock        = 50
	ClassSpamBlock        = 51
	ClassSpamContent      = 52
	ClassAttachment       = 53
	ClassRelayingDenied   = 54
	ClassAutoReply        = 60
	ClassTransientFailure = 70
	ClassSubscribe        = 80
	ClassUnsubscribe      = 90
	ClassChallengeReply   = 100
)

// KnownBounceClass tells whether a number is one of the classes.
func KnownBounceClass(n int) bool {
	switch n {
	case ClassUndetermined, ClassInvalidRecipient, ClassSoftBounce, ClassDNSFailure, ClassMailboxFull, ClassTooLarge, ClassTimeout, ClassAdminFailure, ClassNoRcpt, ClassGenericBounce, ClassMailBlock,
		ClassSpamBlock, ClassSpamContent, ClassAttachment, ClassRelayingDenied, ClassAutoReply, ClassTransientFailure, ClassSubscribe, ClassUnsubscribe, ClassChallengeReply:
		return true
	}
	return false
}

// bounceCategories maps PowerMTA's bounceCat names. No official mapping is
// published: this is ours.
var bounceCategories = map[string]int{
	"bad-mailbox": ClassInvalidRecipient, "inactive-mailbox": ClassInvalidRecipient, "bad-domain": ClassDNSFailure, "routing-errors": ClassDNSFailure,
	"quota-issues": ClassMailboxFull, "message-expired": ClassTimeout, "no-answer-from-host": ClassTimeout, "bad-connection": ClassTimeout,
	"bad-configuration": ClassAdminFailure, "protocol-errors": ClassAdminFailure, "invalid-sender": ClassMailBlock, "policy-related": ClassMailBlock,
	"spam-related": ClassSpamBlock, "content-related": ClassSpamContent, "virus-related": ClassAttachment, "relaying-issues": ClassRelayingDenied,
}

// hardCategories are those that speak of an address or a domain that is gone.
var hardCategories = map[string]bool{"bad-mailbox": true, "inactive-mailbox": true, "bad-domain": true}

// strongStatus are enhanced status codes (RFC 3463, RFC 7505), without their
// class, that say more than the words beside them usually do.
var strongStatus = map[string]verdict{
	"1.1": {ClassInvalidRecipient, true}, "1.2": {ClassDNSFailure, true}, "1.6": {ClassInvalidRecipient, true}, "1.10": {ClassInvalidRecipient, true},
	"2.2": {ClassMailboxFull, false}, "2.3": {ClassTooLarge, false}, "3.4": {ClassTooLarge, false}, "1.7": {ClassMailBlock, false}, "1.8": {ClassMailBlock, false},
}

// weakStatus are codes that servers give for many reasons: words come first.
var weakStatus = map[string]int{
	"1.3": ClassInvalidRecipient, "2.1": ClassInvalidRecipient, "3.1": ClassMailboxFull, "3.2": ClassAdminFailure, "3.5": ClassAdminFailure,
	"4.1": ClassTimeout, "4.2": ClassTimeout, "4.3": ClassDNSFailure, "4.4": ClassDNSFailure, "4.6": ClassAdminFailure, "4.7": ClassTimeout, "5.3": ClassTooLarge,
	"7.1": ClassMailBlock, "7.0": ClassMailBlock, "7.8": ClassMailBlock, "7.20": ClassMailBlock, "7.23": ClassMailBlock, "7.25": ClassMailBlock, "7.26": ClassMailBlock, "6.0": ClassSpamContent, "6.1": ClassSpamContent,
}

type verdict struct {
	class int
	hard  bool
}

// BounceClass is Classify without its second result.
func BounceClass(category, status, text string, own map[string]int) int {
	class, _ := Classify(category, status, text, own)
	return class
}

// Classify maps a category (the site's own names first), the status and the
// reply's text to SparkPost's class, in this order: the site's table, a text
// that says more than its category, PowerMTA's category, a status code that is
// seldom misused, the text, any status code. hard says that the address or its
// domain does not exist or no longer takes mail.
func Classify(category, status, text string, own map[string]int) (class int, hard bool) {
	category = strings.ToLower(strings.TrimSpace(category))
	if c, ok := own[category]; ok && category != "" {
		return c, c == ClassInvalidRecipient || c == ClassNoRcpt || c == ClassUnsubscribe
	}
	words := byWords(text)
	if c, ok := bounceCategories[category]; ok {
		if words.ok && (c == ClassMailBlock || c == ClassSpamBlock || c == ClassAdminFailure) {
			return words.class, words.hard
		}
		return c, hardCategories[category]
	}
	code, _, _ := strings.Cut(strings.TrimSpace(status), " ")
	_, detail, _ := strings.Cut(code, ".")
	temporary := strings.HasPrefix(code, "4.")
	strong, ok := strongStatus[detail]
	switch {
	case ok && !words.first:
		return strong.class, strong.hard && (!temporary || words.hard)
	case words.ok:
		return words.class, words.hard && !temporary
	}
	if c, ok := weakStatus[detail]; ok {
		return c, detail == "4.4" && strings.HasPrefix(code, "5.")
	}
	switch {
	case temporary || strings.HasPrefix(text, "4"):
		return ClassTransientFailure, false
	case strings.HasPrefix(code, "5.1"):
		return ClassInvalidRecipient, false
	case strings.HasPrefix(code, "5.2"):
		return ClassSoftBounce, false
	case strings.HasPrefix(code, "5."):
		return ClassGenericBounce, false
	}
	return ClassUndetermined, false
}
