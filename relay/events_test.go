package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
)

// encodedEvents returns events as they are written, with ID for the message ids.
func encodedEvents(t *testing.T, events []*event.Event) []string {
	t.Helper()
	var out []string
	for _, e := range events {
		line, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(line), e.ID, "EVENT")
		out = append(out, strings.ReplaceAll(text, e.MessageID, "ID"))
	}
	return out
}

// sameJSON compares two texts as JSON.
func sameJSON(t *testing.T, name, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s: %v in %s", name, err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: %v in %s", name, err, want)
	}
	gotText, _ := json.MarshalIndent(g, "", " ")
	wantText, _ := json.MarshalIndent(w, "", " ")
	if string(gotText) != string(wantText) {
		t.Errorf("%s:\ngot  %s\nwant %s", name, gotText, wantText)
	}
}

// eventMessage is one that says all that an event can tell.
const eventMessage = "From: News <news@example.com>\r\nSubject: =?utf-8?q?Fr=C3=BChling?=\r\nDate: x\r\nMessage-ID: <1@x>\r\n" +
	"X-Job: spring\r\nX-Virtual-MTA: v1\r\nX-MSYS-API: {\"metadata\":{\"k\":\"v\"},\"tags\":[\"t\"]}\r\n\r\nx\r\n"

// newEventBench has a clock that stands still, and one VirtualMTA.
func newEventBench(t *testing.T, now *time.Time) *bench {
	return newBench(t, func(c *Config) {
		c.Headers.MsysAPI, c.Signing.Signer = true, nil
		c.Headers.Received = "off"
		c.Routes.VirtualMTAs = []VirtualMTA{{Name: "v1", Pool: "p", SourceHost: "198.51.100.7", Subaccount: 9}}
		c.Routes.Pools = []Pool{{Name: "p"}}
		c.Now = func() time.Time { return *now }
		c.Tracking.Default.Open = false
	})
}

const injectionEvent = `"message_id":"ID","event_id":"EVENT","timestamp":"1800000000","recv_method":"esmtp",` +
	`"binding":"v1","binding_group":"p","sending_ip":"198.51.100.7","campaign_id":"spring","friendly_from":"news@example.com",` +
	`"msg_from":"bounce@example.com","msg_size":"SIZE","open_tracking":false,"click_tracking":true,"initial_pixel":true,` +
	`"rcpt_meta":{"k":"v"},"rcpt_tags":["t"],"subaccount_id":9,"subject":"Frühling"`

// TestEventsOfAMessage, to the letter: what was taken, and what was refused
// where others were taken.
func TestEventsOfAMessage(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := newEventBench(t, &now)
	b.up.answers["no"] = replied(550, "no such user")
	b.submit(submission(eventMessage, "a", "no"))

	got := encodedEvents(t, b.rec.events)
	if len(got) != 3 {
		t.Fatalf("got %d events, want 3", len(got))
	}
	size := len(b.up.got[0].Message[0])
	injection := func(recipient string) string {
		e := strings.Replace(injectionEvent, "SIZE", strconv.Itoa(size), 1)
		return e + `,"rcpt_to":"` + recipient + `@Example.NET","routing_domain":"example.net"`
	}
	checkEvent(t, "injection", got[0], `{"type":"reception",`+injection("a")+`}`)
	checkEvent(t, "injection of the refused", got[1], `{"type":"reception",`+injection("no")+`}`)
	checkEvent(t, "bounce", got[2], `{"type":"inband","delv_method":"esmtp","bounce_class":"10","error_code":"550",`+
		`"reason":"550 5.1.1 no such user","raw_reason":"550 5.1.1 no such user",`+injection("no")+`}`)

	for _, e := range b.rec.events {
		if e.Local != (event.Local{Session: "s.1"}) {
			t.Errorf("beside the event: %+v, want the session", e.Local)
		}
	}
}

