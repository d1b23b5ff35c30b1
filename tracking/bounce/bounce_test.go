package bounce

import (
	"slices"
	"strings"
	"testing"
)

// TestClassify has a case for every class, and for each step of the order in
// which a refusal's parts are asked.
func TestClassify(t *testing.T) {
	own := map[string]int{"greylisted": SoftBounce}
	for _, c := range []struct {
		category, status, text string
		want                   int
	}{
		{"", "", "", Undetermined},
		{"bad-mailbox", "5.1.1", "550 5.1.1 no such user", InvalidRecipient},
		{"", "5.1.1 (bad destination mailbox address)", "550 no", InvalidRecipient},
		{"greylisted", "4.7.1", "451 greylisted", SoftBounce},
		{"", "5.2.9", "550 no", SoftBounce},
		{"bad-domain", "5.1.2", "x", DNSFailure},
		{"quota-issues", "5.2.2", "552 over quota", MailboxFull},
		{"", "5.3.4", "552 no", TooLarge},
		{"message-expired", "4.4.7", "x", Timeout},
		{"bad-configuration", "5.3.5", "x", AdminFailure},
		{"", "5.5.0", "554 no valid recipients", NoRecipient},
		{"", "5.9.9", "550 no", GenericBounce},
		{"policy-related", "5.7.1", "550 5.7.1 no", MailBlock},
		{"policy-related", "5.7.1", "550 5.7.1 listed at spamhaus.org", SpamBlock},
		{"spam-related", "5.7.1", "550 identified as spam", SpamContent},
		{"content-related", "5.6.0", "x", SpamContent},
		{"virus-related", "5.7.1", "x", Attachment},
		{"relaying-issues", "5.7.1", "x", RelayingDenied},
		{"", "", "550 Relay access denied", RelayingDenied},
		{"", "5.0.0", "vacation auto-reply", AutoReply},
		{"", "4.9.9", "450 later", TransientFailure},
		{"", "", "subscription confirmation", Subscribe},
		{"", "", "user has unsubscribed", Unsubscribe},
		{"", "", "challenge-response filter", ChallengeReply},
		{"other", "5.1.1", "550 5.1.1 no", InvalidRecipient},
	} {
		t.Run(c.category+" "+c.status+" "+c.text, func(t *testing.T) {
			if got := Classify(Refusal{Category: c.category, Status: c.status, Text: c.text, Own: own}); got.Class != c.want {
				t.Errorf("got %+v, want class %d", got, c.want)
			}
		})
	}
}

// TestClassifyReadsNoNames: what stands in an address, a host name, a URL, an
// id or a quoted subject is not a word of the server.
func TestClassifyReadsNoNames(t *testing.T) {
	gone, vague := Verdict{InvalidRecipient, true}, Verdict{MailBlock, false}
	for _, c := range []struct {
		name, category, status, text, recipient string
		want                                    Verdict
	}{
		{"HELO in a local part", "", "5.1.1", "550 5.1.1 <bachelor@example.com>: Recipient address rejected: User unknown", "", gone},
		{"and of accounting", "other", "5.1.1", "550 5.1.1 bachelor@example.com unknown", "", gone},
		{"a local part alone", "", "5.1.1", "550 5.1.1 helo: user unknown", "helo@example.com", gone},
		{"a local part of common words", "", "5.1.1", "550 5.1.1 user unknown", "user@example.com", gone},
		{"a quoted local part", "", "5.1.1", `550 5.1.1 <"no such helo, quota exceeded"@example.com> unknown`, "", gone},
		{"a blocklist in a domain", "", "5.1.1", "550 5.1.1 <info@absorbs.example> no", "", gone},
		{"spam in a domain", "", "", "550 <bob@nospam.example> no such user here", "", gone},
		{"disabled in a domain", "", "", "550 <bob@disabled.example> no such user here", "", gone},
		{"a word in an address of letters beyond ASCII", "", "5.1.1", "550 5.1.1 <böb.helo@bücher.example> no", "", gone},
		{"an address literal", "", "5.1.1", "550 5.1.1 <helo@[192.0.2.1]> no", "", gone},
		{"Barracuda's host", "", "", "host d1.ess.barracudanetworks.com [192.0.2.1] said: 550 5.1.1 No such user here", "", gone},
		{"a spam filter's host", "", "", "host mx.antispamcloud.com [192.0.2.1]: 550 No such user here", "", gone},
		{"a host with a port", "", "", "host mx1.spam.example:25 said: 550 No such user here", "", gone},
		{"a host without a domain", "", "", "host spam[192.0.2.1] said: 550 No such user here", "", gone},
		{"a blocklist's own mail", "", "", "host mx.spamhaus.org[192.0.2.1] said: 550 5.1.1 <a@spamhaus.org>: user unknown", "", gone},
		{"an id", "", "5.1.1", "550 5.1.1 no (helo-2026-1124-xyz)", "", gone},
		{"a word in a URL", "spam-related", "5.7.1", "550 message blocked, see https://example.com/does%20not%20exist", "", vague},
		{"a phrase in a URL", "spam-related", "5.7.1", "550 message blocked, see https://example.com/does-not-exist/user-unknown", "", vague},
		{"a URL behind a colon", "spam-related", "5.7.1", "550 message blocked:http://example.com/user-unknown", "", vague},
		{"a URL without a scheme", "", "5.7.1", "550 message blocked www.example.com/user-unknown", "", vague},
		{"a quoted subject", "", "5.7.1", `550 5.7.1 message with subject "Our store has moved" blocked`, "", vague},
		{"a subject in parentheses", "", "5.7.1", "554 5.7.1 The message with the subject of (Our user unknown sale) is blocked", "", vague},
		{"a subject in a line", "", "5.7.1", "550 5.7.1 blocked\nSubject: This user does not exist", "", vague},
		{"words at their boundaries", "", "5.7.1", "550 5.7.1 blocked by shelob", "", vague},
		{"a blocklist that is named", "", "5.7.1", "550 5.7.1 blocked using zen.spamhaus.org", "", Verdict{SpamBlock, false}},
		{"a blocklist's page", "", "5.7.1", "550 5.7.1 https://www.spamhaus.org/query/ip/192.0.2.1", "", Verdict{SpamBlock, false}},
		{"a line that goes on", "", "", "550-5.1.1 The account that you tried to reach does not\n550-5.1.1 exist. Please try", "", gone},
		{"Exchange's names of errors", "", "", "550 RESOLVER.ADR.RecipNotFound; not found", "", gone},
		{"words without spaces", "", "", "550 MailboxNotFound", "", gone},
		{"words with underscores", "", "", "550 user_unknown", "", gone},
		{"two sentences without a space", "", "", "550 User unknown.Please check the address", "", gone},
		{"typographic apostrophes", "", "", "550 user doesn’t exist", "", gone},
		{"accents", "", "", "550 Boîte pleine", "", Verdict{MailboxFull, false}},
		{"an IPv6 address", "", "5.1.1", "550 5.1.1 [2001:db8::dead] no", "", gone},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Refusal{Category: c.category, Status: c.status, Text: c.text, Recipient: c.recipient}
			if got := Classify(r); got != c.want {
				t.Errorf("%q: got %+v, want %+v", normalize(c.text, ""), got, c.want)
			}
		})
	}
}

