package accounting

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"postern/tracking/event"
)

// read returns the event of one record behind a header line.
func read(t *testing.T, set Settings, columns, record string) (*event.Event, error) {
	t.Helper()

	r := newReader(set, newCounts())
	r.begin([]byte(columns+"\n"+record+"\n"), true)
	r.next()
	o, _ := r.next()

	return o.event, o.err
}

// TestEventOfARecord holds every field of the events that each kind of record
// makes, under the names that PowerMTA's User's Guide has for the columns.
func TestEventOfARecord(t *testing.T) {
	const columns = "type,timeLogged,timeQueued,orig,rcpt,dsnStatus,dsnDiag,bounceCat,dlvSourceIp,dlvDestinationIp," +
		"dlvSize,vmta,vmtaPool,jobId,envId,totalSecondsQueued,feedbackType,reportingMTA,userAgent,reportedDomain," +
		"header_X-Sp-Message-Id"
	const rest = ",1795500000,1795499990,from@example.com,Reader@Example.NET,5.1.1 (bad),smtp; 550 no such user,policy-related,192.0.2.1,192.0.2.2," +
		"1234,mta1,pool1,job1,good-env,2.5, Opt-Out ,mx.example.net,Agent/1.0,example.com,"

	base := event.Event{
		MessageID:  "good-1",
		Timestamp:  event.Timestamp{Time: time.Unix(1795500000, 0)},
		RcptTo:     "Reader@Example.NET",
		DelvMethod: "esmtp",
	}
	with := func(change func(*event.Event)) event.Event {
		e := base
		change(&e)
		return e
	}
	attempt := func(e *event.Event) {
		e.MsgFrom = "from@example.com"
		e.CampaignID = "job1"
		e.Binding = "mta1"
		e.BindingGroup = "pool1"
		e.SendingIP = "192.0.2.1"
		e.IPAddress = "192.0.2.2"
		e.RoutingDomain = "example.net"
		e.MsgSize = "1234"
		e.QueueTime = "2500"
		e.NumRetries = "0"
	}
	failure := func(e *event.Event) {
		e.RawReason = "smtp; 550 no such user"
		e.Reason = "550 no such user"
		e.ErrorCode = "550"
		e.BounceClass = "10"
	}

	for _, c := range []struct {
		kind string
		want event.Event
	}{
		{"d", with(func(e *event.Event) {
			e.Type = event.Delivery
			attempt(e)
		})},
		{"b", with(func(e *event.Event) {
			e.Type = event.Bounce
			attempt(e)
			failure(e)
		})},
		{"t", with(func(e *event.Event) {
			e.Type = event.Delay
			attempt(e)
			failure(e)
		})},
		{"rb", with(func(e *event.Event) {
			e.Type = event.OutOfBand
			e.MsgFrom = "from@example.com"
			failure(e)
		})},
		{"f", with(func(e *event.Event) {
			e.Type = event.SpamComplaint
			e.FeedbackType = "opt-out"
			e.ReportBy = "mx.example.net"
			e.ReportTo = "example.com"
			e.UserString = "Agent/1.0"
			e.SendingIP = "192.0.2.1"
		})},
	} {
		t.Run(c.kind, func(t *testing.T) {
			// Every column has its name in any case and with spaces around it.
			header := strings.ToUpper(strings.ReplaceAll(columns, ",", " , "))
			got, err := read(t, Settings{Verify: good}, header, c.kind+rest+" good-1 ")
			if err != nil {
				t.Fatal(err)
			}
			if len(got.ID) == 0 {
				t.Error("an event without an id")
			}
			c.want.ID = got.ID
			if !got.Timestamp.Equal(c.want.Timestamp.Time) {
				t.Errorf("got time %s, want %s", got.Timestamp, c.want.Timestamp)
			}
			c.want.Timestamp = got.Timestamp
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

// TestRecordsThatMakeNoEvent: each for its own reason.
func TestRecordsThatMakeNoEvent(t *testing.T) {
	const columns = "type,timeLogged,rcpt,envId,feedbackType,header_x-sp-message-id"
	for _, c := range []struct {
		name   string
		record string
		want   error
		label  string
	}{
		{"transient failure of a queue", "tq,1795500000,a@example.net,,,good-1", ErrIgnored, "ignored"},
		{"received", "r,1795500000,a@example.net,,,good-1", ErrIgnored, "ignored"},
		{"remote status", "rs,1795500000,a@example.net,,,good-1", ErrIgnored, "ignored"},
		{"feedback that is no complaint", "f,1795500000,a@example.net,,not-spam,good-1", ErrIgnored, "ignored"},
		{"no id", "d,1795500000,a@example.net,,,", ErrNoID, "no_id"},
		{"ids of others", "d,1795500000,a@example.net,bad-1,,bad-2", ErrNoID, "no_id"},
		{"no time", "d,,a@example.net,,,good-1", ErrTime, "bad"},
		{"no recipient", "d,1795500000,,,,good-1", ErrNoColumns, "bad"},
		{"a complaint without a recipient", "f,1795500000,,,abuse,good-1", ErrNoRecipient, "no_recipient"},
		{"unknown kind", "D,1795500000,a@example.net,,,good-1", ErrNoColumns, "bad"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := read(t, Settings{Verify: good}, columns, c.record)
			if e != nil || !errors.Is(err, c.want) {
				t.Errorf("got %+v, %v, want %v", e, err, c.want)
			}
			if got := (outcome{err: err}).label(); got != c.label {
				t.Errorf("counted as %q, want %q", got, c.label)
			}
			if got := (outcome{err: err}).isMalformed(); got != (c.label == "bad") {
				t.Errorf("bad: %t, want %t", got, c.label == "bad")
			}
		})
	}
	if got := (outcome{event: &event.Event{Type: event.Bounce}}).label(); got != "bounce" {
		t.Errorf("an event is counted as %q, want bounce", got)
	}
	if got := (outcome{}).label(); got != "" {
		t.Errorf("an empty line is counted as %q, want none", got)
	}
}

func TestMessageIDOfARecord(t *testing.T) {
	const columns = "type,timeLogged,rcpt,envId,header_x-sp-message-id"
	for _, c := range []struct {
		name, env, field string
		verify           Verifier
		want             string
	}{
		{"that of our field", "good-e", "good-f", good, "good-f"},
		{"envId where the field has none", "good-e", " ", good, "good-e"},
		{"envId where the field's is another's", "good-e", "bad", good, "good-e"},
		{"spaces around it", "", "  good-f ", good, "good-f"},
		{"every id counts without keys", "", "bad", nil, "bad"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := read(t, Settings{Verify: c.verify}, columns, "d,1795500000,a@example.net,"+c.env+","+c.field)
			if err != nil || e.MessageID != c.want {
				t.Errorf("got %+v, %v, want %s", e, err, c.want)
			}
		})
	}
}

func TestIDColumn(t *testing.T) {
	named := func(name string) func() string { return func() string { return name } }
	for _, c := range []struct {
		name string
		set  Settings
		want string
	}{
		{"default", Settings{}, "header_x-sp-message-id"},
		{"configured", Settings{MessageIDHeader: named("X-My-ID")}, "header_x-my-id"},
		{"configured as nothing", Settings{MessageIDHeader: named("")}, "header_x-sp-message-id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.set.idColumn(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestRecordsOfOtherTypesByWidth: a record is read by the columns of its type
// where the header line describes another and the number of its fields fits.
func TestRecordsOfOtherTypesByWidth(t *testing.T) {
	cut := func(record string, fields int) string {
		all := strings.Split(strings.TrimSpace(record), ",")
		for len(all) < fields {
			all = append(all, "more")
		}
		return strings.Join(all[:fields], ",")
	}
	for _, c := range []struct {
		name    string
		columns string
		record  string
		want    string // message id, "" for none
	}{
		{"remote bounce", header, cut(remoteBounce, 15), "good-rb"},
		{"remote bounce, a field short", header, cut(remoteBounce, 14), ""},
		{"remote bounce, a field more", header, cut(remoteBounce, 16), ""},
		{"complaint", header, cut(complaint, 13), "good-f"},
		{"complaint without our field", header, cut(complaint, 12), ""},
		{"complaint, a field short", header, cut(complaint, 11), ""},
		{"complaint with more fields", header, cut(complaint, 15), "good-f"},
		{"complaint that the header line describes", header[:len(header)-2] + ",feedbackType\r\n", cut(complaint, 13), ""},
		{"remote bounce that the header line describes", header[:len(header)-2] + ",dsnReportingMTA\r\n", cut(remoteBounce, 15), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := read(t, Settings{Verify: good}, strings.TrimSpace(c.columns), c.record)
			switch {
			case c.want == "" && e != nil:
				t.Errorf("got %+v, want no event", e)
			case c.want != "" && (err != nil || e.MessageID != c.want):
				t.Errorf("got %+v, %v, want the event of %s", e, err, c.want)
			}
		})
	}
}

// TestWhatARecordOfOtherTypesSays, though the header line is of deliveries.
func TestWhatARecordOfOtherTypesSays(t *testing.T) {
	e, err := read(t, Settings{Verify: good, Classes: map[string]int{"bad-mailbox": 30}}, strings.TrimSpace(header), strings.TrimSpace(remoteBounce))
	if err != nil {
		t.Fatal(err)
	}
	if e.BounceClass != "30" || e.MsgFrom != "bounce@example.com" ||
		e.RawReason != "smtp;550 5.1.1 no such user" || e.Timestamp.Unix() != 1795500000 {
		t.Errorf("got %+v, want what the record says and the site's class 30", e)
	}

	e, err = read(t, Settings{Verify: good}, strings.TrimSpace(header), strings.TrimSpace(complaint))
	if err != nil {
		t.Fatal(err)
	}
	if e.UserString != "Agent/1.0" || e.ReportTo != "example.com" || e.ReportBy != "mx.example.net" ||
		e.SendingIP != "192.0.2.10" {
		t.Errorf("got %+v, want what the record says", e)
	}
}

// TestSameWidthIsDecidedByTheID: the number of fields fits the header line and
// the record's own columns; without keys the header line decides.
func TestSameWidthIsDecidedByTheID(t *testing.T) {
	const columns = "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,vmta,jobId,envId,queue"
	byHeader := "rb,1795500000,1795499990,bounce@example.com,h@example.net,,,,,,,,,good-h,q"
	for _, c := range []struct {
		name, record string
		verify       Verifier
		want         string
	}{
		{"by its own columns", strings.TrimSpace(remoteBounce), good, "r1@example.net"},
		{"by the header line", byHeader, good, "h@example.net"},
		{"without keys", byHeader, nil, "h@example.net"},
		{"by neither", strings.Replace(byHeader, "good-h", "bad", 1), good, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := read(t, Settings{Verify: c.verify}, columns, c.record)
			if c.want == "" {
				if !errors.Is(err, ErrNoID) {
					t.Errorf("got %+v, %v, want %v", e, err, ErrNoID)
				}
				return
			}
			if err != nil || e.RcptTo != c.want {
				t.Errorf("got %+v, %v, want the event of %s", e, err, c.want)
			}
		})
	}
}

// TestHeaderLines are known by their first field, in any case, behind a byte
// order mark too.
func TestHeaderLines(t *testing.T) {
	for name, want := range map[string]bool{
		"type": true, "TYPE": true, " type ": true, "\ufefftype": true, "\ufeff Type": true,
		"": false, "d": false, "types": false, "x\ufefftype": false,
	} {
		if got := isHeader([]string{name, "x"}); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
	if isHeader(nil) {
		t.Error("an empty line counts as a header line")
	}

	c := newConverter([]string{"\ufeff Type ", "rcpt", "x", "RCPT"}, Settings{}, newCounts())
	if c.columns[colType] != 0 || c.columns[colRcpt] != 1 || c.has(colDiag) || !c.has(colType) {
		t.Errorf("got columns %v, want the first of each name", c.columns)
	}
}

func TestParseTime(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64 // 0: none
	}{
		{"1", 1},
		{"0", 0},
		{"-1", 0},
		{"253402300799", 253402300799},
		{"253402300800", 0},
		{"2026-11-24 08:00:05+0000", 1795507205},
		{"2026-11-24 08:00:05+0100", 1795503605},
		{"2026-11-24 08:00:05-05:00", 1795525205},
		{"1970-01-01 00:00:01+0000", 1},
		{"1970-01-01 00:00:00+0000", 0},
		{"1960-01-01 00:00:00+0000", 0},
		{"2026-11-24T08:00:05Z", 0},
		{"", 0},
		{"yesterday", 0},
	} {
		got, err := parseTime(c.text)
		switch {
		case c.want == 0 && !errors.Is(err, ErrTime):
			t.Errorf("%q: got %s, %v, want %v", c.text, got, err, ErrTime)
		case c.want != 0 && (err != nil || got.Unix() != c.want):
			t.Errorf("%q: got %s, %v, want %d", c.text, got, err, c.want)
		}
	}
	if _, err := parseTime(strings.Repeat("x", 41)); !strings.HasSuffix(err.Error(), `"`+strings.Repeat("x", 40)+`"`) {
		t.Errorf("got %q, want 40 of its bytes", err)
	}
}

// TestClockReadsEachTime: a time that was read before is known, others are not.
func TestClockReadsEachTime(t *testing.T) {
	var c clock
	for _, step := range []struct {
		text string
		want int64
	}{{"", 0}, {"100", 100}, {"100", 100}, {"200", 200}, {"x", 0}, {"200", 200}, {"", 0}} {
		got, err := c.read(step.text)
		if (err != nil) != (step.want == 0) || err == nil && got.Unix() != step.want {
			t.Errorf("%q: got %s, %v, want %d", step.text, got, err, step.want)
		}
	}
}

func TestReplyCode(t *testing.T) {
	for text, want := range map[string]string{
		"550": "550", "250 ok": "250", "421-later": "421", "200": "200", "599 x": "599", "509": "509", "590": "590",
		"": "", "55": "", "5500": "", "550x": "", "150 x": "", "650 x": "", "5a0 x": "", "55a x": "", "a50 x": "",
		"5/0 x": "", "5:0 x": "", "55/ x": "", "55: x": "", " 550": "",
	} {
		if got := replyCode(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestIsAtom(t *testing.T) {
	for text, want := range map[string]bool{
		"smtp": true, "a": true, "z": true, "A": true, "Z": true, "x-a": true, "x0": true, "x9": true,
		"": false, "0x": false, "-x": false, "x y": false, "x/": false, "x:": false,
		"`": false, "{": false, "@": false, "[": false, "x`": false, "x{": false, "x@": false, "x[": false, "é": false,
	} {
		if got := isAtom(text); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
	for diag, want := range map[string]string{
		" smtp ; 550 no ": "550 no",
		"smtp;":           "",
		"a b; no":         "a b; no",
	} {
		if got := diagnostic(diag); got != want {
			t.Errorf("%q: got %q, want %q", diag, got, want)
		}
	}
}

// TestReasonOfAFailure: what the receiving system said, else its status.
func TestReasonOfAFailure(t *testing.T) {
	const columns = "type,timeLogged,rcpt,dsnStatus,dsnDiag,header_x-sp-message-id"
	long := strings.Repeat("x", 4100)
	for _, c := range []struct {
		name, status, diag string
		reason, raw        string
	}{
		{"a reply", "5.1.1", "smtp;550 no", "550 no", "smtp;550 no"},
		{"a reply without words", "5.1.1", "smtp;", "5.1.1", "smtp;"},
		{"a status alone", "5.1.1", "", "5.1.1", "5.1.1"},
		{"nothing", "", "", "", "unknown"},
		{"a long reply", "5.1.1", long, long[:4000], long[:4000]},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := read(t, Settings{}, columns, "b,1795500000,a@example.net,"+c.status+","+c.diag+",id")
			if err != nil || e.Reason != c.reason || e.RawReason != c.raw {
				t.Errorf("got %.60q of %.60q, %v, want %.60q of %.60q", e.Reason, e.RawReason, err, c.reason, c.raw)
			}
		})
	}
}

func TestSizesAndTimesInQueue(t *testing.T) {
	const columns = "type,timeLogged,rcpt,dlvSize,totalSecondsQueued,timeQueued,header_x-sp-message-id"
	for _, c := range []struct {
		name, fields string
		size, queued string
	}{
		{"both", "1234,2.5,", "1234", "2500"},
		{"leading zeros", "0012,0,", "12", "0"},
		{"the largest size", "9223372036854775807,,", "9223372036854775807", ""},
		{"a size that is too large", "9223372036854775808,,", "", ""},
		{"no number", "x,x,", "", ""},
		{"just believed", ",999999999,", "", "999999999000"},
		{"no more", ",1000000000,1795499999", "", "1000"},
		{"from the time of queueing", ",,1795499988", "", "12000"},
		{"negative", ",-0.001,1795499999", "", "1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := read(t, Settings{}, columns, "d,1795500000,a@example.net,"+c.fields+",id")
			if err != nil || e.MsgSize != c.size || e.QueueTime != c.queued {
				t.Errorf("got %q and %q, %v, want %q and %q", e.MsgSize, e.QueueTime, err, c.size, c.queued)
			}
		})
	}
}

// TestRetriesByMessageAndRecipient: each recipient of a message has its own
// count, which ends with the last attempt.
func TestRetriesByMessageAndRecipient(t *testing.T) {
	r := newReader(Settings{}, newCounts())
	text := "type,timeLogged,rcpt,header_x-sp-message-id\n"
	steps := []string{"t a m", "t a m", "t b m", "t a n", "d a m", "b b m", "d a m", "t a n", "b a n"}
	want := "0 1 0 0 2 1 0 1 2"
	for _, s := range steps {
		f := strings.Fields(s)
		text += fmt.Sprintf("%s,1795500000,%s@example.net,%s\n", f[0], f[1], f[2])
	}

	var got []string
	r.begin([]byte(text), true)
	for o, ok := r.next(); ok; o, ok = r.next() {
		if o.event != nil {
			got = append(got, o.event.NumRetries)
		}
	}
	if strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestCountsAreBounded: two generations are kept, and what is older forgotten.
func TestCountsAreBounded(t *testing.T) {
	t.Parallel()

	c := newCounts()
	fill := func(from, n int) {
		for i := range n {
			c.begin()
			c.add(fmt.Sprint("key ", from+i))
		}
	}
	c.add("old")
	fill(0, maxCounts-1)
	if len(c.now) != 200_000 || len(c.before) != 0 {
		t.Fatalf("got %d and %d counts, want 200000 in one generation", len(c.now), len(c.before))
	}

	c.add("one more")
	if len(c.now) != 1 || len(c.before) != maxCounts {
		t.Errorf("got %d and %d counts, want a new generation", len(c.now), len(c.before))
	}
	if n := c.add("old"); n != 1 {
		t.Errorf("got %d of the generation before, want 1", n)
	}
	if n := c.take("old"); n != 2 {
		t.Errorf("got %d once it was counted again, want 2", n)
	}
	if n := c.take("old"); n != 0 {
		t.Errorf("got %d once it was taken, want 0", n)
	}
}

// TestCountsRollBack to what they were, in whichever generation that was.
func TestCountsRollBack(t *testing.T) {
	c := &counts{now: map[string]int{"a": 1, "b": 2}, before: map[string]int{"c": 3}}
	c.begin()
	c.add("a")
	c.add("a")
	c.take("b")
	c.take("c")
	c.add("d")
	c.rollback()
	if len(c.now) != 3 || len(c.before) != 0 {
		t.Errorf("%d and %d counts are kept, want 3", len(c.now), len(c.before))
	}
	for key, want := range map[string]int{"a": 1, "b": 2, "c": 3, "d": 0} {
		if got := c.take(key); got != want {
			t.Errorf("%s: got %d, want %d", key, got, want)
		}
	}

	c = newCounts()
	c.add("a")
	c.begin() // that is counted for good
	c.add("a")
	c.rollback()
	if got := c.take("a"); got != 1 {
		t.Errorf("got %d, want what was counted before begin", got)
	}
}

// TestEventIDsArePlacesAndFields: the same record at the same place is the same
// event, and nothing else is.
func TestEventIDsArePlacesAndFields(t *testing.T) {
	a := eventID([]string{"d", "x"}, 10)
	if b := eventID([]string{"d", "x"}, 10); a != b || a == "" {
		t.Errorf("got %q and %q of one record", a, b)
	}
	for _, other := range []string{
		eventID([]string{"d", "x"}, 11),
		eventID([]string{"d", "y"}, 10),
		eventID([]string{"dx"}, 10),
	} {
		if other == a {
			t.Errorf("got %q of another record", other)
		}
	}
}

// TestEventIDsStay: ids that were written by earlier versions are the same.
func TestEventIDsStay(t *testing.T) {
	if got, want := eventID([]string{"d", "x"}, 10), event.StableID("10", "d", "x"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
