package bounce

import (
	"slices"
	"testing"
)

// TestClasses holds SparkPost's numbers, by which senders' systems choose.
func TestClasses(t *testing.T) {
	got := []int{
		Undetermined, InvalidRecipient, SoftBounce, DNSFailure, MailboxFull,
		TooLarge, Timeout, AdminFailure, NoRecipient, GenericBounce, MailBlock,
		SpamBlock, SpamContent, Attachment, RelayingDenied, AutoReply,
		TransientFailure, Subscribe, Unsubscribe, ChallengeReply,
	}
	want := []int{1, 10, 20, 21, 22, 23, 24, 25, 30, 40, 50, 51, 52, 53, 54, 60, 70, 80, 90, 100}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	for n := range 110 {
		if known := Known(n); known != slices.Contains(want, n) {
			t.Errorf("%d is known: %v", n, known)
		}
	}
}

// TestClassifyReturnsHard holds which verdicts mean that the address is gone.
func TestClassifyReturnsHard(t *testing.T) {
	own := map[string]int{"ours": SpamBlock}
	for _, c := range []struct {
		category, status, text string
		want                   Verdict
	}{
		{"bad-mailbox", "5.1.1", "550 5.1.1 no such user", Verdict{Class: InvalidRecipient, Hard: true}},
		{"quota-issues", "", "", Verdict{Class: MailboxFull}},
		{"ours", "", "", Verdict{Class: SpamBlock}},
		{"", "5.1.1", "", Verdict{Class: InvalidRecipient, Hard: true}},
		{"", "", "550 mailbox full", Verdict{Class: MailboxFull}},
	} {
		r := Refusal{Category: c.category, Status: c.status, Text: c.text, Own: own}
		if got := Classify(r); got != c.want {
			t.Errorf("%q, %q, %q: got %+v, want %+v", c.category, c.status, c.text, got, c.want)
		}
	}
}
