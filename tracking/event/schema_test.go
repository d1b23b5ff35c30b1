package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/tracking/bounce"
)

// required are the fields that each type must have beside the common ones.
var required = map[Type][]string{
	Injection:       {"recv_method", "friendly_from"},
	Delivery:        {"delv_method"},
	Bounce:          {"bounce_class", "raw_reason"},
	Delay:           {"bounce_class", "raw_reason"},
	OutOfBand:       {"bounce_class", "raw_reason"},
	SpamComplaint:   {"fbtype", "delv_method"},
	PolicyRejection: {"recv_method", "raw_reason"},
	Open:            {"delv_method"},
	InitialOpen:     {"delv_method"},
	Click:           {"delv_method", "target_link_url", "target_link_name"},
	AmpOpen:         {"delv_method"},
	AmpInitialOpen:  {"delv_method"},
	AmpClick:        {"delv_method", "target_link_url", "target_link_name"},
	LinkUnsubscribe: {"target_link_url"},
	ListUnsubscribe: nil,
}

// fieldsOf are those of an event with every field that its type may have.
func fieldsOf(t *testing.T, typ Type) (group string, fields map[string]json.RawMessage) {
	t.Helper()
	line, err := full(typ).Encode()
	if err != nil {
		t.Fatal(err)
	}
	var outer struct {
		Msys map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(line, &outer); err != nil {
		t.Fatal(err)
	}
	for group, fields = range outer.Msys {
	}

	return group, fields
}

func lineOf(t *testing.T, group string, fields map[string]json.RawMessage) []byte {
	t.Helper()
	line, err := json.Marshal(map[string]any{"msys": map[string]any{group: fields}})
	if err != nil {
		t.Fatal(err)
	}

	return line
}

// TestFieldsThatATypeMustHave: each that is missing is named, and no other has
// to be there.
func TestFieldsThatATypeMustHave(t *testing.T) {
	if len(required) != len(schemas) {
		t.Errorf("%d types, want %d", len(required), len(schemas))
	}
	for typ, own := range required {
		t.Run(typ.String(), func(t *testing.T) {
			group, all := fieldsOf(t, typ)
			must := append([]string{"type", "event_id", "message_id", "timestamp", "rcpt_to"}, own...)
			for name := range all {
				fields := maps.Clone(all)
				delete(fields, name)
				_, err := Decode(lineOf(t, group, fields))
				if needed := slices.Contains(must, name); (err != nil) != needed {
					t.Errorf("without %s: got %v, want an error: %v", name, err, needed)
				}
				if err != nil && name != "type" && !strings.Contains(err.Error(), name) {
					t.Errorf("without %s: got %v, want it named", name, err)
				}
			}
			for _, name := range must[2:] { // what is empty is missing
				for _, empty := range []string{`""`, "null"} {
					if name == "timestamp" && empty == `""` {
						continue
					}
					fields := maps.Clone(all)
					fields[name] = json.RawMessage(empty)
					if _, err := Decode(lineOf(t, group, fields)); err == nil || !strings.Contains(err.Error(), name) {
						t.Errorf("with %s %s: got %v", name, empty, err)
					}
				}
			}
			fields := maps.Clone(all)
			delete(fields, "recv_method")
			delete(fields, "delv_method")
			if _, err := Decode(lineOf(t, group, fields)); err == nil || !strings.Contains(err.Error(), "recv_method") && !strings.Contains(err.Error(), "delv_method") {
				t.Errorf("without a method: got %v", err)
			}
		})
	}
}

// TestFieldsThatATypeMayHave: no type takes another's.
func TestFieldsThatATypeMayHave(t *testing.T) {
	every := map[string]json.RawMessage{}
	for typ := range schemas {
		_, fields := fieldsOf(t, typ)
		maps.Copy(every, fields)
	}
	for typ := range schemas {
		group, all := fieldsOf(t, typ)
		for name, value := range every {
			if _, ok := all[name]; ok {
				continue
			}
			fields := maps.Clone(all)
			fields[name] = value
			if _, err := Decode(lineOf(t, group, fields)); err == nil || !strings.Contains(err.Error(), "no field "+name) {
				t.Errorf("%s with %s: got %v", typ, name, err)
			}
		}
	}
}

// TestDecodeSaysWhatIsWrong.
func TestDecodeSaysWhatIsWrong(t *testing.T) {
	group, all := fieldsOf(t, Bounce)
	line := string(lineOf(t, group, all))
	for _, c := range []struct{ name, text, want string }{
		{"no JSON", "{", "unexpected EOF"},
		{"more behind it", line + "{}", "more than one value"},
		{"no groups", `{"msys":{}}`, "0 groups"},
		{"nothing", `{}`, "0 groups"},
		{"two groups", strings.Replace(line, `{"message_event"`, `{"track_event":{},"message_event"`, 1), "2 groups"},
		{"beside msys", strings.Replace(line, `{"msys"`, `{"x":1,"msys"`, 1), "unknown field"},
		{"another's group", strings.Replace(line, "message_event", "track_event", 1), `in group "track_event"`},
		{"an unknown type", strings.Replace(line, `"inband"`, `"bounce"`, 1), `type "bounce"`},
	} {
		e, err := Decode([]byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), "event: ") || !strings.Contains(err.Error(), c.want) || e != nil {
			t.Errorf("%s: got %v, %v, want %s", c.name, e, err, c.want)
		}
	}

	for _, c := range []struct{ field, value, want string }{
		{"event_id", `"0"`, ""},
		{"event_id", `"9223372036854775807"`, ""},
		{"event_id", `"9223372036854775808"`, "event_id"},
		{"event_id", `"01"`, "event_id"},
		{"event_id", `"+1"`, "event_id"},
		{"event_id", `"-1"`, "event_id"},
		{"event_id", `""`, "event_id"},
		{"event_id", `"x"`, "event_id"},
		{"timestamp", `"0"`, ""},
		{"timestamp", `"-1"`, `timestamp "-1" is not a number`},
		{"timestamp", `"x"`, `timestamp "x" is not Unix seconds`},
		{"timestamp", `1`, "timestamp"},
		{"msg_size", `"1k"`, `msg_size "1k" is not a number`},
		{"msg_size", `""`, ""},
		{"num_retries", `"one"`, `num_retries "one" is not a number`},
		{"queue_time", `"1.5"`, `queue_time "1.5" is not a number`},
		{"bounce_class", `"hard"`, `bounce_class "hard" is not a number`},
		{"rcpt_meta", `[]`, "rcpt_meta is not an object"},
		{"rcpt_meta", `"x"`, "rcpt_meta is not an object"},
		{"rcpt_meta", `{}`, ""},
		{"rcpt_meta", `null`, ""},
		{"rcpt_hash", `"x"`, "rcpt_hash and rcpt_domain go together"},
		{"rcpt_domain", `"x"`, "rcpt_hash and rcpt_domain go together"},
		{"rcpt_hash", `""`, ""},
	} {
		fields := maps.Clone(all)
		fields[c.field] = json.RawMessage(c.value)
		_, err := Decode(lineOf(t, group, fields))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: got %v, want %q", c.field, c.value, err, c.want)
		}
	}
}

