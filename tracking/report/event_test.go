package report

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"

	"postern/tracking/event"
	"postern/tracking/token"
)

// TestEventOfABounce says what each field of the event is.
func TestEventOfABounce(t *testing.T) {
	keys := testKeys(t)
	id := keys.NewID(noon.Add(-time.Hour))
	long := strings.Repeat("l", 600)
	r := &Report{
		Kind: Bounce,
		Date: noon.Add(-time.Minute),
		Recipients: []Recipient{
			{Kind: Delivered, Final: "d@b.example", Class: 1},
			{Kind: Bounce, Final: "final@b.example", Original: "bob@b.example", Status: "5.2.2", ReplyCode: "552", Diagnostic: "552 full", Class: 22},
			{Kind: Bounce, Final: "other@b.example", Status: "5.1.1", Diagnostic: "550 5.1.1 gone", Class: 10},
		},
		returned: []byte("From: News <news@shop.example>\nReturn-Path: <bounce@shop.example>\n\nhi"),
	}
	e := r.Event(Found{ID: id, Subaccount: 7}, noon)
	want := event.Event{
		Type: event.OutOfBand, MessageID: id.String(), RcptTo: "bob@b.example", SubaccountID: 7,
		DelvMethod: "esmtp", RecvMethod: "esmtp", ErrorCode: "552", BounceClass: "22",
		RawReason: "552 full", Reason: "5.2.2 552 full", FriendlyFrom: "news@shop.example", MsgFrom: "bounce@shop.example",
	}
	if e == nil {
		t.Fatal("got no event")
	}
	want.ID, want.Timestamp = e.ID, e.Timestamp
	if !reflect.DeepEqual(*e, want) {
		t.Errorf("got %+v, want %+v", *e, want)
	}
	if !e.Timestamp.Equal(r.Date) {
		t.Errorf("got the time %s, want the report's", e.Timestamp)
	}

	for sealed, class := range map[string]string{
		"other@b.example": "10", "OTHER@B.example": "10", "bob@b.example": "22", "Final@b.example": "22", "d@b.example": "22",
		"nobody@b.example": "22",
	} {
		e := r.Event(Found{ID: id, Recipient: sealed}, noon)
		if e == nil || e.RcptTo != sealed || e.BounceClass != class {
			t.Errorf("sealed for %s: got %+v, want class %s", sealed, e, class)
		}
	}
	if e := r.Event(Found{ID: id, Recipient: "other@b.example"}, noon); e.Reason != "550 5.1.1 gone" {
		t.Errorf("got the reason %q, want the status once", e.Reason)
	}

	r.Recipients = []Recipient{{Kind: Bounce, Final: long + "@b.example", Status: "5.0.0"}}
	if e := r.Event(Found{ID: id}, noon); e != nil {
		t.Errorf("got %+v of an address that is too long", e)
	}
	r.Recipients[0].Final = "bob@" + long
	r.returned = []byte("From: n@" + long + "\nReturn-Path: <r@" + long + ">\n\nhi")
	e = r.Event(Found{ID: id}, noon)
	if e == nil || len(e.RcptTo) != 512 || len(e.FriendlyFrom) > 512 || len(e.MsgFrom) > 512 || e.RawReason != "5.0.0" || e.Reason != "5.0.0" {
		t.Errorf("got %+v, want its fields bounded and the status as its reason", e)
	}
	r.Recipients[0].Final = "nobody"
	if e := r.Event(Found{ID: id}, noon); e != nil {
		t.Errorf("got %+v of no address", e)
	}
}

// TestEventOfAComplaint says what each field of the event is.
func TestEventOfAComplaint(t *testing.T) {
	r := &Report{
		Kind: Complaint, FeedbackType: "abuse", ReportingMTA: strings.Repeat("m", 300), ReportedTo: strings.Repeat("t", 300),
		UserAgent: strings.Repeat("u", 300), SourceIP: strings.Repeat("1", 99), Date: noon,
		Recipients: []Recipient{{Kind: Complaint, Final: "bob@b.example"}},
		returned:   []byte("From: news@shop.example\nReturn-Path: <bounce@shop.example>\n\nhi"),
	}
	e := r.Event(Found{ID: someID}, noon)
	if e == nil {
		t.Fatal("got no event")
	}
	want := event.Event{
		ID: e.ID, Timestamp: e.Timestamp, Type: event.SpamComplaint, MessageID: someID.String(), RcptTo: "bob@b.example",
		DelvMethod: "esmtp", FeedbackType: "abuse", ReportBy: strings.Repeat("m", 256), ReportTo: strings.Repeat("t", 256),
		UserString: strings.Repeat("u", 256), SendingIP: strings.Repeat("1", 64), FriendlyFrom: "news@shop.example",
	}
	if !reflect.DeepEqual(*e, want) {
		t.Errorf("got %+v, want %+v", *e, want)
	}

	for _, kind := range []Kind{Delay, Delivered, AutoReply, Other} {
		r.Kind = kind
		if e := r.Event(Found{ID: someID, Recipient: "bob@b.example"}, noon); e != nil {
			t.Errorf("%s: got %+v, want no event", kind, e)
		}
	}
	r.Kind, r.FeedbackType = Complaint, "not-spam"
	if e := r.Event(Found{ID: someID}, noon); e != nil {
		t.Errorf("got %+v of praise", e)
	}
}

