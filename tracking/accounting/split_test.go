package accounting

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/tracking/event"
)

// clean is a delivery without quotes.
func clean(n int) string {
	return fmt.Sprintf("d,1795500000,1795499990,bounce@example.com,r%d@example.net,,relayed,2.0.0,smtp;250 OK,mx,,smtp,x,smtp,192.0.2.10,,,,mta1,job,,q,pool1,good-%d\r\n", n, n)
}

// remoteBounce and complaint have the fields that PowerMTA writes of their types
// (User's Guide, section 11.2), and so have otherTypes; files have the header
// line of deliveries.
const (
	remoteBounce = "rb,1795500000,bounce@example.com,r1@example.net,,failed,5.1.1 (bad destination mailbox address)," +
		"smtp;550 5.1.1 no such user,mx.example.net (192.0.2.1),mx.example.net,bad-mailbox,smtp,mx.example.net,good-rb,dsn\r\n"
	complaint = "f,1795500000,192.0.2.1,abuse,arf,Agent/1.0,,bounce@example.com,r1@example.net,mx.example.net," +
		"192.0.2.10,example.com,good-f\r\n"
	otherTypes = remoteBounce + complaint +
		"r,1795500000,bounce@example.com,r1@example.net,,smtp,client,192.0.2.7,192.0.2.8,mta1,job,good-r\r\n" +
		"tq,1795500000,4.4.1,smtp;421 later,mx.example.net,smtp,192.0.2.10,192.0.2.1,mta1,example.net/mta1\r\n" +
		"rs,1795500000,bounce@example.com,r1@example.net,,delayed,4.4.1,,mx,mx,,smtp,mx.example.net,good-rs,dsn\r\n"
)

func cleans(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(clean(i))
	}

	return b.String()
}

// torn is the beginning of a record, as far as an open quote.
var torn = delivered[:strings.Index(delivered, `"smtp;250 2.0`)+len(`"smtp;250 2.0`)]

func badLines(t *testing.T, dir string) string {
	t.Helper()

	var out []byte
	names, _ := filepath.Glob(filepath.Join(dir, "state", "bad*.csv"))
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}

	return string(out)
}

