package report

import (
	"reflect"
	"strings"
	"testing"
)

// TestGroups reads blocks of fields. A continuation belongs to the field in front
// of it, and to nothing where a line that is not a field stands there.
func TestGroups(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []fields
	}{
		{"nothing", "", nil},
		{"blank lines alone", "\n \n\t\n\r\n", nil},
		{"one block", "A: 1\r\nB : 2\r\n", []fields{{"a": "1", "b": "2"}}},
		{"two blocks", "A: 1\n\n \nB: 2\n", []fields{{"a": "1"}, {"b": "2"}}},
		{"a continuation", "A: 1\n  2 \n\t3\nB: 4", []fields{{"a": "1 2 3", "b": "4"}}},
		{"a continuation with a colon", "A: 1\n b: 2\nB: 4", []fields{{"a": "1 b: 2", "b": "4"}}},
		{"a continuation of no field", "A: 1\nfoo bar: 2\n 3\nB: 4", []fields{{"a": "1", "b": "4"}}},
		{"a continuation of a line without a colon", "A: 1\nfoo\n 3\nB: 4", []fields{{"a": "1", "b": "4"}}},
		{"a continuation in front", " 0\nA: 1", []fields{{"a": "1"}}},
		{"a continuation behind a blank line", "A: 1\n\n 2\nB: 3", []fields{{"a": "1"}, {"b": "3"}}},
		{"a field twice", "A: 1\nA: 2\n 3\nB: 4", []fields{{"a": "1", "b": "4"}}},
		{"names with what no name has", "a b: 1\na\tb: 1\na<b: 1\na>b: 1\na@b: 1\n: 1\nC: 2", []fields{{"c": "2"}}},
		{"a value with a colon", "A: b: c", []fields{{"a": "b: c"}}},
		{"a blank line that is missing", "Final-Recipient: 1\nStatus: 2\nFinal-Recipient: 3\nStatus: 4", []fields{
			{"final-recipient": "1", "status": "2"}, {"final-recipient": "3", "status": "4"},
		}},
		{"an empty recipient", "Final-Recipient:\nFinal-Recipient: 3", []fields{{"final-recipient": ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := groups(c.text); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	long := "A: 1" + strings.Repeat("\n "+strings.Repeat("x", 1023), 20)
	if n := len(groups(long)[0]["a"]); n != 1+8*1024 {
		t.Errorf("continuations make %d bytes of a field, want %d", n, 1+8*1024)
	}
}

// TestRecipientOfAGroup reads one recipient's fields.
func TestRecipientOfAGroup(t *testing.T) {
	for _, c := range []struct {
		name string
		g    fields
		want Recipient
	}{
		{"all fields", fields{
			"final-recipient": "rfc822; a@b.example", "original-recipient": "rfc822; c@b.example", "action": "failed",
			"status": "5.1.1 (gone)", "diagnostic-code": "smtp; 550 no",
		}, Recipient{Kind: Bounce, Final: "a@b.example", Original: "c@b.example", Status: "5.1.1", Diagnostic: "550 no"}},
		{"the status alone says why", fields{"final-recipient": "a@b.example", "status": "5.1.1 (gone)"},
			Recipient{Kind: Bounce, Final: "a@b.example", Status: "5.1.1", Diagnostic: "gone"}},
		{"a reason of X.400", fields{"final-recipient": "a@b.example", "x400-supplementary-info": "no", "diagnostic-code": "smtp; 550"},
			Recipient{Kind: Bounce, Final: "a@b.example", Diagnostic: "550 no"}},
		{"X.400 alone", fields{"final-recipient": "a@b.example", "x400-supplementary-info": "no"},
			Recipient{Kind: Bounce, Final: "a@b.example", Diagnostic: "no"}},
		{"the actual recipient alone", fields{"x-actual-recipient": "rfc822; a@b.example"},
			Recipient{Kind: Bounce, Final: "a@b.example"}},
		{"an actual recipient that is not an address", fields{"x-actual-recipient": "rfc822; a"}, Recipient{Kind: Bounce}},
		{"an actual recipient beside the final one", fields{"final-recipient": "x; /G=Bob/", "x-actual-recipient": "a@b.example"},
			Recipient{Kind: Bounce, Final: "/G=Bob/"}},
		{"delivered by its status", fields{"final-recipient": "a@b.example", "status": "2.1.5"},
			Recipient{Kind: Delivered, Final: "a@b.example", Status: "2.1.5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := recipientOf(c.g); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}

	for action, want := range map[string]Kind{
		"failed": Bounce, "failure": Bounce, "fail": Bounce, "bounced": Bounce, "error": Bounce, "Failed (x)": Bounce,
		"delayed": Delay, "deferred": Delay, "delay": Delay,
		"delivered": Delivered, "relayed": Delivered, "expanded": Delivered, "delivery": Delivered,
		"": Bounce, "unheard-of": Bounce,
	} {
		if got := recipientOf(fields{"action": action}).Kind; got != want {
			t.Errorf("action %q: got %s, want %s", action, got, want)
		}
		status := map[Kind]string{Bounce: "5.0.0", Delay: "2.0.0", Delivered: "5.0.0"}[want]
		if got := recipientOf(fields{"action": action, "status": status}).Kind; got != want {
			t.Errorf("action %q beside %s: got %s, want %s", action, status, got, want)
		}
	}
}

// TestStatusGroups: which groups are a recipient's, and what becomes of groups
// that are parted, empty or repeated.
func TestStatusGroups(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		kind             Kind
	}{
		{"two recipients, the graver decides", "Final-Recipient: a@x.example\nAction: delivered\n\nFinal-Recipient: b@x.example\nAction: failed",
			"delivered a@x.example ; bounce b@x.example ", Bounce},
		{"a delay is graver than a delivery", "Final-Recipient: a@x.example\nAction: delivered\n\nFinal-Recipient: b@x.example\nAction: delayed",
			"delivered a@x.example ; delay b@x.example ", Delay},
		{"the mail's own group", "Reporting-MTA: dns; x\nStatus: 5.0.0\n\nFinal-Recipient: a@x.example\nStatus: 5.1.1", "bounce a@x.example 5.1.1", Bounce},
		{"a blank line inside", "Final-Recipient: a@x.example\n\nStatus: 5.1.1", "bounce a@x.example 5.1.1", Bounce},
		{"a blank line inside, a reply behind it", "Final-Recipient: a@x.example\n\nDiagnostic-Code: smtp; 550 5.2.2 full", "bounce a@x.example ", Bounce},
		{"a blank line and nothing to add", "Final-Recipient: a@x.example\nStatus: 5.1.1\n\nX: y", "bounce a@x.example 5.1.1", Bounce},
		{"a second status does not count", "Final-Recipient: a@x.example\nStatus: 5.1.1\n\nStatus: 5.2.2", "bounce a@x.example 5.1.1", Bounce},
		{"a group twice", "Final-Recipient: a@x.example\nStatus: 5.1.1\n\nFinal-Recipient: A@x.example\nStatus: 5.1.1", "bounce a@x.example 5.1.1", Bounce},
		{"an original recipient alone", "Original-Recipient: a@x.example", "", Other},
		{"an original recipient and an action", "Original-Recipient: a@x.example\nAction: failed", "bounce a@x.example ", Bounce},
		{"an original recipient and a status", "Original-Recipient: a@x.example\nStatus: 5.1.1", "bounce a@x.example 5.1.1", Bounce},
		{"an original recipient and a reply", "Original-Recipient: a@x.example\nDiagnostic-Code: smtp; 550 no", "bounce a@x.example ", Bounce},
		{"no recipient", "Reporting-MTA: dns; x\n\nStatus: 5.1.1", "", Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{Kind: Other}
			found := r.statusGroups(groups(c.text))
			var got []string
			for _, x := range r.Recipients {
				got = append(got, strings.Join([]string{string(x.Kind), x.Address(), x.Status}, " "))
			}
			if strings.Join(got, "; ") != c.want || r.Kind != c.kind || found != (c.want != "") {
				t.Errorf("got %v %s %q, want %s %q", found, r.Kind, got, c.kind, c.want)
			}
		})
	}

	r := &Report{}
	r.statusGroups(groups("Original-Envelope-Id: one\n\nOriginal-Envelope-Id: two\nFinal-Recipient: a@x.example"))
	if r.OriginalEnvelopeID != "one" {
		t.Errorf("got the envelope id %q, want the first", r.OriginalEnvelopeID)
	}
}

// TestCodesInText finds the status and the reply code of a text.
func TestCodesInText(t *testing.T) {
	for text, want := range map[string][2]string{ // status, reply code
		"":                                {"", ""},
		"5.1.1":                           {"5.1.1", ""},
		"5.1.1.":                          {"5.1.1", ""},
		"(#5.1.1)":                        {"5.1.1", ""},
		"x5.1.1x":                         {"5.1.1", ""},
		"2.1.5":                           {"2.1.5", ""},
		"3.1.1":                           {"", ""},
		"5.1":                             {"", ""},
		"5.1.1.1":                         {"", ""},
		"15.1.1":                          {"", ""},
		".5.1.1":                          {"", ""},
		"5.1.1234":                        {"", ""},
		"4.123.999 x":                     {"4.123.999", ""},
		"550 no":                          {"", "550"},
		"550":                             {"", "550"},
		"550-no":                          {"", "550"},
		"550: no":                         {"", "550"},
		"[550] no":                        {"", "550"},
		"said: 450 later":                 {"", "450"},
		"x 560 no":                        {"", ""},
		"5500":                            {"", ""},
		"x550 no":                         {"", ""},
		"250 ok":                          {"", ""},
		"250 ok 550 no":                   {"", "550"},
		"5.1.1 550 no":                    {"5.1.1", "550"},
		"554 5.0.0 x 550 5.1.1 gone":      {"5.0.0", "554"},
		"421-4.7.0 later":                 {"4.7.0", "421"},
		"550 #5.1.0 no":                   {"5.1.0", "550"},
		"550 (#5.1.0) no":                 {"5.1.0", "550"},
		"550 SMTP; 5.1.0 no":              {"5.1.0", "550"},
		"550-'5.7.1 no":                   {"5.7.1", "550"},
		"192.0.2.1 no":                    {"", ""},
		"for 451 seconds; 550 5.1.1 gone": {"5.1.1", "550"},
	} {
		t.Run(text, func(t *testing.T) {
			if got := [2]string{cleanStatus(text), replyCode(text)}; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestBestStatus takes the more particular of two codes.
func TestBestStatus(t *testing.T) {
	for _, c := range []struct{ field, text, want string }{
		{"", "", ""},
		{"5.1.1", "", "5.1.1"},
		{"5.1.1", "no", "5.1.1"},
		{"", "550 5.1.1 no", "5.1.1"},
		{"", "(#5.1.1)", "5.1.1"},
		{"", "250 2.1.5 ok", ""},
		{"5.0.0", "550 5.1.1 no", "5.1.1"},
		{"5.0.0", "550 5.1.0 no", "5.1.0"},
		{"5.0.0", "450 4.2.2 full", "4.2.2"},
		{"5.1.0", "550 5.1.1 no", "5.1.1"},
		{"5.1.0", "450 4.2.2 full", "5.1.0"},
		{"5.1.1", "550 5.2.2 full", "5.2.2"},
		{"5.1.1", "450 4.2.2 full", "5.1.1"},
		{"5.1.1", "550 5.0.0 no", "5.1.1"},
		{"5.1.0", "550 5.2.0 no", "5.1.0"},
		{"5.1.1", "550 5.2.0 no", "5.1.1"},
		{"5.0.0", "5.1.0 at first, 550 5.7.1 then", "5.7.1"},
	} {
		t.Run(c.field+" "+c.text, func(t *testing.T) {
			if got := bestStatus(c.field, c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	for status, want := range map[string]int{
		"5.0.0": 2, "4.0.0": 2, "5.1.0": 1, "5.2.0": 1, "5.3.0": 1, "5.4.0": 1, "5.5.0": 1, "5.6.0": 0, "5.7.0": 0, "5.1.1": 0,
		"5.1.10": 0, "": 0,
	} {
		if got := vagueness(status); got != want {
			t.Errorf("%s: got the vagueness %d, want %d", status, got, want)
		}
	}
}

// TestEnrich: what the text for people says of a recipient fills in where the
// fields are short of words.
func TestEnrich(t *testing.T) {
	const text = "<a@x.example>: 550 5.2.2 mailbox full\n<b@x.example>: 550 5.1.1 user unknown\n"
	for _, c := range []struct {
		name string
		in   []Recipient
		text string
		want []string
	}{
		{"each its own", []Recipient{{Kind: Bounce, Final: "B@x.example"}, {Kind: Bounce, Final: "q@x.example", Original: "a@x.example"}}, text,
			[]string{"<b@x.example>: 550 5.1.1 user unknown", "<a@x.example>: 550 5.2.2 mailbox full"}},
		{"enough words", []Recipient{{Kind: Bounce, Final: "a@x.example", Diagnostic: "thirteen byte"}}, text, []string{"thirteen byte"}},
		{"hardly a word", []Recipient{{Kind: Bounce, Final: "a@x.example", Diagnostic: "twelve bytes"}}, text,
			[]string{"twelve bytes <a@x.example>: 550 5.2.2 mailbox full"}},
		{"a reply code is enough", []Recipient{{Kind: Bounce, Final: "a@x.example", Diagnostic: "550 no"}}, text, []string{"550 no"}},
		{"delivered", []Recipient{{Kind: Delivered, Final: "a@x.example"}}, text, []string{""}},
		{"one recipient under another name", []Recipient{{Kind: Bounce, Final: "q@x.example"}}, "<a@x.example>: 550 5.2.2 mailbox full\n",
			[]string{"<a@x.example>: 550 5.2.2 mailbox full"}},
		{"one of several under another name", []Recipient{{Kind: Bounce, Final: "q@x.example"}, {Kind: Delay, Final: "p@x.example"}},
			"<a@x.example>: 550 5.2.2 mailbox full\n", []string{"", ""}},
		{"a reply that names nobody", []Recipient{{Kind: Bounce, Final: "q@x.example"}}, "The server said:\n550 5.2.2 full\n\nSorry", []string{"550 5.2.2 full"}},
		{"a reply that could be about any", []Recipient{{Kind: Bounce, Final: "q@x.example"}, {Kind: Bounce, Final: "p@x.example"}},
			"The server said:\n550 5.2.2 full\n", []string{"", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{Recipients: c.in}
			r.enrich(c.text)
			for i, want := range c.want {
				if got := r.Recipients[i].Diagnostic; got != want {
					t.Errorf("%d: got %q, want %q", i, got, want)
				}
			}
		})
	}
}

// TestReplyCodeBehindOthers: replies that do not refuse are skipped, some of
// them.
func TestReplyCodeBehindOthers(t *testing.T) {
	for n, want := range map[int]string{0: "550", 7: "550", 8: ""} {
		if got := replyCode(strings.Repeat("250 ok, ", n) + "550 no"); got != want {
			t.Errorf("behind %d others: got %q, want %q", n, got, want)
		}
	}
}
