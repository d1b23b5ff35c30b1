package event

import (
	"strings"
	"sync"
)

// bounceWords tell what an enhanced status code alone does not, in the reply's
// text. The first row that fits counts: what is about the sender comes before
// what is about the recipient, and what is particular before what is general.
var bounceWords = []struct {
	verdict
	first bool // believed before any status
	any   []string
}{
	{verdict{ClassChallengeReply, false}, false, []string{"challenge-response", "challenge/response", "confirm your message"}},
	{verdict{ClassAutoReply, false}, false, []string{"auto-reply", "autoreply", "out of office", "vacation"}},
	{verdict{ClassUnsubscribe, true}, false, []string{"unsubscribed", "unsubscribe request"}},
	{verdict{ClassSubscribe, false}, false, []string{"subscription confirmation"}},
	{verdict{ClassMailBlock, false}, true, senderWords},
	{verdict{ClassMailBlock, false}, true, []string{"dmarc", "unauthenticated", "authentication checks failed", "authentication level", "spf fail", "spf check", "does not pass spf", "sender policy framework", "dkim", "mail authentication"}},
	{verdict{ClassMailBlock, false}, true, []string{"ptr record", "mismatches client ip", "no reverse", "reverse mapping", "valid reverse", "invalid rdns", "forward-confirmed", "cannot resolve your", "reverse dns", "rdns", "no ptr", "unverifyable sending ip", "reverse hostname", "reverse lookup", "missing ptr", "does not resolve to", "helo"}},
	{verdict{ClassAttachment, false}, false, []string{"attachment not allowed", "prohibited attachment", "banned file", "banned content", "virus", "infected", "malware", "dangerous attachment", "executable attachment"}},
	{verdict{ClassAdminFailure, false}, false, []string{"headers too large", "header too large", "line too long"}},
	{verdict{ClassTooLarge, false}, true, []string{"message too large", "message is too large", "message too big", "message is too big", "size limit", "exceeds maximum message size", "message size exceeds", "maximum message size", "exceeded the maximum", "exceeds the maximum", "exceeds size", "too large", "exceeds fixed"}},
	{verdict{ClassMailboxFull, false}, true, []string{"over quota", "overquota", "quota exceeded", "exceeded its quota", "exceeds quota", "exceeded quota", "disk quota", "user is over the quota", "mailbox full", "552 exceeded", "exceeding receiving limits", "exceeding their quota", "exceeding its mailbox quota", "boite du destinataire pleine", "boite pleine", "disc quota exceeded", "diskquota", "does not have enough space", "full mailbox", "mail file size exceeds", "mail quota exceeded", "mailbox exceeded", "mailbox has exceeded", "mailbox quota usage", "userdisk quota", "domaindisk quota", "no space left on device", "not enough disk space", "over the allowed quota", "quota violation", "reached disk quota", "would exceed maximum allowed storage", "disk space limit", "space has been used up", "exceeded mailbox quota", "has exceeded quota", "user has too many messages", "user over quota", "message quota", "mailbox quota", "quota full", "quota limit", "out of space", "has no space", "mailbox is over", "casella piena", "postfach ist voll", "buzón lleno", "mailbox is full", "mailfolder is full", "inbox is full", "account is full", "mailbox size limit", "insufficient storage", "not enough storage",
		"exceeded storage", "exceed mailbox", "out of storage", "mailbox exceeds", "too much mail", "no space left", "user's mailbox is over", "maildir over", "storage limit", "mailbox over"}},
	{verdict{ClassSpamBlock, false}, true, []string{"spamhaus", "blacklist", "blocklist", "block list", "blacklisted", " rbl", "rbl.", "dnsbl", "spamcop", "barracuda", "reputation", "blocked for abuse", "blocked for spam", "incident de spam", "sorbs", "abusive", "open proxy"}},
	{verdict{ClassSpamContent, false}, false, []string{"spam content", "spam classification", "spam filter", "junk mail", "spam mail", "spammy", "unwanted mail", "rejected due to spam", "message rejected due to content", "content filter", "suspected spam", "classified as", "contains spam", "spam", "junk", "spam message", "looks like spam", "content rejected", "identified as spam", "spam score", "considered spam", "as spam", "is spam", "- spam", "spam detected", "spam-like", "spamlike", "high probability of spam", "appears to be spam", "unsolicited", "mail rejete", "ofr_506", "message contains a virus or spam", "bulk mail", "uribl", "surbl"}},
	{verdict{ClassRelayingDenied, false}, true, []string{"relaying denied", "relay access denied", "not permitted to relay", "unable to relay", "relay not permitted", "relaying not allowed", "we do not relay", "insecure mail relay", "relaying mail to", "relay denied", "relaying is not", "no relaying", "cannot relay"}},
	{verdict{ClassDNSFailure, false}, false, []string{"unexpected name server reply", "temporary lookup failure", "name server timeout", "temporary name server", "dns timeout", "dns failure", "servfail"}},
	{verdict{ClassDNSFailure, true}, false, []string{"domain is not reachable", "nullmx", "an mx or srv record indicated no smtp service", "host does not accept mail", "domain does not accept mail", "host unknown", "domain must exist", "host unreachable", "mail domain mentioned in email address is unknown", "name or service not known", "unknown domain name", "the account or domain may not exist", "mail receiving disabled", "no host found for domain", "no such host", "unknown domain", "domain unknown", "non-existent domain", "nonexistent domain", "domain doesn't exist", "no mail exchanger", "couldn't find any mail", "no mail hosts", "mx lookup failed", "unknown host", "host not found", "domain not found", "nxdomain", "no such domain", "unrouteable address", "unrouteable mail domain", "unroutable address", "unroutable domain", "domain does not exist", "dns lookup failure", "bad destination system", "bad destination host",
		"couldn't find any host", "could not find any host", "no mx", "domain name not found", "name service error", "couldn't find a mail exchanger", "null mx", "no smtp service", "domain is not valid", "illegal host/domain", "not accepting network messages", "doesn't accept mail", "no longer accepts mail", "recipient domain must exist", "host or domain name not found", "domain isn't in my list of allowed"}},
	{verdict{ClassInvalidRecipient, true}, false, []string{"has moved", "user moved", "address has changed", "mailbox has moved", "no longer in use", "no longer valid", "no longer works", "no longer on server", "no longer available", "no longer with", "has been replaced", "changed address", "new address", "has retired"}},
	{verdict{ClassSoftBounce, false}, false, []string{"disabled", "account inactive", "boite du destinataire archivee", "user is terminated", "mailbox is frozen", "temporarily inactive", "suspend the service", "currently suspended", "user or domain is disabled", "account terminated", "has been blocked for inactivity", "extended inactivity", "not currently being accepted", "dormant", "frozen", "suspended", "inactive", "deactivated", "not active", "account has been locked", "account is locked", "mailbox unavailable or locked", "account locked", "temporarily locked", "temporary locked", "restricted", "expired account", "account expired", "on hold"}},
	{verdict{ClassNoRcpt, true}, false, []string{"no valid recipients"}},
	{verdict{ClassInvalidRecipient, true}, false, []string{"user unknown", "address invalid", "address not present in directory", "badrcptto", "can't accept user", "can not accept user", "destination address rejected", "rejected recipients", "email address does not", "email address could not be found", "is not a known user", "is not a valid mailbox", "mailbox invalid", "mailbox not present", "nessun utente", "no existe", "no mail box available", "no such address here", "no thank you rejected: account unavailable", "not a valid recipient", "not found in directory", "not known at this site", "permanent error: no such", "recipient address rejected: invalid user", "recipient address rejected: userunknown", "recipient is not accepted", "recipient is not local", "recipient not exist", "recipient not ok", "recipient refused", "envelope recipient has been denied", "isn't in my list of allowed rcpthosts", "the following recipients was undeliverable", "email name is not found", "email address is wrong", "badrecipientto", "validrcptto", "spectator does not exist", "unknown e-mail", "unknown email", "unknown mailbox", "missing home directory", "user not exist", "user not known", "utilisateur inconnu", "unknown virtual user", "envelope recipient is in my", "account doesn't exist", "account not found", "account is unavailable", "non-existent", "nonexistent", "not an active address", "not a valid user", "not a valid address", "no longer exists", "could not find your recipient", "address rejected: undeliverable", "undeliverable recipient", "rcpt to: invalid", "invalid final delivery", "not our user", "unknown to us", "does not have an account", "doesn't have an account", "user invalid", "recipient invalid", "not have a mailbox", "no such user", "unknown user", "user not found", "user doesn't exist", "user does not exist", "no such mailbox", "no such recipient", "no such person", "no such address", "does not exist", "doesn't exist", "invalid recipient", "recipient not found", "recipientnotfound", "recipnotfound", "recipient unknown", "unknown recipient", "recipient name is not recognized",
		"no mailbox", "not a valid mailbox", "mailbox not found", "mailbox unknown", "mailbox unavailable", "mailbox not available", "invalid mailbox", "unknown or illegal", "unknown address", "address unknown", "address not found", "address wasn't found", "wasn't found", "wasn’t found", "couldn't be found", "couldn’t be found", "could not be found", "invalid address", "bad destination mailbox", "bad address", "not our customer", "unknown local", "unknown account", "account unknown", "no account by", "invalid user",
		"not a known user", "not known here", "addressee unknown", "undeliverable address", "recipient address rejected: access denied", "recipient address rejected.", "#5.1.0 address rejected", "user doesn't have", "not listed in", "not a user", "user is unknown", "not a local", "mail address is invalid", "destination mailbox", "usuario desconocido", "usuario no existe", "unbekannt", "inconnu"}},
	{verdict{ClassMailBlock, false}, false, []string{"blocked", "network not allowed", "not accepting mail from", "connection refused by policy", "mail refused", "connection denied", "not welcome", "host not allowed", "server refused", "you are not allowed", "we don't accept", "listed in", "service not available", "protected by", "user rules", "denied by user", "message filtered", "refuse to receive", "refuses to receive", "by the recipient", "(bl)", "notauthorized", "access denied", "not allowed to connect", "client host rejected", "service refused", "service refuse", "refused to talk", "refused your message", "banned", "your ip", "denied", "policy", "not authorized", "not permitted", "forbidden", "prohibited", "dynamic ip", "rejected for", "invalid ip for sending", "permission to post", "refused by"}},
	{verdict{ClassTransientFailure, false}, false, []string{"too many", "unexpected volume", "over the limit", "sending rate", "come back later", "deferred", "resources temporarily unavailable", "connection limit", "concurrent connections", "slow down", "rate limit", "throttl", "try again later", "greylist", "graylist", "temporarily deferred", "daily relay quota", "too fast", "exceeded the limit"}},
	{verdict{ClassTimeout, false}, false, []string{"timed out", "giving up on", "message will be retried", "it has not been collected", "expired after", "server did not respond", "retry time not reached", "failing for a long time", "not reachable within", "after multiple retries", "delivery expired", "could not find a gateway", "queue.expired", "remote protocol error", "temporarily unable", "unable to contact", "could not connect", "couldn't connect", "cannot connect", "connection failed", "no connection", "connection closed", "host is down", "operation timed", "timeout", "connection refused", "no route to host", "host not reachable", "not reachable", "connection reset", "did not accept our requests to connect", "in the queue too long", "message expired", "delivery time expired", "retry timeout exceeded", "unable to connect", "lost connection", "connection dropped", "network is unreachable", "broken pipe", "socket error", "not yet been delivered", "could not be delivered for", "network error"}},
	{verdict{ClassAdminFailure, false}, false, []string{"system error", "internal error", "local error", "local configuration error", "loops back to myself", "too many hops", "mail loop", "system full", "system resources", "service unavailable", "configuration error", "duplicated message-id", "starttls", "syntax error", "insufficient system"}},
}