// TestHashStandsForTheAddress: with both parts of it, and beside none.
func TestHashStandsForTheAddress(t *testing.T) {
	_, all := fieldsOf(t, PolicyRejection)
	for _, c := range []struct {
		name string
		set  map[string]string
		want string
	}{
		{"the hash alone", map[string]string{"rcpt_to": "", "raw_rcpt_to": "", "rcpt_hash": "h", "rcpt_domain": "d"}, ""},
		{"beside the address", map[string]string{"raw_rcpt_to": "", "rcpt_hash": "h", "rcpt_domain": "d"}, "together with"},
		{"beside the raw address", map[string]string{"rcpt_to": "", "rcpt_hash": "h", "rcpt_domain": "d"}, "together with"},
		{"neither", map[string]string{"rcpt_to": "", "raw_rcpt_to": ""}, "rcpt_to is missing"},
	} {
		fields := maps.Clone(all)
		for name, value := range c.set {
			fields[name], _ = json.Marshal(value)
		}
		_, err := Decode(lineOf(t, "message_event", fields))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}

	e := &Event{RawRcptTo: "x"}
	e.HashRecipient()
	if e.RcptHash != "" || e.RcptDomain != "" || e.RawRcptTo != "x" {
		t.Errorf("without an address: %+v", e)
	}
	for address, domain := range map[string]string{"a@b.example": "b.example", `"x@y"@B.example`: "b.example", "nobody": "nobody"} {
		e := &Event{RcptTo: address}
		if e.HashRecipient(); e.RcptDomain != domain {
			t.Errorf("%s: domain %q, want %q", address, e.RcptDomain, domain)
		}
	}
}