// checkEvent compares an encoded event with the API's object that is wanted.
func checkEvent(t *testing.T, name, got, want string) {
	t.Helper()
	var g map[string]any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s: %v in %s", name, err, got)
	}
	if m, ok := g["msys"].(map[string]any); ok {
		for _, kind := range m {
			text, _ := json.Marshal(kind)
			got = string(text)
		}
	}
	sameJSON(t, name, got, want)
}

// TestEventsOfARetry: delays while it waits, one bounce when it is given up, and
// nothing but the injection where it arrives.
func TestEventsOfARetry(t *testing.T) {
	lost := upstream.Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", nil)}

	for _, c := range []struct {
		name string
		out  upstream.Outcome
		gone bool // the queue is told to stop
		want string
	}{
		{"accepted", replied(250, "taken"), false, ""},
		{"accepted while it stops", replied(250, "taken"), true, ""},
		{"refused", replied(550, "no"), false, ""},
		{"deferred", replied(450, "later"), false, "delay"},
		{"lost", lost, false, "delay"},
		{"lost because the queue stops", lost, true, ""},
		{"our login refused", replied(530, "login"), false, "delay"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Sending.QueueAlways = true })
			b.submit(submission(htmlMessage, "a"))
			b.rec.events = nil
			b.up.answers["a"] = c.out
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if c.gone {
				cancel()
			}

			b.relay.Deliver(ctx, b.queue.got[0], 0, 0)
			var got []string
			for _, e := range b.rec.events {
				got = append(got, e.Type.PublicName())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("events %q, want %q", got, c.want)
			}
		})
	}
}

// TestRetryEvents, to the letter.
func TestRetryEvents(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := newEventBench(t, &now)
	b.relay.cfg.Sending.QueueAlways = true
	b.submit(submission(eventMessage, "a"))
	tr := b.queue.got[0]
	b.rec.events = nil

	now = now.Add(90 * time.Second)
	b.up.answers["a"] = replied(450, "mailbox full")
	v := b.relay.Deliver(context.Background(), tr, 0, 2)
	now = now.Add(time.Hour)
	b.relay.GiveUp(context.Background(), tr, 0, 3, v)
	b.relay.GiveUp(context.Background(), tr, 0, 0, queue.Verdict{Failed: true, Reply: "550 no"})
	tr.Created = now.Add(time.Minute) // the clock was set back
	b.relay.GiveUp(context.Background(), tr, 0, 1, queue.Verdict{Failed: true, Reply: "550 no"})

	common := strings.Replace(injectionEvent, `,"msg_size":"SIZE"`, "", 1) +
		`,"rcpt_to":"a@Example.NET","routing_domain":"example.net","delv_method":"esmtp"`
	at := func(timestamp string) string { return strings.Replace(common, "1800000000", timestamp, 1) }
	reason := func(text string) string { return `"reason":"` + text + `","raw_reason":"` + text + `"}` }
	want := []string{
		`{"type":"tempfail",` + at("1800000090") + `,"num_retries":"2","queue_time":"90000","bounce_class":"22",` +
			`"error_code":"450",` + reason("450 4.1.1 mailbox full"),
		`{"type":"inband",` + at("1800003690") + `,"num_retries":"2","queue_time":"3690000","bounce_class":"22",` +
			reason("4.4.7 not delivered in 1h2m0s, last answer: 450 4.1.1 mailbox full"),
		`{"type":"inband",` + at("1800003690") + `,"num_retries":"0","queue_time":"3690000","bounce_class":"1",` +
			`"error_code":"550",` + reason("550 no"),
		`{"type":"inband",` + at("1800003690") + `,"num_retries":"0","queue_time":"0","bounce_class":"1",` +
			`"error_code":"550",` + reason("550 no"),
	}
	got := encodedEvents(t, b.rec.events)
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i := range want {
		checkEvent(t, "event "+strconv.Itoa(i), got[i], want[i])
	}
}