// TestBadLinesStopNothing: whatever is between good records, they make their
// events, by the file, by the pipe and by --print, and the line is quarantined
// with number and reason.
func TestBadLinesStopNothing(t *testing.T) {
	t.Parallel()

	reordered := "type,rcpt,timeLogged,HEADER_X-SP-MESSAGE-ID\r\nd,a@example.net,1795500000,good-re\r\n"

	for _, c := range []struct {
		name   string
		text   string
		events int
		bad    string // "" for none
	}{
		{"torn with an open quote", header + torn + "\r\n" + cleans(2000), 2000, ":2: a quote is open"},
		{"torn, records with quotes behind it", header + torn + "\n" + delivered + cleans(3) + delivered, 5, ":2: a quote is open"},
		{"torn and glued to the next", header + torn + delivered + cleans(3), 3, ":2: "},
		{"torn without a quote", header + delivered[:60] + "\r\n" + cleans(3), 3, "fields for 24 columns"},
		{"torn before a header line", header + torn + "\n" + header + cleans(3), 3, ":2: a quote is open"},
		{"torn, then two multi-line records", header + torn + "\r\n" + strings.Repeat(bounced("good-2", "other", "5.0.0", "smtp;550 one\ntwo"), 2), 2, ":2: "},
		{"a quote within a field", header + clean(1) + strings.Replace(clean(2), "smtp;250 OK", `smtp;250 "OK"`, 1) + clean(3), 2, ":3: a quote within a field"},
		{"a stray quote", header + clean(1) + "\"\r\n" + cleans(500), 501, ":3: "},
		{"a NUL byte", header + clean(1) + strings.Replace(clean(2), "job", "j\x00b", 1) + clean(3), 2, ":3: a NUL byte"},
		{"a run of NUL bytes", header + clean(1) + strings.Repeat("\x00", 4096) + clean(2) + clean(3), 3, ":3: a NUL byte"},
		{"a long run of NUL bytes", header + clean(1) + strings.Repeat("\x00", 200<<10) + clean(2), 2, ":3: a NUL byte"},
		{"a line of NUL bytes", header + clean(1) + "\x00\x00\n" + clean(2), 2, ":3: a NUL byte"},
		{"records of other types", header + clean(1) + otherTypes + clean(2), 4, ""},
		{"other types in front", header + otherTypes + otherTypes + clean(1), 5, ""},
		{"a remote bounce that was cut", header + remoteBounce[:60] + "\r\n" + clean(1), 1, ":2: record does not fit"},
		{"a complaint that was cut", header + complaint[:60] + "\r\n" + clean(1), 1, ":2: record does not fit"},
		{"a header line that describes remote bounces", header[:len(header)-2] + ",dsnReportingMTA\r\n" + remoteBounce, 0,
			":2: record does not fit"},
		{"longer than 64 KiB", header + clean(1) + "d," + strings.Repeat("x", 300<<10) + "\r\n" + clean(2), 2, ":3: a record longer than"},
		{"longer than 64 KiB in quotes", header + clean(1) + `d,"` + strings.Repeat("x", 300<<10) + "\",\r\n" + clean(2), 2, ":3: a record longer than"},
		{"many short lines in quotes", header + clean(1) + `d,"` + strings.Repeat("xxxx\r\n", 20<<10) + "\"\r\n" + clean(2), 2, ":3: a quote is open"},
		{"carriage returns alone", header + clean(1) + strings.ReplaceAll(cleans(3), "\r\n", "\r") + "\r\n" + clean(2), 2, "fields for 24 columns"},
		{"unknown type", header + "zz" + clean(1)[1:] + clean(2), 1, `:2: record does not fit its header line: type "zz"`},
		{"a header line in the middle", header + clean(1) + header + clean(2), 2, ""},
		{"columns in another order in the middle", header + clean(1) + reordered + header + clean(2), 3, ""},
		{"names in other case, with spaces", strings.ToUpper(header) + clean(1) + strings.ReplaceAll(header, ",", " , ") + clean(2), 2, ""},
		{"a byte order mark", "\ufeff" + header + clean(1), 1, ""},
		{"a byte order mark before a quoted name", "\ufeff\"type\"" + header[len("type"):] + clean(1), 1, ""},
		{"byte order marks in the middle", header + "\ufeff" + clean(1) + "\ufeff" + header + clean(2), 2, ""},
		{"several lines in a field", header + bounced("good-2", "other", "5.0.0", "smtp;550 one\r\ntwo\r\n\r\nthree") + clean(2), 2, ""},
		{"a quoted line like a record", header + bounced("good-2", "other", "5.0.0", "smtp;550 one\nd,1,2\nthree") + clean(2), 2, ""},
		{"empty lines", "\r\n\n" + header + "\r\n\r\n" + clean(1) + "\n" + clean(2), 2, ""},
		{"line feeds alone", strings.ReplaceAll(header+cleans(3), "\r\n", "\n"), 3, ""},
		{"empty fields behind", header + strings.Replace(clean(1), "good-1", "good-1,,", 1), 1, ""},
		{"no header line", cleans(1) + header + clean(2), 1, ":1: no header line before it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := func(how string, m *memory, bad string) {
				t.Helper()
				if len(m.events) != c.events {
					t.Errorf("%s: %d events, want %d", how, len(m.events), c.events)
				}
				if c.bad == "" && bad != "" || !strings.Contains(bad, c.bad) {
					t.Errorf("%s: bad lines %.300q, want %q", how, bad, c.bad)
				}
				if strings.Contains(bad, "<nil>") {
					t.Errorf("%s: a reason is missing: %.300q", how, bad)
				}
			}

			dir, m := t.TempDir(), &memory{}
			appendTo(t, filepath.Join(dir, "acct.csv"), c.text)
			f := follower(t, dir, m)
			defer f.closeAll()
			poll(t, f)
			check("file", m, badLines(t, dir))

			dir, m = t.TempDir(), &memory{}
			if err := Pipe(context.Background(), strings.NewReader(c.text), unsynced(dir), silent); err != nil {
				t.Fatal(err)
			}
			p := piped(t, dir, m)
			poll(t, p)
			poll(t, p)
			check("pipe", m, badLines(t, dir))
			if names := pipeFiles(t, dir); len(names) != 0 {
				t.Errorf("pipe: left %v", names)
			}

			m = &memory{}
			if err := Print(strings.NewReader(c.text), "x", Settings{Verify: good}, silent, func(e *event.Event) error {
				m.events = append(m.events, e)
				return nil
			}); err != nil {
				t.Error(err)
			}
			check("--print", m, c.bad)
		})
	}
}