// TestEncodeFails rather than to write what is not an event.
func TestEncodeFails(t *testing.T) {
	for name, e := range map[string]*Event{
		"unknown type": {Type: "opened"},
		"no type":      {},
		"no JSON":      {Type: Injection, RcptMeta: json.RawMessage("{")},
	} {
		if line, err := e.Encode(); err == nil || line != nil || !strings.HasPrefix(err.Error(), "event: ") {
			t.Errorf("%s: got %s, %v", name, line, err)
		}
		if line, err := e.EncodePublic(); err == nil || line != nil || !strings.HasPrefix(err.Error(), "event: ") {
			t.Errorf("%s, for people: got %s, %v", name, line, err)
		}
	}
	if _, err := (&Event{Type: "opened"}).Encode(); !strings.Contains(err.Error(), `unknown type "opened"`) {
		t.Errorf("got %v", err)
	}
}

// TestPublicJSONIsReadable: no character of a URL is escaped, and the line has
// no end.
func TestPublicJSONIsReadable(t *testing.T) {
	e := full(Click)
	e.TargetLinkURL = "https://example.com/?a=1&b=<2>"
	line, err := e.EncodePublic()
	if err != nil || !strings.Contains(string(line), `"target_link_url":"https://example.com/?a=1&b=<2>"`) || strings.Contains(string(line), "\n") {
		t.Errorf("got %s, %v", line, err)
	}
}

func TestDecodePublicReadsWhatIsStored(t *testing.T) {
	for typ := range schemas {
		e := full(typ)
		e.Local.Session = "s.1"
		line, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePublic(line)
		if err != nil || got.Type != typ || got.Local.Session != "s.1" {
			t.Errorf("%s: got %+v, %v", typ, got, err)
		}
	}
	for _, c := range []struct{ name, line, want string }{
		{"stored and damaged", `{"msys":{}}`, "0 groups"},
		{"two values", `{"type":"open"}{}`, "more than one value"},
		{"a type of a number", `{"type":1}`, "event: json"},
		{"a time of a number", `{"type":"open","time":1}`, "event: "},
		{"an id of letters", `{"type":"open","time":"2026-11-24T06:00:00Z","event_id":"x","message_id":"m","rcpt_to":"a@b.example","delv_method":"esmtp"}`, "event_id"},
		{"an id of a number", `{"type":"open","time":"2026-11-24T06:00:00Z","event_id":1,"message_id":"m","rcpt_to":"a@b.example","delv_method":"esmtp"}`, "event: json"},
	} {
		if got, err := DecodePublic([]byte(c.line)); err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: got %+v, %v, want %s", c.name, got, err, c.want)
		}
	}
}