// TestFailureEventIDs: an attempt that comes again after a crash has the same
// event, the next one another, and there is one end.
func TestFailureEventIDs(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.submit(submission(htmlMessage, "a", "b"))
	tr := b.queue.got[0]
	b.rec.events = nil
	for _, local := range []string{"a", "b"} {
		b.up.answers[local] = replied(450, "later")
	}

	for _, step := range []struct{ copy, tries int }{{0, 0}, {0, 0}, {0, 1}, {1, 0}} {
		b.relay.Deliver(context.Background(), tr, step.copy, step.tries)
	}
	for _, tries := range []int{1, 2} {
		b.relay.GiveUp(context.Background(), tr, 0, tries, queue.Verdict{Failed: true, Reply: "550 no"})
	}
	var ids []string
	for _, e := range b.rec.events {
		ids = append(ids, e.ID)
	}
	if ids[0] != ids[1] || ids[1] == ids[2] || ids[0] == ids[3] || ids[4] != ids[5] || ids[4] == ids[0] || ids[4] == ids[2] {
		t.Errorf("ids %q", ids)
	}
	if want := event.StableID("inband", tr.Copies[0].MessageID); ids[4] != want {
		t.Errorf("bounce has id %s, want %s", ids[4], want)
	}
}

// TestRejectionEvents, to the letter, one for each recipient.
func TestRejectionEvents(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := newEventBench(t, &now)
	message := "From: =?utf-8?q?J=C3=B6?= <a@b.example>\r\nFrom: x@y.example\r\nSubject: one\r\nSubject: two\r\nX-MSYS-API: x\r\n\r\nx\r\n"
	s := submission(message, "a", "b")
	s.User.Subaccount = 7
	b.submit(s)

	got := encodedEvents(t, b.rec.events)
	if len(got) != 2 {
		t.Fatalf("got %d events, want 2", len(got))
	}
	text := "550 5.6.0 X-MSYS-API: invalid character 'x' looking for beginning of value"
	for i, rcpt := range []string{"a", "b"} {
		checkEvent(t, rcpt, got[i], `{"type":"rejection","event_id":"EVENT","message_id":"ID","timestamp":"1800000000","recv_method":"esmtp",`+
			`"rcpt_to":"`+rcpt+`@Example.NET","raw_rcpt_to":"`+rcpt+`@Example.NET","subaccount_id":7,"error_code":"550",`+
			`"bounce_class":"52","reason":"`+text+`","raw_reason":"`+text+`"}`)
		want := event.Local{
			Session: "s.1",
			User:    "u",
			From:    "bounce@example.com",
			Author:  "J\u00f6 <a@b.example>",
			Subject: "one",
		}
		if b.rec.events[i].Local != want {
			t.Errorf("beside the event: got %+v, want %+v", b.rec.events[i].Local, want)
		}
		if _, err := b.keys.ParseID(b.rec.events[i].MessageID); err != nil {
			t.Errorf("message id: %v", err)
		}
	}
	if b.rec.events[0].ID == b.rec.events[1].ID || b.rec.events[0].MessageID == b.rec.events[1].MessageID {
		t.Error("two events have one id")
	}
	if b.rec.events[0].ID == "" {
		t.Error("an event has no id")
	}
}

// TestRejectionWithoutRecipients has no event, and is no write.
func TestRejectionWithoutRecipients(t *testing.T) {
	b := newBench(t, nil)
	if got := b.submit(submission(htmlMessage)); got != "554 5.5.1 No valid recipients" || len(b.rec.calls) != 0 {
		t.Errorf("got %q and %d writes of events, want none", got, len(b.rec.calls))
	}
}

