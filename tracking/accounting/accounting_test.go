package accounting

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/tracking/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const header = "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool,header_X-Sp-Message-Id\r\n"

const delivered = `d,2026-11-24 08:00:05+0000,2026-11-24 08:00:00+0000,bounce@example.com,reader@example.net,,relayed,2.0.0 (success),"smtp;250 2.0.0 OK, ""queued""",mx.example.net (192.0.2.9),,smtp,app (10.0.0.1),smtp,192.0.2.10,192.0.2.9,"PIPELINING,8BITMIME",1234,mta1,spring_sale,,example.net/mta1,pool1,good-1` + "\r\n"

func bounced(id, category, status, diag string) string {
	return fmt.Sprintf("b,1795500000,1795499990,bounce@example.com,reader@example.net,,failed,%s,\"%s\",mx (192.0.2.9),%s,smtp,x,smtp,192.0.2.10,,,,mta1,job,%s,q,pool1,\r\n", status, diag, category, id)
}

// memory keeps events, and fails where it is told to.
type memory struct {
	events []*event.Event
	broken bool
}

func (m *memory) Record(_ context.Context, es ...*event.Event) error {
	if m.broken {
		return errors.New("disk on fire")
	}
	m.events = append(m.events, es...)
	return nil
}

func good(id string) bool { return strings.HasPrefix(id, "good") }