// TestRecordWithoutEnd waits while its file may grow, and is quarantined once
// it was rotated; what comes after all is read all the same.
func TestRecordWithoutEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		tail   string
		rotate bool
		after  time.Duration // since the file was written to
		events int
		bad    string
	}{
		{"it may grow", torn, false, time.Minute, 1, ""},
		{"it has not grown for long", torn, false, 6 * time.Minute, 1, ":3: the file ends within a record"},
		{"rotated, and still written to", torn, true, time.Second, 1, ""},
		{"rotated", torn, true, time.Minute, 1, ":3: the file ends within a record"},
		{"rotated, several lines", torn + "\r\nx\r\n", true, time.Minute, 1, ":3: a quote is open"},
		{"rotated, the record has all its fields", strings.TrimRight(clean(2), "\r\n"), true, time.Minute, 2, ""},
		{"rotated, cut in the middle", clean(2)[:70], true, time.Minute, 1, ":3: the file ends within a record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			name := filepath.Join(dir, "acct.csv")
			appendTo(t, name, header+clean(1)+c.tail)
			f := follower(t, dir, m)
			defer f.closeAll()
			poll(t, f)
			if c.rotate {
				moved := filepath.Join(dir, "acct-0001.csv")
				if err := os.Rename(name, moved); err != nil {
					t.Fatal(err)
				}
				name = moved
			}

			f.c.Now = func() time.Time { return time.Now().Add(c.after) }
			for range 3 {
				poll(t, f)
			}
			bad := badLines(t, dir)
			if len(m.events) != c.events || c.bad == "" && bad != "" || !strings.Contains(bad, c.bad) ||
				strings.Count(bad, "ends within") > 1 {
				t.Errorf("%d events, bad lines %q; want %d and %q", len(m.events), bad, c.events, c.bad)
			}

			if c.tail == torn && !c.rotate { // it grows after all
				f.c.Now = time.Now
				appendTo(t, name, delivered[len(torn):]+clean(3))
				poll(t, f)
				if len(m.events) != 3 {
					t.Errorf("%d events once the record had its end, want 3", len(m.events))
				}
			}
		})
	}
}

