package bounce

import (
	"slices"
	"strings"
	"testing"
)

// TestClassNumbers holds the classes to the numbers of SparkPost's page.
func TestClassNumbers(t *testing.T) {
	numbers := map[int]string{
		1: "Undetermined", 10: "InvalidRecipient", 20: "SoftBounce", 21: "DNSFailure", 22: "MailboxFull", 23: "TooLarge",
		24: "Timeout", 25: "AdminFailure", 30: "NoRecipient", 40: "GenericBounce", 50: "MailBlock", 51: "SpamBlock",
		52: "SpamContent", 53: "Attachment", 54: "RelayingDenied", 60: "AutoReply", 70: "TransientFailure", 80: "Subscribe",
		90: "Unsubscribe", 100: "ChallengeReply",
	}
	for class := -1; class <= 101; class++ {
		if got, want := Known(class), numbers[class] != ""; got != want {
			t.Errorf("%d is known: got %v, want %v", class, got, want)
		}
	}

	for name, class := range map[string]int{
		"Undetermined": Undetermined, "InvalidRecipient": InvalidRecipient, "SoftBounce": SoftBounce, "DNSFailure": DNSFailure,
		"MailboxFull": MailboxFull, "TooLarge": TooLarge, "Timeout": Timeout, "AdminFailure": AdminFailure,
		"NoRecipient": NoRecipient, "GenericBounce": GenericBounce, "MailBlock": MailBlock, "SpamBlock": SpamBlock,
		"SpamContent": SpamContent, "Attachment": Attachment, "RelayingDenied": RelayingDenied, "AutoReply": AutoReply,
		"TransientFailure": TransientFailure, "Subscribe": Subscribe, "Unsubscribe": Unsubscribe,
		"ChallengeReply": ChallengeReply,
	} {
		if numbers[class] != name {
			t.Errorf("%s is %d, the number of %q", name, class, numbers[class])
		}
	}
}

// TestVague: verdicts of these classes leave room for what else is known.
func TestVague(t *testing.T) {
	vague := []int{0, Undetermined, SoftBounce, GenericBounce, TransientFailure}
	for class := range 101 {
		if got, want := (Verdict{Class: class}).Vague(), slices.Contains(vague, class); got != want {
			t.Errorf("%d is vague: got %v, want %v", class, got, want)
		}
	}
}

// TestSoften: a temporary failure is never hard, and of no class by which
// senders stop writing.
func TestSoften(t *testing.T) {
	for class := range 101 {
		want := Verdict{Class: class}
		if class == InvalidRecipient || class == NoRecipient || class == Unsubscribe {
			want.Class = SoftBounce
		}
		if got := (Verdict{Class: class, Hard: true}).soften(); got != want {
			t.Errorf("%d: got %+v, want %+v", class, got, want)
		}
	}
}