// TestRefusedMessageLooksSoFar: the fields of a message with more of them than
// one may have are not all looked at.
func TestRefusedMessageLooksSoFar(t *testing.T) {
	for fields, want := range map[int]string{maxFields - 1: "x", maxFields: ""} {
		s := submission(strings.Repeat("A: b\r\n", fields) + "Subject: x\r\n\r\n")
		if got := localFacts(s).Subject; got != want {
			t.Errorf("subject behind %d fields: got %q, want %q", fields, got, want)
		}
	}
	s := submission("From: " + strings.Repeat("f", 1200) + "\r\nSubject: " + strings.Repeat("s", 1200) + "\r\n\r\n")
	if got := localFacts(s); len(got.Author) != 998 || len(got.Subject) != 998 {
		t.Errorf("author of %d and subject of %d bytes, want 998", len(got.Author), len(got.Subject))
	}
}

// TestBinding: how an event names where the mail leaves from.
func TestBinding(t *testing.T) {
	r := &Relay{cfg: Config{Routes: Routes{
		VirtualMTAs: []VirtualMTA{{Name: "v1", Pool: "p1", SourceHost: "192.0.2.1"}, {Name: "v2"}},
		Pools:       []Pool{{Name: "p1"}},
	}}}
	for name, want := range map[string][3]string{
		"v1": {"v1", "p1", "192.0.2.1"}, "v2": {"v2", "", ""}, "p1": {"", "p1", ""}, "other": {"other", "", ""}, "": {"", "", ""},
	} {
		binding, group, ip := r.binding(name)
		if got := [3]string{binding, group, ip}; got != want {
			t.Errorf("binding(%q) = %q, want %q", name, got, want)
		}
	}
}

// TestSubjectsInEvents are decoded, and cut to 998 bytes.
func TestSubjectsInEvents(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                        "plain",
		"=?iso-8859-1?q?gr=FCn?= x":    "grün x",
		"=?none?q?gr=FCn?=":            "=?none?q?gr=FCn?=",
		strings.Repeat("s", 998):       strings.Repeat("s", 998),
		strings.Repeat("s", 998) + "s": strings.Repeat("s", 998),
	} {
		b := newBench(t, nil)
		b.submit(submission("From: a@example.com\r\nSubject: "+in+"\r\n\r\nx\r\n", "a"))
		if got := b.rec.events[0].Subject; got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestReasonsAreCut to 1000 bytes.
func TestReasonsAreCut(t *testing.T) {
	for n, want := range map[int]int{996: 1000, 997: 1000, 10: 14} {
		var e event.Event
		setFailure(&e, "550 "+strings.Repeat("x", n))
		if len(e.Reason) != want || len(e.RawReason) != want || e.ErrorCode != "550" || e.BounceClass != "1" {
			t.Errorf("reply of %d bytes: %d and %d bytes, code %s, class %s", n+4, len(e.Reason), len(e.RawReason), e.ErrorCode, e.BounceClass)
		}
	}
}

// TestEventsAreBounded: the events of a message stay within what was reserved
// for them, and are written in pieces, however much the message says.
func TestEventsAreBounded(t *testing.T) {
	metadata := `{"k":"` + strings.Repeat("m", 9_900) + `"}`
	tag := strings.Repeat("\\\"", 120)
	msg := "From: a@example.com\r\nSubject: " + strings.Repeat("\"", 990) + "\r\nX-MSYS-API: {\"metadata\":" + metadata +
		",\r\n \"tags\":[\"" + tag + "\",\"" + tag + "\"]}\r\n\r\n" + strings.Repeat("x", 8_000) + "\r\n"

	for _, recipients := range []int{250, 600} {
		b := newBench(t, func(c *Config) { c.Headers.MsysAPI, c.Signing.Signer = true, nil })
		b.up.forget = true
		s := submission(msg)
		for i := range recipients {
			name := fmt.Sprintf("\"%060d", i)
			s.Envelope.Recipients = append(s.Envelope.Recipients, envelope.Recipient{Address: envelope.Address{Local: name, Domain: "example.net"}})
			if i > 0 {
				b.up.answers[name] = replied(550, strings.Repeat("\"\\", 3000))
			}
		}

		if answer := b.relay.Submit(context.Background(), s); answer.Code != 250 {
			t.Fatal(answer)
		}
		if want := 2*recipients - 1; len(b.rec.events) != want {
			t.Errorf("%d events, want %d", len(b.rec.events), want)
		}
		if b.rec.encoded > b.rec.reserved {
			t.Errorf("%d recipients: %d bytes of events, and %d reserved", recipients, b.rec.encoded, b.rec.reserved)
		}
		if most := int64(2*recipients) * 18_000; b.rec.encoded > most {
			t.Errorf("%d recipients: %d bytes of events, want at most %d", recipients, b.rec.encoded, most)
		}
		if most := batchSize + 64<<10; b.rec.most > most {
			t.Errorf("%d recipients: %d bytes of events at once, want at most %d", recipients, b.rec.most, most)
		}
	}
}

// TestLongMetadata: what would stand in each recipient's event is bounded.
func TestLongMetadata(t *testing.T) {
	object := func(n int) string { return `{"k":"` + strings.Repeat("m", n-8) + `"}` }

	for _, c := range []struct {
		name, api string
		code      int
	}{
		{"metadata of 10,000 bytes", `{"metadata":` + object(10_000) + `}`, 250},
		{"metadata of 10,001 bytes", `{"metadata":` + object(10_001) + `}`, 550},
		{"white space does not count", `{"metadata":` + strings.Repeat(" ", 20_000) + `{ "k" : 1 }}`, 250},
		{"metadata of 0.9 MB", `{"metadata":` + object(900_000) + `}`, 550},
		{"tag of 255 bytes", `{"tags":["` + strings.Repeat("t", 255) + `"]}`, 250},
		{"tag of 256 bytes", `{"tags":["` + strings.Repeat("t", 256) + `"]}`, 550},
		{"long ip_pool", `{"options":{"ip_pool":"` + strings.Repeat("p", 256) + `"}}`, 550},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Headers.MsysAPI = true })
			answer := b.relay.Submit(context.Background(), submission(withFields("X-MSYS-API: "+c.api+"\r\n"), "a"))
			if answer.Code != c.code || c.code == 550 && answer.Enhanced != (reply.EnhancedCode{5, 6, 0}) {
				t.Errorf("got %v, want %d", answer, c.code)
			}
		})
	}

	b := newBench(t, nil)
	answer := b.relay.Submit(context.Background(), submission(withFields("X-Virtual-MTA: "+strings.Repeat("v", 900)+"\r\n"), "a"))
	if answer.Code != 550 {
		t.Errorf("VirtualMTA of 900 bytes: %v, want 550", answer)
	}
}