// TestLists holds the word lists to what the index needs, and finds each phrase
// again in a text.
func TestLists(t *testing.T) {
	seen := map[string]string{}
	for i, l := range lists {
		lines := phrasesOf(l.file)
		if !slices.IsSorted(lines) {
			t.Errorf("%s is not sorted", l.file)
		}

		for _, line := range lines {
			bare := strings.TrimSuffix(line, "*")
			if len(normalize(bare, "")) < minPhrase {
				t.Errorf("%s: %q is too short", l.file, line)
			}
			if other := seen[line]; other != "" {
				t.Errorf("%q is in %s and in %s", line, other, l.file)
			}
			seen[line] = l.file

			got, _ := indexed().first(normalize("550 "+bare+" yy", ""))
			if got < 0 || got > i {
				t.Errorf("%s: %q is not found: %d", l.file, line, got)
			}
		}
	}
}

// TestLongReply: a reply costs no more than its bounded beginning.
func TestLongReply(t *testing.T) {
	for _, unit := range []string{"a@", "@", "subject ", `subject: "`, "http://", "(", "-", "host [", "x.", "ß", "'"} {
		t.Run(unit, func(t *testing.T) {
			if n := len(normalize(strings.Repeat(unit, 2<<20/len(unit)), "")); n > 3*maxText {
				t.Errorf("%d bytes of words", n)
			}
		})
	}
}

func BenchmarkClassify(b *testing.B) {
	text := "550 5.9.9 mx.example.com: something that nobody ever wrote about <someone@example.com>, see https://example.com/x"
	b.ReportAllocs()
	for b.Loop() {
		Classify(Refusal{Category: "other", Status: "4.9.9", Text: text})
	}
}

// FuzzClassify: a class is always one of the known ones, and another recipient
// in place of the one that a reply names changes nothing.
func FuzzClassify(f *testing.F) {
	f.Add("5.1.1", "550 5.1.1 ", " user unknown")
	f.Add("", "host mx.example.com[192.0.2.1] said: 550 <", ">: mailbox full (in reply to RCPT TO)")
	f.Add("5.0.0", "Subject: \"", "\" is spam")
	f.Fuzz(func(t *testing.T, status, before, behind string) {
		if len(before)+len(behind) > maxText-64 || strings.ContainsAny(before+behind, `"`) {
			return
		}

		var got []Verdict
		for _, recipient := range []string{"bob@b.example", "no-such-user.helo+spam@spamhaus.blocklist.example"} {
			v := Classify(Refusal{Status: status, Text: before + " <" + recipient + "> " + behind})
			if !Known(v.Class) {
				t.Fatalf("class %d", v.Class)
			}
			got = append(got, v)
		}
		if got[0] != got[1] {
			t.Errorf("%q %q: %+v and %+v", before, behind, got[0], got[1])
		}
	})
}