// senderWords speak of the sender's address, which is not the recipient's fault.
var senderWords = []string{"sender address rejected", "bouncedeny", "email address is on senderfilterconfig", "emetteur invalide", "empty envelope senders", "no third-party dsns", "fully qualified email address required", "is not a registered gateway user", "mail from not owned", "mailfrom domain is listed", "null sender", "batv", "rfc 1035 violation", "sender email address", "non-member to a members-only", "can't determine purported", "valid sender domain", "does not accept mail from", "not allowed to post", "unsigned dsn", "sending to/from an address", "email address is not verified", "identities failed the check", "this server does not accept mail from", "all recipient addresses rejected", "backscatter", "administrative prohibition", "sender rejected", "sender was rejected", "sender verify failed", "unroutable sender", "sender denied", "sender domain", "sender address", "sender unknown", "sender not", "invalid sender", "bad sender", "from: domain", "domain of sender", "return path", "envelope sender", "sender's", "from address", "sender is", "after mail from", "in reply to mail from", "recipient preferences", "recipient's preferences"}

// wordIndex finds the words of bounceWords in one pass over a text: by the
// first three bytes of each.
type wordIndex struct {
	maybe [1 << 10]uint64 // a bit for each hash that some word has
	words map[[3]byte][]indexedWord
}