// TestEventIDs: a report that comes twice is one event; what differs in the
// message, the recipient, the status or the kind is another.
func TestEventIDs(t *testing.T) {
	base := event.Event{Type: event.OutOfBand, MessageID: "m", RcptTo: "Bob@b.example", FeedbackType: "abuse"}
	id := eventID(&base, "5.1.1")
	same := base
	same.RcptTo, same.Reason, same.Timestamp = "bob@B.example", "x", event.Timestamp{Time: noon}
	if got := eventID(&same, "5.1.1"); got != id {
		t.Errorf("got %s, want %s as before", got, id)
	}
	for name, change := range map[string]func(*event.Event){
		"type":      func(e *event.Event) { e.Type = event.SpamComplaint },
		"message":   func(e *event.Event) { e.MessageID = "n" },
		"recipient": func(e *event.Event) { e.RcptTo = "carl@b.example" },
		"feedback":  func(e *event.Event) { e.FeedbackType = "fraud" },
	} {
		other := base
		change(&other)
		if eventID(&other, "5.1.1") == id {
			t.Errorf("another %s has the same id", name)
		}
	}
	if eventID(&base, "5.1.2") == id {
		t.Error("another status has the same id")
	}
}

// TestWhen: a report's date counts where it can be right.
func TestWhen(t *testing.T) {
	sent := noon.Add(-24 * time.Hour)
	for _, c := range []struct {
		name string
		date time.Time
		want time.Time
	}{
		{"a minute ago", noon.Add(-time.Minute), noon.Add(-time.Minute)},
		{"now", noon, noon},
		{"in the future", noon.Add(time.Second), noon},
		{"twelve hours ago", noon.Add(-12 * time.Hour), noon.Add(-12 * time.Hour)},
		{"longer ago", noon.Add(-12*time.Hour - time.Second), noon},
		{"before the message", sent.Add(-time.Second), noon},
		{"none", time.Time{}, noon},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (&Report{Date: c.date}).when(sent, noon); !got.Equal(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if got := (&Report{Date: noon.Add(-2 * time.Hour)}).when(noon.Add(-time.Hour), noon); !got.Equal(noon) {
		t.Errorf("got %s of a date before the message, want now", got)
	}
	if got := (&Report{Date: noon.Add(-time.Hour)}).when(noon.Add(-time.Hour), noon); !got.Equal(noon.Add(-time.Hour)) {
		t.Errorf("got %s of the message's own second, want it", got)
	}
}

// TestVERP: return paths of ours carry an id behind the prefix.
func TestVERP(t *testing.T) {
	for address, want := range map[string]string{
		"bounce+abc@b.example": "abc", "BOUNCE+abc@b.example": "abc", "bounce+@b.example": "", "bounce@b.example": "",
		"xbounce+abc@b.example": "", "bounce-abc@b.example": "", "bounce+abc": "abc", "": "",
	} {
		if got := strings.Join(verpIDs([]string{address}), ","); got != want {
			t.Errorf("%q: got %q, want %q", address, got, want)
		}
	}
	if got := verpIDs([]string{"bounce+a@b", "x@y", "bounce+b@b"}); len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Errorf("got %q, want a and b", got)
	}
}

// TestFieldsInText finds a field's value in a line of a message, quoted or not.
func TestFieldsInText(t *testing.T) {
	for line, want := range map[string]string{
		"X-Id: abc":                         "abc",
		"x-ID : abc ":                       "abc",
		"X-Id\t:\tabc":                      "abc",
		"> | X-Id: abc":                     "abc",
		"X-Id:":                             "",
		"X-Id":                              "none",
		"X-I":                               "none",
		"X-Idx: abc":                        "none",
		"X-Id abc":                          "none",
		"Y-Id: abc":                         "none",
		"":                                  "none",
		"X-Id:" + strings.Repeat("x", 200):  strings.Repeat("x", 200),
		"X-Id:" + strings.Repeat("x", 201):  "none",
		"X-Id: " + strings.Repeat("x", 200): "none",
		"X-Id:  " + strings.Repeat("x", 190) + " ": strings.Repeat("x", 190),
	} {
		got, ok := fieldValue([]byte(line), "x-id")
		if !ok {
			got = "none"
		}
		if got != want {
			t.Errorf("%.40q: got %.40q, want %.40q", line, got, want)
		}
	}

	for line, want := range map[string]bool{
		" x": true, "\tx": true, "> x": true, ">> | x": true, ">|x": false, "x": false, "": false, ">": false, "|\tx": true,
	} {
		if got := isFolded([]byte(line)); got != want {
			t.Errorf("%q goes on: got %v, want %v", line, got, want)
		}
	}

	for text, want := range map[string][2]string{
		"a\r\nb\n": {"a", "b\n"}, "a": {"a", ""}, "": {"", ""}, "\nb": {"", "b"}, "a\r\r\nb": {"a", "b"},
	} {
		if line, rest := cutLine([]byte(text)); string(line) != want[0] || string(rest) != want[1] {
			t.Errorf("%q: got %q and %q, want %q", text, line, rest, want)
		}
	}
}

// TestIDsOfAField: folded values are put together as far as an id may be long.
func TestIDsOfAField(t *testing.T) {
	f := Finder{Header: "X-Id"}
	for name, c := range map[string]struct{ text, want string }{
		"one line":                 {"X-Id: abc\nY: d", "abc"},
		"folded":                   {"X-Id:\n abc\n def\nY: d", "abcdef"},
		"folded, an empty line":    {"X-Id:\n abc\n \n def", "abc"},
		"several":                  {"X-Id: a\nX-Id: b", "a,b"},
		"nothing behind the colon": {"X-Id:\nY: d", ""},
		"up to the bound":          {"X-Id: " + strings.Repeat("a", 199) + "\n bc\n d", strings.Repeat("a", 199) + "bc"},
		"none":                     {"Y: d", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			ids := f.headerIDs([][]byte{[]byte(c.text)})
			got := strings.Join(ids, ",")
			if len(ids) == 0 {
				got = "none"
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	many := []byte(strings.Repeat("X-Id: a\n", 100))
	if n := len(f.headerIDs([][]byte{many, many})); n != 64 {
		t.Errorf("%d ids are tried, want 64", n)
	}
}

// counting counts what is opened.
type counting struct {
	Keys
	opened int
}

func (c *counting) Open(text string, hosts ...string) (token.Token, error) {
	c.opened++

	return c.Keys.Open(text, hosts...)
}

// TestTokensAreTriedOnce: a token is tried once at each host, and no more than
// some of one mail.
func TestTokensAreTriedOnce(t *testing.T) {
	keys := testKeys(t)
	id := keys.NewID(noon)
	good := func(host string) string {
		return keys.Seal(token.Token{Kind: token.Open, Host: host, MessageID: id, Recipient: "bob@b.example"})
	}
	for name, c := range map[string]struct {
		text         string
		found, tried int
	}{
		"the same link often":     {strings.Repeat("https://t.example/t/"+good("t.example")+"\n", 9), 1, 1},
		"at two hosts":            {"https://t.example/t/" + good("t.example") + " https://u.example/t/" + good("u.example"), 2, 2},
		"without a host":          {"/t/" + good("t.example"), 1, 1},
		"at a stranger's":         {"https://x.example/t/" + good("t.example"), 1, 2},
		"a soft break inside":     {"https://t.example/t/" + good("t.example")[:30] + "=\n" + good("t.example")[30:], 1, 1},
		"a soft break, CRLF":      {"https://t.example/t/" + good("t.example")[:30] + "=\r\n" + good("t.example")[30:], 1, 1},
		"nothing":                 {"hello", 0, 0},
		"a mailbox in a link":     {"mailto:Unsubscribe@b.example?subject=" + good(token.Mail), 1, 1},
		"a mailbox with a plus":   {"unsubscribe+" + good(token.Mail) + "@b.example", 1, 1},
		"too short for a mailbox": {"unsubscribe+" + strings.Repeat("a", 19) + "@b.example", 0, 0},
		"more than are tried":     {manyTokens(200), 0, 64 * 2},
	} {
		t.Run(name, func(t *testing.T) {
			k := &counting{Keys: keys}
			f := Finder{Keys: k, Hosts: []string{"t.example"}}
			if c.tried == 128 {
				f.Hosts = nil
			}
			got := f.tokens([][]byte{[]byte(c.text), []byte(c.text)})
			if len(got) != c.found || k.opened != c.tried {
				t.Errorf("got %d of %d that were tried, want %d of %d", len(got), k.opened, c.found, c.tried)
			}
		})
	}
}

func manyTokens(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("https://t.example/t/" + strings.Repeat("A", 30) + itoa(1000+i) + "\n")
	}

	return b.String()
}

// TestHostBefore: the host of the URL that goes on.
func TestHostBefore(t *testing.T) {
	for before, want := range map[string]string{
		"https://T.example":                        "t.example",
		"https://t.example:8443/track":             "t.example",
		"x https://a.example/ https://b.example/p": "b.example",
		"/track": "",
		"":       "",
		"https://t.example/" + strings.Repeat("p", 382): "t.example",
		"https://t.example/" + strings.Repeat("p", 400): "",
	} {
		if got := hostBefore([]byte(before)); got != want {
			t.Errorf("%.40q: got %q, want %q", before, got, want)
		}
	}
	if maxHostBefore != 400 {
		t.Errorf("%d bytes are looked at, want 400", maxHostBefore)
	}
}

// TestFindByEnvelopeID: an id that the report's field ENVID holds counts last.
func TestFindByEnvelopeID(t *testing.T) {
	keys := testKeys(t)
	id, other := keys.NewID(noon), keys.NewID(noon)
	f := Finder{Keys: keys, Header: "X-Id"}
	r := &Report{OriginalEnvelopeID: " " + id.String() + " "}
	if got, ok := f.Find(r, nil, nil); !ok || got != (Found{ID: id, By: "envid"}) {
		t.Errorf("got %v %+v, want %s by envid", ok, got, id)
	}
	if got, ok := f.Find(r, []byte("X-Id: "+other.String()), nil); !ok || got != (Found{ID: other, By: "header"}) {
		t.Errorf("got %v %+v, want %s by header", ok, got, other)
	}
	if got, ok := f.Find(&Report{OriginalEnvelopeID: "x"}, nil, nil); ok || got != (Found{}) {
		t.Errorf("got %v %+v, want nothing", ok, got)
	}

	sealed := keys.Seal(token.Token{Kind: token.Open, Host: "t.example", MessageID: other, Recipient: "bob@b.example", Subaccount: 3, Unreported: true})
	want := Found{ID: other, By: "token", Recipient: "bob@b.example", Subaccount: 3, Unreported: true}
	if got, ok := f.Find(r, []byte("https://t.example/t/"+sealed), nil); !ok || got != want {
		t.Errorf("got %v %+v, want %+v", ok, got, want)
	}
	raw := []byte("X-Id: " + id.String() + "\n\nhttps://t.example/t/" + sealed)
	if got, ok := f.Find(&Report{}, raw, nil); !ok || got != (Found{ID: id, By: "header"}) {
		t.Errorf("got %v %+v, want nothing of another copy's token", ok, got)
	}
}

// TestAddressees are those of a mail's own header.
func TestAddressees(t *testing.T) {
	got := Addressees([]byte("Delivered-To: a@b.example\nX-Original-To: c@b.example\nTo: D <d@b.example>, e@b.example\nCc: f@b.example\n\nTo: g@b.example\n"))
	if want := "a@b.example c@b.example d@b.example e@b.example"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
	if got := Addressees([]byte("To: " + strings.Repeat("a@b.example, ", 20) + "\n\n")); len(got) != 16 {
		t.Errorf("got %d, want 16", len(got))
	}
}

// TestNameless: what a report says that names nobody has its kind.
func TestNameless(t *testing.T) {
	r := &Report{Kind: Bounce, unnamed: Recipient{Kind: Delay, Diagnostic: "550 no", Class: 1}}
	if got, want := r.Nameless(), (Recipient{Kind: Bounce, Diagnostic: "550 no", Class: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestFindInEncodedText: a token is found in a returned message whose text is
// encoded.
func TestFindInEncodedText(t *testing.T) {
	keys := testKeys(t)
	id := keys.NewID(noon)
	link := "https://t.example/t/" + keys.Seal(token.Token{Kind: token.Open, Host: "t.example", MessageID: id, Recipient: "bob@b.example"})
	encoded := base64.StdEncoding.EncodeToString([]byte("<a href=\"" + link + "\">"))
	f := Finder{Keys: keys, Header: "X-Id"}
	for mediaType, want := range map[string]bool{"text/plain": true, "text/html": true, "image/png": false} {
		msg := bounceOf("Content-Type: " + mediaType + "\nContent-Transfer-Encoding: base64\n\n" + encoded + "\n")
		if found, ok := f.Find(Parse(msg), msg, nil); ok != want || ok && found.Recipient != "bob@b.example" {
			t.Errorf("%s: got %v %+v, want %v", mediaType, ok, found, want)
		}
	}
}