// TestPipeHoldsBackNoRecords: behind a stray quote records are durable at once.
func TestPipeHoldsBackNoRecords(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Pipe(context.Background(), r, PipeTarget{Dir: filepath.Join(dir, "pipe")}, silent) }()
	f := piped(t, dir, m)
	if _, err := io.WriteString(w, header+torn+"\r\n"+cleans(10)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for len(m.events) < 10 && time.Now().Before(deadline) {
		poll(t, f)
	}
	if len(m.events) != 10 {
		t.Errorf("%d events while the pipe is open, want 10", len(m.events))
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPipeLosesAPart: of two records a part is lost in the middle; what is left
// of them is not taken for one record.
func TestPipeLosesAPart(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	p := newPipe(unsynced(dir), silent)
	if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	other := strings.Replace(delivered, "good-1", "good-2", 1)
	at := len(torn)
	p.add(ctx, []byte(header+delivered[:at]))
	p.lost = 100
	p.push(ctx, []byte(other[at:]+clean(3)))
	p.add(ctx, <-p.chunks)
	p.close()

	poll(t, piped(t, dir, m))
	if len(m.events) != 1 || m.events[0].MessageID != "good-3" {
		t.Errorf("%d events: %+v, want that of good-3", len(m.events), m.events)
	}
}

// TestPipeHeaderChanges: the columns that a file begins with are those of its
// first record.
func TestPipeHeaderChanges(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	p := newPipe(unsynced(dir), silent)
	if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	short := "type,rcpt,timeLogged,header_x-sp-message-id\r\n"
	p.add(context.Background(), []byte(header+clean(1)+short+"d,a@example.net,1795500000,good-2\r\n"))
	p.size = maxPipeBytes + 1
	p.add(context.Background(), []byte("d,b@example.net,1795500000,good-3\r\n"))
	p.close()

	poll(t, piped(t, dir, m))
	if len(m.events) != 3 {
		t.Errorf("%d events, want 3", len(m.events))
	}
}

// TestMessageIDColumn is named after the configured field, in any case.
func TestMessageIDColumn(t *testing.T) {
	for _, field := range []string{"X-My-Id", "x-my-id", "X-MY-ID"} {
		dir, m := t.TempDir(), &memory{}
		text := strings.Replace(header, "header_X-Sp-Message-Id", "header_X-My-Id", 1) + clean(1)
		appendTo(t, filepath.Join(dir, "acct.csv"), text)
		set := Settings{Verify: good, MessageIDHeader: func() string { return field }}
		f, err := New(Config{Globs: []string{filepath.Join(dir, "acct*.csv")}, Dir: filepath.Join(dir, "state"), Settings: set, Events: m, Log: silent})
		if err != nil {
			t.Fatal(err)
		}
		poll(t, f)
		f.closeAll()
		n := 0
		if err := Print(strings.NewReader(text), "x", set, silent, func(*event.Event) error { n++; return nil }); err != nil {
			t.Error(err)
		}
		if len(m.events) != 1 || n != 1 {
			t.Errorf("%s: %d events, %d printed, want 1", field, len(m.events), n)
		}
	}
}

func TestFeedback(t *testing.T) {
	const columns = "type,timeLogged,feedbackType,rcpt,header_x-sp-message-id\n"
	for _, c := range []struct {
		record string
		fbtype string // "" for no event
	}{
		{"f,1795500000,abuse,a@example.net,good-1", "abuse"},
		{"f,1795500000,Opt-Out,a@example.net,good-1", "opt-out"},
		{"f,1795500000,,a@example.net,good-1", "abuse"},
		{"f,1795500000,not-spam,a@example.net,good-1", ""},
		{"f,1795500000,auth-failure,a@example.net,good-1", ""},
		{"f,1795500000,dmarc,a@example.net,good-1", ""},
		{"f,1795500000,abuse,,good-1", ""}, // redacted
	} {
		dir, m := t.TempDir(), &memory{}
		appendTo(t, filepath.Join(dir, "acct.csv"), columns+c.record+"\n")
		f := follower(t, dir, m)
		poll(t, f)
		f.closeAll()
		got := ""
		if len(m.events) > 0 {
			got = m.events[0].FeedbackType
		}
		if got != c.fbtype || badLines(t, dir) != "" {
			t.Errorf("%s: %q, bad lines %q; want %q and none", c.record, got, badLines(t, dir), c.fbtype)
		}
	}
}

func TestDiagnosticType(t *testing.T) {
	for diag, want := range map[string]string{
		"smtp;550 5.1.1 no":                  "550 5.1.1 no",
		"smtp; 550 5.1.1 no; really":         "550 5.1.1 no; really",
		"X-Postfix; unknown user":            "unknown user",
		"550 5.1.1 user unknown; contact us": "550 5.1.1 user unknown; contact us",
		"550;no":                             "550;no",
		"timed out":                          "timed out",
		"; nothing":                          "; nothing",
		"":                                   "",
	} {
		if got := diagnostic(diag); got != want {
			t.Errorf("%q: %q, want %q", diag, got, want)
		}
	}

	dir, m := t.TempDir(), &memory{}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+bounced("good-1", "other", "5.1.1", "550 5.1.1 user unknown; contact postmaster"))
	poll(t, follower(t, dir, m))
	if len(m.events) != 1 || m.events[0].BounceClass != "10" || m.events[0].ErrorCode != "550" {
		t.Errorf("%+v, want class 10 and code 550", m.events)
	}
}

// TestTimesInQueue: whatever the columns hold, the event can be uploaded.
func TestTimesInQueue(t *testing.T) {
	const columns = "type,timeLogged,timeQueued,totalSecondsQueued,rcpt,header_x-sp-message-id\n"
	for record, want := range map[string]string{
		"d,1795500000,1795500005,,a@example.net,good-1":    "0", // before it was queued
		"d,1795500000,1795499990,-3,a@example.net,good-1":  "10000",
		"d,1795500000,1795499990,2.5,a@example.net,good-1": "2500",
		"d,1795500000,,Inf,a@example.net,good-1":           "",
		"d,1795500000,,NaN,a@example.net,good-1":           "",
		"d,1795500000,,1e300,a@example.net,good-1":         "",
	} {
		dir, m := t.TempDir(), &memory{}
		appendTo(t, filepath.Join(dir, "acct.csv"), columns+record+"\n")
		poll(t, follower(t, dir, m))
		if len(m.events) != 1 || m.events[0].QueueTime != want {
			t.Errorf("%s: %+v, want queue_time %q", record, m.events, want)
			continue
		}
		line, err := m.events[0].Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := event.Decode(line); err != nil {
			t.Errorf("%s: %v", record, err)
		}
	}
	if _, err := parseTime("1795500000000"); !errors.Is(err, ErrTime) {
		t.Errorf("milliseconds: %v, want %v", err, ErrTime)
	}
}

// TestRetriesAreCountedOnce: what is read again, for it could not be recorded,
// is not counted again.
func TestRetriesAreCountedOnce(t *testing.T) {
	dir, m := t.TempDir(), &memory{broken: true}
	transient := strings.Replace(bounced("good-1", "other", "4.0.0", "smtp;450 later"), "b,", "t,", 1)
	appendTo(t, filepath.Join(dir, "acct.csv"), header+transient+transient)
	f := follower(t, dir, m)
	defer f.closeAll()
	for range 3 {
		if err := f.Poll(context.Background()); err == nil {
			t.Error("no word of the failure")
		}
	}
	m.broken = false
	poll(t, f)
	if len(m.events) != 2 || m.events[0].NumRetries != "0" || m.events[1].NumRetries != "1" {
		t.Errorf("%+v, want retries 0 and 1", m.events)
	}
}

// TestBadLinesThatCannotBeWritten hold up the rest for a few polls only.
func TestBadLinesThatCannotBeWritten(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+"zz,bad line\r\n"+clean(1))
	f := follower(t, dir, m)
	defer f.closeAll()
	if err := os.MkdirAll(filepath.Join(dir, "state", "bad.csv"), 0o700); err != nil { // a folder in its place
		t.Fatal(err)
	}
	for range quarantineTries {
		_ = f.Poll(context.Background())
	}
	if len(m.events) != 1 {
		t.Errorf("%d events, want 1", len(m.events))
	}
}