type indexedWord struct {
	text string
	row  int
}

func hash3(a, b, c byte) uint16 { return uint16(a)<<8 ^ uint16(b)<<4 ^ uint16(c) }

var indexed = sync.OnceValue(func() *wordIndex {
	x := &wordIndex{words: map[[3]byte][]indexedWord{}}
	for row, w := range bounceWords {
		for _, s := range w.any {
			key := [3]byte{s[0], s[1], s[2]}
			x.words[key] = append(x.words[key], indexedWord{s, row})
			h := hash3(s[0], s[1], s[2])
			x.maybe[h>>6] |= 1 << (h & 63)
		}
	}
	return x
})

// first is the first row of which a word stands in the text, or -1.
func (x *wordIndex) first(text string) int {
	best := len(bounceWords)
	for i := 0; i+3 <= len(text) && best > 0; i++ {
		h := hash3(text[i], text[i+1], text[i+2])
		if x.maybe[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		for _, w := range x.words[[3]byte{text[i], text[i+1], text[i+2]}] {
			if w.row < best && strings.HasPrefix(text[i:], w.text) {
				best = w.row
			}
		}
	}
	if best == len(bounceWords) {
		return -1
	}
	return best
}

// said is what words make of a text.
type said struct {
	verdict
	ok    bool
	first bool // believed before any status
}

func byWords(text string) said {
	row := indexed().first(strings.ToLower(text))
	if row < 0 {
		return said{}
	}
	w := bounceWords[row]
	return said{verdict: w.verdict, ok: true, first: w.first}
}