func follower(t *testing.T, dir string, m *memory) *Follower {
	t.Helper()
	f, err := New(Config{
		Globs:        []string{filepath.Join(dir, "acct*.csv")},
		Dir:          filepath.Join(dir, "state"),
		Settings:     Settings{Verify: good},
		Events:       m,
		OffsetsFS:    &disk{},
		QuarantineFS: &disk{},
		Log:          silent,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func poll(t *testing.T, f *Follower) {
	t.Helper()
	if err := f.Poll(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestRecords(t *testing.T) {
	for _, c := range []struct {
		name, record string
		typ          event.Type
		err          error
		check        func(*event.Event) bool
	}{
		{"delivered", delivered, event.Delivery, nil, func(e *event.Event) bool {
			return e.MessageID == "good-1" && e.QueueTime == "5000" && e.NumRetries == "0" && e.Binding == "mta1" && e.BindingGroup == "pool1" && e.SendingIP == "192.0.2.10" &&
				e.CampaignID == "spring_sale" && e.MsgSize == "1234" && e.RoutingDomain == "example.net" && e.IPAddress == "192.0.2.9" && e.Timestamp.Unix() == 1795507205
		}},
		{"bounced, id by envId, Unix seconds", bounced("good-2", "bad-mailbox", "5.1.1 (bad destination mailbox address)", "smtp;550 5.1.1 no such user"), event.Bounce, nil, func(e *event.Event) bool {
			return e.MessageID == "good-2" && e.BounceClass == "10" && e.ErrorCode == "550" && e.Reason == "550 5.1.1 no such user" && e.RawReason == "smtp;550 5.1.1 no such user" && e.QueueTime == "10000"
		}},
		{"transient", strings.Replace(bounced("good-3", "quota-issues", "4.2.2 (full)", "smtp;452 4.2.2 full"), "b,", "t,", 1), event.Delay, nil, func(e *event.Event) bool {
			return e.BounceClass == "22" && e.ErrorCode == "452" && e.NumRetries == "0"
		}},
		{"remote bounce", "rb" + bounced("good-4", "other", "5.7.1", "smtp;550 5.7.1 blocked using spamhaus")[1:], event.OutOfBand, nil, func(e *event.Event) bool {
			return e.BounceClass == "51" && e.MsgFrom == "bounce@example.com"
		}},
		{"feedback", "f" + bounced("good-5", "", "", "")[1:], event.SpamComplaint, nil, func(e *event.Event) bool { return e.FeedbackType == "abuse" }},
		{"received is reported by the gateway", "r" + bounced("good-6", "", "", "")[1:], "", ErrIgnored, nil},
		{"queue failure", "tq" + bounced("good-6", "", "", "")[1:], "", ErrIgnored, nil},
		{"somebody else's id", bounced("bad-1", "other", "5.0.0", "x"), "", ErrNoID, nil},
		{"no id", bounced("", "other", "5.0.0", "x"), "", ErrNoID, nil},
		{"bad time", strings.Replace(bounced("good-7", "other", "5.0.0", "x"), "1795500000", "yesterday", 1), "", ErrTime, nil},
		{"unknown type", "zz" + bounced("good-8", "", "", "")[1:], "", ErrNoColumns, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			appendTo(t, filepath.Join(dir, "acct.csv"), header+c.record)
			f := follower(t, dir, m)
			poll(t, f)
			if c.err != nil {
				if len(m.events) != 0 {
					t.Errorf("%+v", m.events[0])
				}
				_, aside := os.Stat(filepath.Join(dir, "state", "bad.csv"))
				if wantAside := errors.Is(c.err, ErrTime) || errors.Is(c.err, ErrNoColumns); (aside == nil) != wantAside {
					t.Errorf("quarantined: %v", aside)
				}
				return
			}
			if len(m.events) != 1 || m.events[0].Type != c.typ || !c.check(m.events[0]) {
				t.Fatalf("%d events: %+v", len(m.events), m.events)
			}
			line, err := m.events[0].Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := event.Decode(line); err != nil {
				t.Errorf("%v: %s", err, line)
			}
		})
	}
}

func ids(m *memory) map[string]int {
	out := map[string]int{}
	for _, e := range m.events {
		out[e.ID]++
	}
	return out
}

// TestFollow grows a file, cuts a record in the middle, rotates, truncates and
// restarts.
func TestFollow(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	file := filepath.Join(dir, "acct.csv")
	f := follower(t, dir, m)
	expect := func(what string, n int) {
		t.Helper()
		poll(t, f)
		if len(m.events) != n {
			t.Fatalf("%s: %d events, want %d", what, len(m.events), n)
		}
	}
	expect("no file", 0)
	appendTo(t, file, header+delivered)
	expect("one record", 1)
	expect("nothing new", 1)
	appendTo(t, file, delivered[:100])
	expect("half a record", 1)
	appendTo(t, file, delivered[100:])
	expect("the other half", 2)
	appendTo(t, file, bounced("good-2", "other", "5.0.0", "smtp;550 line one\nline two"))
	expect("a line end in quotes", 3)
	open := bounced("good-2", "other", "5.0.0", "smtp;550 line one\nline two")
	appendTo(t, file, open[:strings.Index(open, "\n")+1])
	expect("quotes that are not closed yet", 3)
	appendTo(t, file, open[strings.Index(open, "\n")+1:])
	expect("and then are", 4)
	f = follower(t, dir, m)
	expect("a restart", 4)
	if err := os.Rename(file, filepath.Join(dir, "acct-2026-11-24-0000.csv")); err != nil {
		t.Fatal(err)
	}
	appendTo(t, file, header+delivered)
	expect("rotation", 5)
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	expect("truncation", 5)
	appendTo(t, file, header)
	appendTo(t, file, "nonsense \" here\r\n"+delivered)
	expect("a bad line stops nothing", 6)
}

// TestSameRecordSameEvent: what is read again, since the offsets were lost, is
// the same event; the same words at another place are another.
func TestSameRecordSameEvent(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+delivered+delivered)
	poll(t, follower(t, dir, m))
	if err := os.WriteFile(filepath.Join(dir, "state", "offsets.json"), []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	poll(t, follower(t, dir, m))
	if got := ids(m); len(m.events) != 4 || len(got) != 2 {
		t.Errorf("%d events with %d ids", len(m.events), len(got))
	}
}

func TestNothingIsLostWhereTheSpoolFails(t *testing.T) {
	dir, m := t.TempDir(), &memory{broken: true}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+delivered)
	f := follower(t, dir, m)
	if err := f.Poll(context.Background()); err == nil {
		t.Error("no word of the failure")
	}
	m.broken = false
	poll(t, f)
	if len(m.events) != 1 {
		t.Errorf("%d events", len(m.events))
	}
}

func TestRetriesAreCounted(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	transient := strings.Replace(bounced("good-1", "other", "4.0.0", "smtp;450 later"), "b,", "t,", 1)
	appendTo(t, filepath.Join(dir, "acct.csv"), header+transient+transient+delivered+delivered)
	poll(t, follower(t, dir, m))
	var got []string
	for _, e := range m.events {
		got = append(got, e.NumRetries)
	}
	if strings.Join(got, " ") != "0 1 2 0" {
		t.Errorf("retries %v", got)
	}
}

// FuzzFollow: a file makes the events that --print makes of it, as far as its
// last record is whole, and each of them once; all of them can be uploaded.
func FuzzFollow(f *testing.F) {
	f.Add(header + delivered)
	f.Add("type,rcpt\nd,\"a\nb\n")
	f.Add("type\n\"\nd\n")
	f.Add(header + torn + "\r\n" + clean(1) + otherTypes + torn)
	f.Fuzz(func(t *testing.T, text string) {
		dir, m := t.TempDir(), &memory{}
		if err := os.WriteFile(filepath.Join(dir, "acct.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fl := follower(t, dir, m)
		defer fl.closeAll()
		poll(t, fl)
		n := len(m.events)
		poll(t, fl)
		if len(m.events) != n {
			t.Fatal("a second look makes further events")
		}

		printed, _, _ := printedEvents(t, strings.NewReader(text))
		if len(printed) < n {
			t.Fatalf("%d events, --print has %d", n, len(printed))
		}
		for i, e := range m.events {
			if printed[i].ID != e.ID {
				t.Fatalf("event %d is %+v, --print has %+v", i, e, printed[i])
			}
			line, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := event.Decode(line); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
		}
	})
}

func BenchmarkConvert(b *testing.B) {
	f, err := New(Config{Dir: b.TempDir(), Settings: Settings{Verify: good}, Log: silent})
	if err != nil {
		b.Fatal(err)
	}
	data := []byte(strings.Repeat(delivered, 1000))
	s := &fileState{Header: strings.Split(strings.TrimSpace(header), ",")}
	b.SetBytes(int64(len(data)))
	n := 0
	start := time.Now()
	for b.Loop() {
		f.retries.begin()
		n += len(f.convertBlock("x", s, data, false).events)
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "records/s")
}