// TestCategoriesOfPowerMTA names every category, written in any case.
func TestCategoriesOfPowerMTA(t *testing.T) {
	want := map[string]Verdict{
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
	if len(categories) != len(want) {
		t.Errorf("%d categories, want %d", len(categories), len(want))
	}
	for category, v := range want {
		t.Run(category, func(t *testing.T) {
			// The reply and the status say something else.
			status, text := "5.3.4", "554 the message is too large"
			if v.Class == MailBlock || v.Class == SpamBlock || v.Class == AdminFailure {
				text = "554 nobody knows what this means"
			}
			for _, written := range []string{category, " " + strings.ToUpper(category) + "\t"} {
				if got := Classify(Refusal{Category: written, Status: status, Text: text}); got != v {
					t.Errorf("%q: got %+v, want %+v", written, got, v)
				}
			}
		})
	}
}

// TestWordsBesideACategory: a reply that says more counts where the category is
// one for everything that is not liked.
func TestWordsBesideACategory(t *testing.T) {
	gone := "550 no such user here"
	for category, want := range map[string]Verdict{
		"bad-configuration": {InvalidRecipient, true},
		"policy-related":    {InvalidRecipient, true},
		"spam-related":      {InvalidRecipient, true},
		"invalid-sender":    {InvalidRecipient, true},
		"protocol-errors":   {InvalidRecipient, true},
		"content-related":   {SpamContent, false},
		"quota-issues":      {MailboxFull, false},
		"routing-errors":    {DNSFailure, false},
		"bad-connection":    {Timeout, false},
		"virus-related":     {Attachment, false},
		"relaying-issues":   {RelayingDenied, false},
		"other":             {InvalidRecipient, true},
		"":                  {InvalidRecipient, true},
	} {
		t.Run(category, func(t *testing.T) {
			if got := Classify(Refusal{Category: category, Text: gone}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestOwnCategories: the site's own categories come first, and are hard where
// their class is.
func TestOwnCategories(t *testing.T) {
	own := map[string]int{
		"": Timeout, "left": InvalidRecipient, "none": NoRecipient, "stop": Unsubscribe, "full": MailboxFull,
		"bad-mailbox": SoftBounce,
	}
	for _, c := range []struct {
		category string
		want     Verdict
	}{
		{"left", Verdict{InvalidRecipient, true}},
		{" LEFT ", Verdict{InvalidRecipient, true}},
		{"none", Verdict{NoRecipient, true}},
		{"stop", Verdict{Unsubscribe, true}},
		{"full", Verdict{MailboxFull, false}},
		{"bad-mailbox", Verdict{SoftBounce, false}},
		{"", Verdict{TooLarge, false}},
		{"unheard-of", Verdict{TooLarge, false}},
	} {
		t.Run(c.category, func(t *testing.T) {
			got := Classify(Refusal{Category: c.category, Status: "5.3.4", Text: "552 no", Own: own})
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestOrder: which of status, words and reply code counts.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name, status, text string
		want               Verdict
	}{
		{"a status in blanks", " 5.2.2 ", "550 nothing known", Verdict{MailboxFull, false}},
		{"a status with a comment", "5.2.2 (full)", "550 nothing known", Verdict{MailboxFull, false}},
		{"a temporary status", "4.1.1", "450 nothing known", Verdict{SoftBounce, false}},
		{"a temporary status, the address is gone", "4.1.1", "450 no such user", Verdict{InvalidRecipient, true}},
		{"a temporary status that seldom lies, and other words", "4.2.2", "450 no such user", Verdict{MailboxFull, false}},
		{"a temporary status, soft words", "4.1.1", "450 message expired", Verdict{Timeout, false}},
		{"a temporary status, words of a domain", "4.1.2", "450 no such domain", Verdict{DNSFailure, true}},
		{"a temporary weak status", "4.1.3", "450 nothing known", Verdict{SoftBounce, false}},
		{"a temporary status beside hard words", "4.3.0", "450 no such user", Verdict{SoftBounce, false}},
		{"a temporary code beside hard words", "", " 450 no such user", Verdict{SoftBounce, false}},
		{"a permanent status, a temporary code", "5.1.3", "450 nothing known", Verdict{InvalidRecipient, true}},
		{"a temporary code and no words", "", "450 nothing known", Verdict{TransientFailure, false}},
		{"a temporary status and no words", "4.8.8", "550 nothing known", Verdict{TransientFailure, false}},
		{"a host that accepts no mail", "", " 556 nothing known", Verdict{DNSFailure, true}},
		{"the same beside a status", "5.8.8", "556 nothing known", Verdict{DNSFailure, true}},
		{"a status of no subject", "5.8.8", "550 nothing known", Verdict{GenericBounce, false}},
		{"a status of the address", "5.1.9", "550 nothing known", Verdict{AdminFailure, false}},
		{"a mailbox's other status", "5.2.77", "550 nothing known", Verdict{SoftBounce, false}},
		{"no status and nothing known", "", "550 nothing known", Verdict{Undetermined, false}},
		{"a success", "2.1.5", "250 ok", Verdict{Undetermined, false}},
		{"hard words beside a weak status", "5.2.1", "550 no such user", Verdict{InvalidRecipient, true}},
		{"words to believe before any status", "5.1.1", "550 over quota", Verdict{MailboxFull, false}},
		{"words that give another reason", "5.1.1", "550 message expired", Verdict{Timeout, false}},
		{"words that do not", "5.1.2", "550 no such user", Verdict{DNSFailure, true}},
		{"soft words beside a strong soft status", "5.2.2", "550 message expired", Verdict{MailboxFull, false}},
		{"weak words beside policy", "5.7.1", "550 Recipient address rejected.", Verdict{MailBlock, false}},
		{"weak words beside another status", "5.4.1", "550 Recipient address rejected.", Verdict{InvalidRecipient, true}},
		{"words beside policy", "5.7.1", "550 no such user", Verdict{InvalidRecipient, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Classify(Refusal{Status: c.status, Text: c.text}); got != c.want {
				t.Errorf("%q %q: got %+v, want %+v", c.status, c.text, got, c.want)
			}
		})
	}
}

// TestEveryCodeIsDocumented: the README's table has every code of the tables.
func TestEveryCodeIsDocumented(t *testing.T) {
	for _, table := range []map[string]Verdict{strongStatus, weakStatus} {
		for detail := range table {
			if !strings.Contains(readme, "| 5."+detail+" |") {
				t.Errorf("5.%s is missing", detail)
			}
		}
	}
}

// TestListsInOrder names the lists of words with what they mean.
func TestListsInOrder(t *testing.T) {
	want := []list{
		{"challenge", Verdict{ChallengeReply, false}, false, false, false},
		{"auto_reply", Verdict{AutoReply, false}, false, false, false},
		{"unsubscribed", Verdict{Unsubscribe, true}, false, false, true},
		{"subscription", Verdict{Subscribe, false}, false, false, false},
		{"sender", Verdict{MailBlock, false}, true, false, false},
		{"authentication", Verdict{MailBlock, false}, true, false, false},
		{"reverse_dns", Verdict{MailBlock, false}, true, false, false},
		{"attachment", Verdict{Attachment, false}, false, false, false},
		{"header_too_large", Verdict{AdminFailure, false}, false, false, false},
		{"mailbox_full", Verdict{MailboxFull, false}, true, false, false},
		{"too_large", Verdict{TooLarge, false}, true, false, false},
		{"blocklist", Verdict{SpamBlock, false}, true, false, false},
		{"spam", Verdict{SpamContent, false}, false, false, false},
		{"relaying", Verdict{RelayingDenied, false}, true, false, false},
		{"dns_temporary", Verdict{DNSFailure, false}, false, false, false},
		{"no_domain", Verdict{DNSFailure, true}, false, false, false},
		{"moved", Verdict{InvalidRecipient, true}, false, false, true},
		{"inactive", Verdict{SoftBounce, false}, false, false, false},
		{"no_valid_recipients", Verdict{NoRecipient, true}, false, false, false},
		{"unknown_recipient", Verdict{InvalidRecipient, true}, false, false, false},
		{"loop", Verdict{AdminFailure, false}, false, false, false},
		{"rejected_plainly", Verdict{InvalidRecipient, true}, false, true, false},
		{"blocked", Verdict{MailBlock, false}, false, false, false},
		{"throttled", Verdict{TransientFailure, false}, false, false, false},
		{"timeout", Verdict{Timeout, false}, false, false, false},
		{"system_error", Verdict{AdminFailure, false}, false, false, false},
	}
	if !slices.Equal(lists, want) {
		t.Errorf("got %+v, want %+v", lists, want)
	}
}

// TestBlocklists names every domain of a list of senders, in a name and in a URL.
func TestBlocklists(t *testing.T) {
	domains := []string{
		"abuseat.org", "abusix.zone", "backscatterer.org", "barracudacentral.org", "dnsbl.info", "gbudb.net", "hostkarma.com",
		"invaluement.com", "mailspike.net", "mailspike.org", "manitu.net", "nixspam.net", "njabl.org", "senderscore.org",
		"sorbs.net", "spamcop.net", "spameatingmonkey.net", "spamhaus.net", "spamhaus.org", "spamrats.com", "surbl.org",
		"surriel.com", "uceprotect.net", "uribl.com",
	}
	if len(blocklists) != len(domains) {
		t.Errorf("%d domains, want %d", len(blocklists), len(domains))
	}
	for _, domain := range domains {
		for _, text := range []string{"refused by zen." + domain, "refused, https://www." + domain + "/192.0.2.1"} {
			if got := normalize(text, ""); !strings.HasSuffix(strings.TrimSpace(got), blocklisted) {
				t.Errorf("%s: got %q, want the mark of a blocklist", text, got)
			}
		}
	}
	for _, page := range []string{
		"csi.cloudmark.com", "ipcheck.proofpoint.com", "www.senderbase.org", "talosintelligence.com", "CSI.Cloudmark.com",
	} {
		if got := normalize("refused, see https://"+page+"/x", ""); !strings.Contains(got, blocklisted) {
			t.Errorf("%s: got %q, want the mark of a blocklist", page, got)
		}
	}
	if len(reputationPages) != 4 {
		t.Errorf("%d pages that explain a listing, want 4", len(reputationPages))
	}

	for _, word := range []string{"using", "in", "on", "by", "at", "via", "see", "visit"} {
		for _, host := range []string{"zen.spamhaus.org", "DNSBL.example.com", "rbl.example.com", "Zen.Spamhaus.Org."} {
			if got := normalize("refused "+word+" "+host, ""); !strings.Contains(got, blocklisted) {
				t.Errorf("%s %s: got %q, want the mark of a blocklist", word, host, got)
			}
		}
	}
	for _, text := range []string{
		"from zen.spamhaus.org", "using mx.example.com", "using norbl.example.com", "see https://www.example.com/spamhaus.org",
	} {
		if got := normalize(text, ""); strings.Contains(got, blocklisted) {
			t.Errorf("%s: got %q, want no mark", text, got)
		}
	}
}
