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

// bounceWords tell what an enhanced status code alone does not, in the reply's text.
var bounceWords = []struct {
	class int
	any   []string
}{
	{ClassChallengeReply, []string{"challenge-response", "challenge/response", "confirm your message"}},
	{ClassAutoReply, []string{"auto-reply", "autoreply", "out of office", "vacation"}},
	{ClassUnsubscribe, []string{"unsubscribed", "unsubscribe request"}},
	{ClassSubscribe, []string{"subscription confirmation"}},
	{ClassAttachment, []string{"attachment not allowed", "prohibited attachment", "banned file", "virus"}},
	{ClassSpamContent, []string{"spam content", "spam message", "looks like spam", "content rejected", "identified as spam", "spam score"}},
	{ClassSpamBlock, []string{"spamhaus", "blacklist", "blocklist", "blacklisted", "rbl", "dnsbl", "spamcop", "barracuda"}},
	{ClassRelayingDenied, []string{"relaying denied", "relay access denied", "not permitted to relay", "unable to relay"}},
	{ClassMailboxFull, []string{"over quota", "quota exceeded", "mailbox full", "mailbox is full", "insufficient storage"}},
	{ClassTooLarge, []string{"message too large", "size limit", "exceeds maximum message size", "message size exceeds"}},
	{ClassNoRcpt, []string{"no valid recipients"}},
	{ClassInvalidRecipient, []string{"user unknown", "no such user", "unknown user", "does not exist", "mailbox unavailable", "invalid recipient", "recipient rejected", "no mailbox", "not a valid mailbox", "account is disabled"}},
	{ClassDNSFailure, []string{"host not found", "domain not found", "no mx", "nxdomain", "dns failure", "bad destination system"}},
	{ClassTimeout, []string{"timed out", "timeout", "connection refused", "no route to host"}},
}

// statusClasses maps enhanced status codes (RFC 3463), by X.Y.Z without its class.
var statusClasses = map[string]int{
	"1.1": ClassInvalidRecipient, "1.2": ClassDNSFailure, "1.3": ClassInvalidRecipient, "1.6": ClassInvalidRecipient, "1.10": ClassInvalidRecipient, "1.8": ClassMailBlock, "1.7": ClassMailBlock,
	"2.1": ClassInvalidRecipient, "2.2": ClassMailboxFull, "2.3": ClassTooLarge, "3.1": ClassMailboxFull, "3.4": ClassTooLarge, "3.2": ClassAdminFailure, "3.5": ClassAdminFailure,
	"4.1": ClassTimeout, "4.2": ClassTimeout, "4.3": ClassDNSFailure, "4.4": ClassDNSFailure, "4.6": ClassAdminFailure, "4.7": ClassTimeout, "5.3": ClassTooLarge,
	"7.1": ClassMailBlock, "7.0": ClassMailBlock, "7.8": ClassMailBlock, "7.20": ClassMailBlock, "7.23": ClassMailBlock, "7.25": ClassMailBlock, "7.26": ClassMailBlock, "6.0": ClassSpamContent, "6.1": ClassSpamContent,
}

// BounceClass maps a category (the site's own names first), the status and the
// reply's text to SparkPost's class, in this order: the site's table, a text
// that says more than its category, PowerMTA's category, the status code.
func BounceClass(category, status, text string, own map[string]int) int {
	category = strings.ToLower(strings.TrimSpace(category))
	if c, ok := own[category]; ok && category != "" {
		return c
	}
	byCategory, hasCategory := bounceCategories[category]
	if byText := classOfText(text); byText != 0 && (!hasCategory || byCategory == ClassMailBlock || byCategory == ClassSpamBlock || byCategory == ClassAdminFailure) {
		return byText
	}
	if hasCategory {
		return byCategory
	}
	code, _, _ := strings.Cut(strings.TrimSpace(status), " ")
	temporary := strings.HasPrefix(code, "4.") || strings.HasPrefix(text, "4")
	if len(code) > 2 {
		if c, ok := statusClasses[code[2:]]; ok {
			return c
		}
	}
	switch {
	case temporary:
		return ClassTransientFailure
	case strings.HasPrefix(code, "5.1"):
		return ClassInvalidRecipient
	case strings.HasPrefix(code, "5.2"):
		return ClassSoftBounce
	case strings.HasPrefix(code, "5."):
		return ClassGenericBounce
	}
	return ClassUndetermined
}

func classOfText(text string) int {
	text = strings.ToLower(text)
	for _, w := range bounceWords {
		for _, s := range w.any {
			if strings.Contains(text, s) {
				return w.class
			}
		}
	}
	return 0
}