// TestBrokenOffsets: any damage is found, the file is renamed, and all is read
// from the start.
func TestBrokenOffsets(t *testing.T) {
	t.Parallel()

	dir, m := t.TempDir(), &memory{}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+cleans(3))
	f := follower(t, dir, m)
	poll(t, f)
	f.closeAll()
	name := filepath.Join(dir, "state", "offsets.json")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	damaged := [][]byte{nil, []byte("null"), []byte(`{"1:2":null}`), []byte(`{"sum":"00000000","files":null}`), whole[:len(whole)/2]}
	for i := 0; i < len(whole); i += 7 {
		b := slices.Clone(whole)
		b[i] ^= 1
		damaged = append(damaged, b)
	}
	for _, b := range damaged {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &memory{}
		f := follower(t, dir, m)
		poll(t, f)
		f.closeAll()
		if _, err := os.Stat(name + ".broken"); len(m.events) != 3 && err == nil {
			t.Fatalf("%q: %d events, want 3", b, len(m.events))
		}
		if len(m.events) != 3 && !bytes.EqualFold(b, whole) {
			t.Fatalf("%q is taken for what was written", b)
		}
		os.Remove(name + ".broken")
	}
}

// FuzzSplit compares with encoding/csv: what that reads without a complaint is
// read in the same way.
func FuzzSplit(f *testing.F) {
	f.Add(header + delivered + bounced("good-2", "other", "5.0.0", "one\r\ntwo"))
	f.Add("type,a\nd,\"x\"\"y\"\n")
	f.Add("a,\"b\nc\",d\r\n\r\n,\n\"\",\"\"")
	f.Add("a\rb,c\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := csv.NewReader(strings.NewReader(text))
		r.FieldsPerRecord = -1
		want, err := r.ReadAll()
		if err != nil || strings.ContainsAny(text, "\x00\ufeff") || len(text) > maxRecord {
			return
		}

		var s splitter
		data := []byte(text)
		if !bytes.HasSuffix(data, []byte("\n")) {
			data = append(data, '\n')
		}
		var got [][]string
		for len(data) > 0 {
			n, err := s.parse(data)
			if err != nil || n <= 0 {
				t.Fatalf("%q: %d, %v", data, n, err)
			}
			if len(s.fields) > 0 {
				got = append(got, slices.Clone(s.fields))
			}
			data = data[n:]
		}
		if !slices.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Fatalf("%q\n got %q\nwant %q", text, got, want)
		}
	})
}

