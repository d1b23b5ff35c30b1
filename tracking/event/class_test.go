package event

import (
	"slices"
	"strings"
	"testing"
)

// TestBounceClasses has a case for every class.
func TestBounceClasses(t *testing.T) {
	own := map[string]int{"greylisted": ClassSoftBounce}
	for _, c := range []struct {
		category, status, text string
		want                   int
	}{
		{"", "", "", ClassUndetermined},
		{"bad-mailbox", "5.1.1", "550 5.1.1 no such user", ClassInvalidRecipient},
		{"", "5.1.1 (bad destination mailbox address)", "550 no", ClassInvalidRecipient},
		{"greylisted", "4.7.1", "451 greylisted", ClassSoftBounce},
		{"", "5.2.9", "550 no", ClassSoftBounce},
		{"bad-domain", "5.1.2", "x", ClassDNSFailure},
		{"quota-issues", "5.2.2", "552 over quota", ClassMailboxFull},
		{"", "5.3.4", "552 no", ClassTooLarge},
		{"message-expired", "4.4.7", "x", ClassTimeout},
		{"bad-configuration", "5.3.5", "x", ClassAdminFailure},
		{"", "5.5.0", "554 no valid recipients", ClassNoRcpt},
		{"", "5.9.9", "550 no", ClassGenericBounce},
		{"policy-related", "5.7.1", "550 5.7.1 no", ClassMailBlock},
		{"policy-related", "5.7.1", "550 5.7.1 listed at spamhaus.org", ClassSpamBlock},
		{"spam-related", "5.7.1", "550 identified as spam", ClassSpamContent},
		{"content-related", "5.6.0", "x", ClassSpamContent},
		{"virus-related", "5.7.1", "x", ClassAttachment},
		{"relaying-issues", "5.7.1", "x", ClassRelayingDenied},
		{"", "", "550 Relay access denied", ClassRelayingDenied},
		{"", "5.0.0", "vacation auto-reply", ClassAutoReply},
		{"", "4.9.9", "450 later", ClassTransientFailure},
		{"", "", "subscription confirmation", ClassSubscribe},
		{"", "", "user has unsubscribed", ClassUnsubscribe},
		{"", "", "challenge-response filter", ClassChallengeReply},
		{"other", "5.1.1", "550 5.1.1 no", ClassInvalidRecipient},
	} {
		if got := BounceClass(c.category, c.status, c.text, own); got != c.want {
			t.Errorf("%q %q %q: %d, want %d", c.category, c.status, c.text, got, c.want)
		}
	}
}

// TestWords: the index finds what looking for each word in turn would, and each
// word is long enough for it and in lower case.
func TestWords(t *testing.T) {
	for row, w := range bounceWords {
		for _, s := range w.any {
			if len(s) < 3 || s != strings.ToLower(s) {
				t.Errorf("word %q", s)
				continue
			}
			want := row
			for r := range row {
				if slices.ContainsFunc(bounceWords[r].any, func(o string) bool { return strings.Contains("xx "+s+" yy", o) }) {
					want = r
					break
				}
			}
			if got := indexed().first("xx " + s + " yy"); got != want {
				t.Errorf("%q: row %d, want %d", s, got, want)
			}
		}
	}
}