// TestStableID depends on its parts, on where they end, and on nothing else: the
// same record read by the next version is the same event.
func TestStableID(t *testing.T) {
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{nil, "7183457195969485844"},
		{[]string{""}, "7940984811893783192"},
		{[]string{"a", "bc"}, "3060577085345370489"},
		{[]string{"ab", "c"}, "7105606079162413094"},
		{[]string{"ab", "c", ""}, "4395584930132567622"},
		{[]string{strings.Repeat("x", 1000)}, "3523557870454235608"},
	} {
		if got := StableID(c.parts...); got != c.want {
			t.Errorf("%.20q: got %s, want %s", c.parts, got, c.want)
		}
	}
	high := 0
	for i := range 1000 {
		id := StableID(fmt.Sprint(i))
		n, err := strconv.ParseUint(id, 10, 63)
		if err != nil {
			t.Fatalf("%s is not below 2^63", id)
		}
		if n>>62 == 1 {
			high++
		}
	}
	if high < 400 || high > 600 {
		t.Errorf("%d of 1000 ids are in the upper half", high)
	}
}

func TestTimestamp(t *testing.T) {
	var ts Timestamp
	for text, want := range map[string]int64{`"1795500000"`: 1795500000, `"0"`: 0, `"-1"`: -1} {
		if err := json.Unmarshal([]byte(text), &ts); err != nil || ts.Unix() != want {
			t.Errorf("%s: got %d, %v", text, ts.Unix(), err)
		}
	}
	for _, text := range []string{`""`, `"x"`, `1`, `"1.5"`, `{}`} {
		if err := json.Unmarshal([]byte(text), &ts); err == nil {
			t.Errorf("%s is read as %d", text, ts.Unix())
		}
	}
}

// TestTypesByName holds the names of the API, of people, and the groups.
func TestTypesByName(t *testing.T) {
	var got []string
	for _, i := range Types() {
		got = append(got, strings.Join([]string{i.Public, string(i.Type), i.Group, i.Class}, " "))
	}
	want := []string{
		"injection reception message_event ",
		"delivery delivery message_event ",
		"bounce inband message_event ",
		"delay tempfail message_event ",
		"out_of_band outofband message_event ",
		"spam_complaint feedback message_event ",
		"policy_rejection rejection message_event ",
		"open open track_event engagement",
		"initial_open initial_open track_event engagement",
		"click click track_event engagement",
		"amp_open amp_open track_event engagement",
		"amp_initial_open amp_initial_open track_event engagement",
		"amp_click amp_click track_event engagement",
		"link_unsubscribe link unsubscribe_event unsubscribe",
		"list_unsubscribe list unsubscribe_event unsubscribe",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if DefaultLinkName != "Raw URL" {
		t.Errorf("a link without a name is %q", DefaultLinkName)
	}
}

func TestComplaintTypes(t *testing.T) {
	for _, name := range []string{"abuse", "complaint", "fraud", "miscategorized", "opt-out", "opt-out-list", "other", "virus"} {
		if !IsComplaint(name) {
			t.Errorf("%s is not a complaint", name)
		}
	}
	if len(complaintTypes) != 8 {
		t.Errorf("%d types, want 8", len(complaintTypes))
	}
}

func TestBounceClass(t *testing.T) {
	own := map[string]int{"ours": bounce.SpamBlock}
	for _, c := range []struct {
		category, status, text string
		want                   int
	}{
		{"bad-mailbox", "5.1.1", "550 5.1.1 no such user", bounce.InvalidRecipient},
		{"quota-issues", "", "", bounce.MailboxFull},
		{"ours", "", "", bounce.SpamBlock},
		{"", "5.1.1", "", bounce.InvalidRecipient},
		{"", "", "550 mailbox full", bounce.MailboxFull},
	} {
		if got := BounceClass(c.category, c.status, c.text, own); got != c.want {
			t.Errorf("%q, %q, %q: got %d, want %d", c.category, c.status, c.text, got, c.want)
		}
	}

	for n, want := range map[int]bool{bounce.Undetermined: true, bounce.ChallengeReply: true, 0: false, 2: false} {
		if got := KnownBounceClass(n); got != want {
			t.Errorf("%d is known: got %v, want %v", n, got, want)
		}
	}
}
