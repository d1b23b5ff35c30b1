package accounting

import "strings"

// SparkPost's bounce classes (reference, section 7).
const (
	Undetermined     = 1
	InvalidRecipient = 10
	SoftBounce       = 20
	DNSFailure       = 21
	MailboxFull      = 22
	TooLarge         = 23
	Timeout          = 24
	AdminFailure     = 25
	NoRcpt           = 30
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

// KnownClass tells whether a number is one of the classes.
func KnownClass(n int) bool {
	switch n {
	case Undetermined, InvalidRecipient, SoftBounce, DNSFailure, MailboxFull, TooLarge, Timeout, AdminFailure, NoRcpt, GenericBounce, MailBlock,
		SpamBlock, SpamContent, Attachment, RelayingDenied, AutoReply, TransientFailure, Subscribe, Unsubscribe, ChallengeReply:
		return true
	}
	return false
}

// categories maps PowerMTA's bounceCat names. No official mapping is
// published: this is ours.
var categories = map[string]int{
	"bad-mailbox": InvalidRecipient, "inactive-mailbox": InvalidRecipient, "bad-domain": DNSFailure, "routing-errors": DNSFailure,
	"quota-issues": MailboxFull, "message-expired": Timeout, "no-answer-from-host": Timeout, "bad-connection": Timeout,
	"bad-configuration": AdminFailure, "protocol-errors": AdminFailure, "invalid-sender": MailBlock, "policy-related": MailBlock,
	"spam-related": SpamBlock, "content-related": SpamContent, "virus-related": Attachment, "relaying-issues": RelayingDenied,
}

// words tell what an enhanced status code alone does not, in the reply's text.
var words = []struct {
	class int
	any   []string
}{
	{ChallengeReply, []string{"challenge-response", "challenge/response", "confirm your message"}},
	{AutoReply, []string{"auto-reply", "autoreply", "out of office", "vacation"}},
	{Unsubscribe, []string{"unsubscribed", "unsubscribe request"}},
	{Subscribe, []string{"subscription confirmation"}},
	{Attachment, []string{"attachment not allowed", "prohibited attachment", "banned file", "virus"}},
	{SpamContent, []string{"spam content", "spam message", "looks like spam", "content rejected", "identified as spam", "spam score"}},
	{SpamBlock, []string{"spamhaus", "blacklist", "blocklist", "blacklisted", "rbl", "dnsbl", "spamcop", "barracuda"}},
	{RelayingDenied, []string{"relaying denied", "relay access denied", "not permitted to relay", "unable to relay"}},
	{MailboxFull, []string{"over quota", "quota exceeded", "mailbox full", "mailbox is full", "insufficient storage"}},
	{TooLarge, []string{"message too large", "size limit", "exceeds maximum message size", "message size exceeds"}},
	{NoRcpt, []string{"no valid recipients"}},
	{InvalidRecipient, []string{"user unknown", "no such user", "unknown user", "does not exist", "mailbox unavailable", "invalid recipient", "recipient rejected", "no mailbox", "not a valid mailbox", "account is disabled"}},
	{DNSFailure, []string{"host not found", "domain not found", "no mx", "nxdomain", "dns failure", "bad destination system"}},
	{Timeout, []string{"timed out", "timeout", "connection refused", "no route to host"}},
}

// statusClasses maps enhanced status codes (RFC 3463), by X.Y.Z without its class.
var statusClasses = map[string]int{
	"1.1": InvalidRecipient, "1.2": DNSFailure, "1.3": InvalidRecipient, "1.6": InvalidRecipient, "1.10": InvalidRecipient, "1.8": MailBlock, "1.7": MailBlock,
	"2.1": InvalidRecipient, "2.2": MailboxFull, "2.3": TooLarge, "3.1": MailboxFull, "3.4": TooLarge, "3.2": AdminFailure, "3.5": AdminFailure,
	"4.1": Timeout, "4.2": Timeout, "4.3": DNSFailure, "4.4": DNSFailure, "4.6": AdminFailure, "4.7": Timeout, "5.3": TooLarge,
	"7.1": MailBlock, "7.0": MailBlock, "7.8": MailBlock, "7.20": MailBlock, "7.23": MailBlock, "7.25": MailBlock, "7.26": MailBlock, "6.0": SpamContent, "6.1": SpamContent,
}

// BounceClass maps a category (the site's own names first), the status and the
// reply's text to SparkPost's class, in this order: the site's table, a text
// that says more than its category, PowerMTA's category, the status code.
func BounceClass(category, status, text string, own map[string]int) int {
	category = strings.ToLower(strings.TrimSpace(category))
	if c, ok := own[category]; ok && category != "" {
		return c
	}
	byCategory, hasCategory := categories[category]
	if byText := classOfText(text); byText != 0 && (!hasCategory || byCategory == MailBlock || byCategory == SpamBlock || byCategory == AdminFailure) {
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
		return TransientFailure
	case strings.HasPrefix(code, "5.1"):
		return InvalidRecipient
	case strings.HasPrefix(code, "5.2"):
		return SoftBounce
	case strings.HasPrefix(code, "5."):
		return GenericBounce
	}
	return Undetermined
}

func classOfText(text string) int {
	text = strings.ToLower(text)
	for _, w := range words {
		for _, s := range w.any {
			if strings.Contains(text, s) {
				return w.class
			}
		}
	}
	return 0
}