// TestMetadataIsUTF8: an event is text, whatever a message says.
func TestMetadataIsUTF8(t *testing.T) {
	b := newBench(t, func(conf *Config) { conf.Headers.MsysAPI = true })
	b.relay.Submit(context.Background(), submission(withFields("X-MSYS-API: {\"metadata\":{\"k\" : \"\xff\"}}\r\n"), "a"))
	if got := string(b.rec.events[0].RcptMeta); got != "{\"k\":\"\uFFFD\"}" {
		t.Errorf("metadata %q", got)
	}
}

// TestSubjectIsCutAtCharacters: a cut never leaves half a character.
func TestSubjectIsCutAtCharacters(t *testing.T) {
	got := decodeText("x"+strings.Repeat("\u00fc", 600), maxSubject)
	if want := "x" + strings.Repeat("\u00fc", 498); got != want {
		t.Errorf("got %d bytes ending in %q, want %d", len(got), got[len(got)-4:], len(want))
	}
	if got := decodeText("\xff\xfe", maxSubject); got != "\uFFFD" {
		t.Errorf("got %q", got)
	}
	var e event.Event
	setFailure(&e, "550 "+strings.Repeat("x", 5000))
	if len(e.Reason) != maxReason || len(e.RawReason) != maxReason {
		t.Errorf("reason of %d bytes, want %d", len(e.Reason), maxReason)
	}
}