// FuzzReader reads in pieces what it reads at once, and every byte once.
func FuzzReader(f *testing.F) {
	f.Add(header+delivered+torn+"\r\n"+clean(1)+delivered, uint16(7))
	f.Add("type,rcpt\nd,\"a\nb\n", uint16(3))
	f.Add("\ufeff"+header+"\"\n"+clean(1), uint16(100))
	for piece := range 128 {
		f.Add(header+otherTypes+"\x00\x00\n\x00\x00\x00"+clean(1)+"\x00", uint16(piece))
	}
	f.Fuzz(func(t *testing.T, text string, piece uint16) {
		type line struct {
			n     int
			event bool
			bad   string
		}
		read := func(step int) (out []line) {
			r := newReader(Settings{}, newCounts())
			data, used := []byte(text), 0
			for end := 0; ; {
				begin := end
				end = min(end+step, len(data))
				r.feed(data[begin:end], end == len(data))
				for o, ok := r.next(); ok; o, ok = r.next() {
					l := line{n: len(o.raw), event: o.event != nil}
					if o.err != nil {
						l.bad = o.err.Error()
					}
					used += len(o.raw)
					out = append(out, l)
				}
				if end == len(data) {
					break
				}
			}
			if used != len(data) {
				t.Fatalf("%d of %d bytes were read", used, len(data))
			}
			return out
		}

		whole := read(len(text) + 1)
		count := func(lines []line) (events int) {
			for _, l := range lines {
				if l.event {
					events++
				}
			}
			return events
		}
		parts := read(int(piece) + 1)
		if strings.Count(text, `"`) == 0 && len(text) < maxRecord && !slices.Equal(whole, parts) {
			t.Fatalf("at once %v\nin pieces %v", whole, parts)
		}
		if count(parts) > strings.Count(text, "\n")+1 || count(whole) > strings.Count(text, "\n")+1 {
			t.Fatalf("%d and %d events of %q", count(whole), count(parts), text)
		}
	})
}

// TestRecordsOfOtherTypes: what a remote bounce and a complaint say is read by
// the fields of their types, though the header line is that of deliveries.
func TestRecordsOfOtherTypes(t *testing.T) {
	for name, header := range map[string]string{
		"more columns": header,
		"as many columns": "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,vmta," +
			"jobId,envId,queue\r\n",
	} {
		t.Run(name, func(t *testing.T) { recordsOfOtherTypes(t, header) })
	}
}

func recordsOfOtherTypes(t *testing.T, header string) {
	t.Helper()

	var got []string
	err := Print(strings.NewReader(header+otherTypes), "x", Settings{Verify: good}, silent, func(e *event.Event) error {
		got = append(got, strings.Join([]string{
			e.Type.PublicName(), e.MessageID, e.RcptTo, e.BounceClass, e.ErrorCode, e.FeedbackType, e.SendingIP, e.ReportBy,
		}, " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	want := []string{
		"out_of_band good-rb r1@example.net 10 550   ",
		"spam_complaint good-f r1@example.net   abuse 192.0.2.10 mx.example.net",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLocalPartIsNoWord: the local part that a reply names says nothing of why.
func TestLocalPartIsNoWord(t *testing.T) {
	line := bounced("good-2", "other", "5.1.1", "smtp;550 5.1.1 barracuda: user unknown")
	line = strings.ReplaceAll(line, "reader@", "barracuda@")
	if !strings.Contains(line, "barracuda@") {
		t.Fatalf("no recipient in %q", line)
	}

	var got []string
	err := Print(strings.NewReader(header+line), "x", Settings{Verify: good}, silent, func(e *event.Event) error {
		got = append(got, e.BounceClass)
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"10"}) {
		t.Errorf("got %q %v, want class 10", got, err)
	}
}
