package accounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"postern/tracking/event"
)

// TestSplit holds what each beginning of a file is taken for.
func TestSplit(t *testing.T) {
	const limit = 64 << 10
	long := func(begin string, n int, end string) string {
		return begin + strings.Repeat("x", n-len(begin)-len(end)) + end
	}
	for _, c := range []struct {
		name   string
		width  int
		data   string
		last   bool
		waits  bool
		n      int
		err    error
		fields []string // nil: not looked at
		blank  bool
		skip   bool
	}{
		{name: "nothing", data: "", waits: true},
		{name: "nothing, at the end", data: "", last: true, waits: true},
		{name: "a record", data: "d,a\r\nd,b\r\n", n: 5, fields: []string{"d", "a"}},
		{name: "a line feed alone", data: "d,a\nd", n: 4, fields: []string{"d", "a"}},
		{name: "no end yet", data: "d,a", waits: true},
		{name: "no end at all", data: "d,a", last: true, n: 3, fields: []string{"d", "a"}},
		{name: "no end, a field short", width: 3, data: "d,a", last: true, n: 3, err: errCut},
		{name: "no end, within quotes", data: `d,"a`, last: true, n: 4, err: errCut},
		{name: "no end, a header line", width: 3, data: "type,a", last: true, n: 6, fields: []string{"type", "a"}},
		{name: "an empty line", data: "\r\nd", n: 2, blank: true},
		{name: "an empty field", data: "\"\"\n", n: 3, fields: []string{""}},
		{name: "fields in quotes", data: "\"d\",\"a,\"\"b\"\"\nc\"\r\nd", n: 17, fields: []string{"d", "a,\"b\"\nc"}},
		{name: "a line end of two bytes in quotes", data: "d,\"a\r\nb\"\n", n: 9, fields: []string{"d", "a\nb"}},
		{name: "a carriage return within a field", data: "d,a\rb\"\"\n", n: 8, err: errBare},
		{name: "behind a closing quote", data: "\"d\"x,a\n", n: 7, err: errQuote},
		{name: "a carriage return behind a closing quote", data: "\"d\"\rx\n", n: 6, err: errQuote},
		{name: "within a quote", data: "d,\"a\n", waits: true},
		{name: "the end is to come", data: "d,\"a\nb\"", waits: true},
		{name: "the end may be a line feed", data: "d,\"a\nb\"\r", waits: true},
		{name: "a quote in a field", data: "d,a\"b\n", n: 6, err: errBare},
		{name: "a byte order mark", data: "\ufeffd,a\n", n: 7, fields: []string{"d", "a"}},
		{name: "a byte order mark and quotes", data: "\ufeff\"d\",a\n", n: 9, fields: []string{"d", "a"}},
		{name: "a NUL byte", data: "d,a\x00\n", n: 5, err: errNUL},
		{name: "a NUL byte in quotes", data: "d,\"a\x00\"\n", n: 7, err: errNUL},
		{name: "a NUL byte first in quotes", data: "\"\x00\",a\n", n: 6, err: errNUL},
		{name: "a NUL byte behind a byte order mark", data: "\ufeff\x00,a\n", n: 7, err: errNUL},
		{name: "NUL bytes, more may come", data: "\x00\x00", waits: true},
		{name: "NUL bytes at the end", data: "\x00\x00", last: true, n: 2, err: errNUL},
		{name: "NUL bytes before a record", data: "\x00\x00d", n: 2, err: errNUL},
		{name: "NUL bytes and the line's end", data: "\x00\x00\n", n: 3, err: errNUL},
		{name: "as many columns", width: 2, data: "d,a\n", n: 4, fields: []string{"d", "a"}},
		{name: "a field short", width: 3, data: "d,a\n", n: 4, err: ErrNoColumns},
		{name: "empty fields behind", width: 2, data: "d,a,,\n", n: 6, fields: []string{"d", "a", "", ""}},
		{name: "a field more", width: 2, data: "d,a,b\n", n: 6, err: ErrNoColumns},
		{name: "an open quote, a record behind it", width: 2, data: "d,\"a\nd,b\n", n: 5, err: errQuote},
		{name: "an open quote, a header line behind it", width: 2, data: "d,\"a\ntype,b,c\n", n: 5, err: errQuote},
		{name: "an open quote, the beginning of one behind it", width: 3, data: "d,\"a\nd,\"b\n", n: 5, err: errQuote},
		{name: "an open quote, a record with quotes behind it", width: 2, data: "d,\"a\nd,\"\"\n", n: 5, err: errQuote},
		{name: "an open quote, an empty line and a record", width: 2, data: "d,\"a\n\nd,b\n", n: 5, err: errQuote},
		{name: "an open quote, no record behind it", width: 2, data: "d,\"a\nx,b\n", waits: true},
		{name: "an open quote, a record of other width", width: 2, data: "d,\"a\nd,b,c\n", waits: true},
		{name: "an open quote, a line without its end", width: 2, data: "d,\"a\nd,b", waits: true},
		{name: "an open quote at the end", width: 2, data: "d,\"a\nx\n", last: true, n: 5, err: errQuote},
		{name: "as long as may be", data: long("d,", limit, "\n"), n: limit, fields: []string{"d", strings.Repeat("x", limit-3)}},
		{name: "a byte longer", data: long("d,", limit+1, "\n"), n: limit + 1, err: errLong},
		{name: "two bytes longer", data: long("d,", limit+2, "\n"), n: limit + 1, err: errLong, skip: true},
		{name: "two bytes longer, at the end", data: long("d,", limit+2, "\n"), last: true, n: limit + 1, err: errLong, skip: true},
		{name: "long, more may come", data: long("d,", limit, ""), waits: true},
		{name: "too long, more may come", data: long("d,", limit+1, ""), n: limit + 1, err: errLong, skip: true},
		{name: "long in quotes", data: long("d,\"\n", limit, "\"\n"), n: limit, fields: []string{"d", "\n" + strings.Repeat("x", limit-6)}},
		{name: "too long in quotes", data: long("d,\"\n", limit+1, "\"\n"), n: 4, err: errLong},
		{name: "long in an open quote", data: long("d,\"\n", limit, ""), waits: true},
		{name: "too long in an open quote", data: long("d,\"\n", limit+1, ""), n: 4, err: errQuote},
		{name: "many NUL bytes", data: strings.Repeat("\x00", limit), waits: true},
		{name: "too many NUL bytes", data: strings.Repeat("\x00", limit+1), n: limit + 1, err: errNUL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := splitter{width: c.width}
			got, ok := s.next([]byte(c.data), c.last)
			if ok == c.waits {
				t.Fatalf("waits: %t, want %t (%+v)", !ok, c.waits, got)
			}
			if !ok {
				return
			}
			if got.n != c.n || !errors.Is(got.err, c.err) || c.err == nil && got.err != nil {
				t.Errorf("got %d bytes, %v, want %d, %v", got.n, got.err, c.n, c.err)
			}
			if c.fields != nil && !slices.Equal(got.fields, c.fields) {
				t.Errorf("got %.80q, want %.80q", got.fields, c.fields)
			}
			if got.blank != c.blank || got.skip != c.skip {
				t.Errorf("blank %t, goes on %t, want %t and %t", got.blank, got.skip, c.blank, c.skip)
			}
		})
	}
}

func TestBeginsRecord(t *testing.T) {
	for line, want := range map[string]bool{
		"d,x": true, "b,": true, "t,": true, "rb,": true, "f,": true, "tq,": true, "r,": true, "rs,": true,
		"type,x": true, "TYPE,x": true, `"d",x`: true, "\ufeffd,x": true,
		"d": false, "": false, "x,d": false, "D,x": false, ",d": false, "types,x": false,
	} {
		if got := beginsRecord([]byte(line)); got != want {
			t.Errorf("%q: got %t, want %t", line, got, want)
		}
	}
}

// TestLinesOfALongLine: what is passed over of a line that is too long counts
// as one line, and the record behind it makes its event.
func TestLinesOfALongLine(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	name := filepath.Join(dir, "acct.csv")
	appendTo(t, name, header+"d,"+strings.Repeat("x", maxRecord))
	f := follower(t, dir, m)
	poll(t, f)
	f.closeAll()
	appendTo(t, name, strings.Repeat("x", 100))

	f = follower(t, dir, m) // knows where in the line it is
	t.Cleanup(f.closeAll)
	poll(t, f)
	appendTo(t, name, "d,x\r\n"+clean(1)+"zz,bad\r\n")
	poll(t, f)
	bad := badLines(t, dir)
	if len(m.events) != 1 || strings.Count(bad, "# ") != 2 || !strings.Contains(bad, ":2: a record longer") ||
		!strings.Contains(bad, ":4: record does not fit") {
		t.Errorf("%d events, bad lines %.300q, want one event and lines 2 and 4", len(m.events), bad)
	}
}

// TestBadLinesAreCut at 4 KiB, and without their line ends.
func TestBadLinesAreCut(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+"zz,"+strings.Repeat("a", 5000)+"\r\n"+"zz,b\r\n")
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)

	lines := strings.Split(badLines(t, dir), "\n")
	if len(lines) != 5 || len(lines[1]) != 4096 || lines[3] != "zz,b" || lines[4] != "" {
		t.Errorf("got %d lines, %d bytes of the long one: %.300q", len(lines), len(lines[1]), lines)
	}
	for i, number := range []int{2, 3} {
		want := fmt.Sprintf("# %s:%d: %v", filepath.Join(dir, "acct.csv"), number, ErrNoColumns)
		if !strings.HasPrefix(lines[2*i], want) {
			t.Errorf("got %q, want %q", lines[2*i], want)
		}
	}
}

// TestBadLinesAreLogged with all that helps to find them, and with what they
// say where that could not be kept.
func TestBadLinesAreLogged(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	var log bytes.Buffer
	file := filepath.Join(dir, "acct.csv")
	appendTo(t, file, header+clean(1)+"zz,"+strings.Repeat("a", 5000)+"\r\n")
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	f.quarantine.log = textLog(&log)
	d := &disk{fail: from(1)}
	f.quarantine.files = newQuarantine(d)

	for i := range 5 {
		err := f.Poll(context.Background())
		if i < 4 && (!errors.Is(err, errDisk) || len(m.events) != 0 || log.Len() != 0) {
			t.Errorf("look %d: got %v, %d events, log %q; want the disk's error alone", i+1, err, len(m.events), log.String())
		}
		if i == 4 && (err != nil || len(m.events) != 1) {
			t.Errorf("look %d: got %v, %d events, want the record behind", i+1, err, len(m.events))
		}
	}
	for _, want := range []string{
		"malformed record quarantined", "file=" + file, "line=3 ", fmt.Sprintf("offset=%d ", len(header+clean(1))), "err=\"record does not fit", "quarantine_err=",
		errDisk.Error(), "raw=zz,aaa",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q: %.400s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "a"); n < 4000 || n > 4300 {
		t.Errorf("%d bytes of the line were logged, want some 4096", n)
	}

	log.Reset()
	d.fail = nil
	appendTo(t, file, "zz,b\r\n")
	poll(t, f)
	if got := log.String(); !strings.Contains(got, "line=4 ") || strings.Contains(got, "quarantine_err") ||
		strings.Contains(got, "raw=") {
		t.Errorf("got %q, want line 4 without what it says", got)
	}

	d.calls, d.fail = 0, from(1) // and it is waited for as long again
	appendTo(t, file, "zz,c\r\n")
	for i := range 4 {
		if err := f.Poll(context.Background()); !errors.Is(err, errDisk) {
			t.Errorf("look %d: got %v, want the disk's error", i+1, err)
		}
	}
}

// TestBadLinesAreRotated once there are more than 64 MiB of them.
func TestBadLinesAreRotated(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name    string
		size    int64
		rotated bool
	}{
		{"64 MiB", 64 << 20, false},
		{"a byte more", 64<<20 + 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			f := follower(t, dir, m)
			t.Cleanup(f.closeAll)
			name := filepath.Join(dir, "state", "bad.csv")
			file, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt([]byte("\n"), c.size-1); err != nil { // the rest is a hole
				t.Fatal(err)
			}
			file.Close()
			appendTo(t, filepath.Join(dir, "acct.csv"), header+"zz,bad\r\n")
			poll(t, f)

			old, err := os.Stat(name + ".old")
			if got := err == nil; got != c.rotated || got && old.Size() != c.size {
				t.Errorf("rotated: %v, want %t", err, c.rotated)
			}
			info, err := os.Stat(name)
			if err != nil || info.Size() <= 10 || (info.Size() > c.size) == c.rotated {
				t.Errorf("%v, %d bytes, want the line in it", err, info.Size())
			}
		})
	}

	dir, m := t.TempDir(), &memory{}
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	name := filepath.Join(dir, "state", "bad.csv")
	appendTo(t, name, "x\n")
	if err := os.Truncate(name, maxQuarantine+1); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name+".old", "x"), 0o700); err != nil { // no rename over it
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+"zz,bad\r\n")
	if err := f.Poll(context.Background()); err == nil || !strings.Contains(err.Error(), "quarantine: rename") {
		t.Errorf("got %v, want the rename's error", err)
	}
}

// TestWarnings: what is missing in PowerMTA's configuration is said once a file.
func TestWarnings(t *testing.T) {
	const neither, foreign = "NEITHER header_x-sp-message-id NOR envId", "header_x-sp-message-id (and the same"
	for _, c := range []struct {
		name, columns, record string
		neither, foreign      int
	}{
		{"our column", "type,timeLogged,rcpt,header_x-sp-message-id", "d,1795500000,a@example.net,", 0, 0},
		{"envId, with our ids", "type,timeLogged,rcpt,envId", "d,1795500000,a@example.net,good-1", 0, 0},
		{"envId, with other ids", "type,timeLogged,rcpt,envId", "d,1795500000,a@example.net,bad", 0, 1},
		{"neither", "type,timeLogged,rcpt,x", "d,1795500000,a@example.net,good-1", 1, 1},
		{"neither, no record of a message", "type,timeLogged,rcpt,x", "tq,1795500000,a@example.net,x", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			var log bytes.Buffer
			f := follower(t, dir, m)
			t.Cleanup(f.closeAll)
			f.c.Log = textLog(&log)
			text := strings.Repeat(c.columns+"\n"+c.record+"\n"+c.record+"\n", 2)
			for _, name := range []string{"acct-1.csv", "acct-2.csv"} {
				appendTo(t, filepath.Join(dir, name), text)
			}
			poll(t, f)
			for _, name := range []string{"acct-1.csv", "acct-2.csv"} {
				var said string
				for _, l := range strings.Split(log.String(), "\n") {
					if strings.Contains(l, "file="+filepath.Join(dir, name)) {
						said += l + "\n"
					}
				}
				if a, b := strings.Count(said, neither), strings.Count(said, foreign); a != c.neither ||
					b != c.foreign {
					t.Errorf("%s: said %d and %d times, want %d and %d:\n%s", name, a, b, c.neither, c.foreign, said)
				}
			}
		})
	}
}

// printedEvents are those that --print makes of a text, with what it logs.
func printedEvents(t *testing.T, in io.Reader) (events []*event.Event, log string, err error) {
	t.Helper()

	var out bytes.Buffer
	err = Print(in, "x.csv", Settings{Verify: good}, textLog(&out), func(e *event.Event) error {
		events = append(events, e)
		return nil
	})

	return events, out.String(), err
}

// TestPrintReadsInPieces what it reads at once.
func TestPrintReadsInPieces(t *testing.T) {
	text := header + cleans(3) + bounced("good-2", "other", "5.0.0", "smtp;550 one\ntwo") + otherTypes + strings.TrimSpace(clean(4))
	whole, _, err := printedEvents(t, strings.NewReader(text))
	if err != nil || len(whole) != 7 {
		t.Fatalf("got %d events, %v, want 7", len(whole), err)
	}
	for name, r := range map[string]io.Reader{
		"one byte":          iotest.OneByteReader(strings.NewReader(text)),
		"with the end":      iotest.DataErrReader(strings.NewReader(text)),
		"half of each read": iotest.HalfReader(strings.NewReader(text)),
	} {
		got, _, err := printedEvents(t, r)
		if err != nil || len(got) != len(whole) {
			t.Fatalf("%s: got %d events, %v, want %d", name, len(got), err, len(whole))
		}
		for i := range got {
			if got[i].ID != whole[i].ID {
				t.Errorf("%s: event %d has the id %s, want %s", name, i, got[i].ID, whole[i].ID)
			}
		}
	}
}

func TestPrintSaysWhatItCannotDo(t *testing.T) {
	_, log, err := printedEvents(t, strings.NewReader(header+"zz,bad\r\n"+strings.Replace(clean(1), "good", "bad", 1)+otherTypes[strings.Index(otherTypes, "\nr,")+1:]))
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		`msg="malformed record" file=x.csv line=2 err="record does not fit`, `msg="no event" file=x.csv line=3 err="record without a message id`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "\n"); n != 2 {
		t.Errorf("%d lines logged, want 2: nothing of records of other kinds\n%s", n, log)
	}

	if _, _, err := printedEvents(t, iotest.ErrReader(errDisk)); !errors.Is(err, errDisk) {
		t.Errorf("the reader's error: got %v", err)
	}
	if _, _, err := printedEvents(t, strings.NewReader(clean(1))); err == nil ||
		err.Error() != "x.csv: no header line at the beginning" {
		t.Errorf("no header line: got %v", err)
	}
	for _, text := range []string{"", "\r\n", header} {
		if _, _, err := printedEvents(t, strings.NewReader(text)); err != nil {
			t.Errorf("%q: got %v, want nil", text, err)
		}
	}
	err = Print(strings.NewReader(header+cleans(2)), "x", Settings{}, silent, func(*event.Event) error { return errDisk })
	if !errors.Is(err, errDisk) {
		t.Errorf("the writer's error: got %v", err)
	}
}

// TestReadErrorsAreSaid: a file that cannot be read is tried again.
func TestReadErrorsAreSaid(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	name := filepath.Join(dir, "acct.csv")
	appendTo(t, name, header+clean(1))
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)
	for _, h := range f.held {
		h.file.Close()
	}
	if err := f.Poll(context.Background()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want %v", err, os.ErrClosed)
	}

	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := f.readBlock(context.Background(), file, &fileState{}, 10, false); err == nil ||
		!strings.HasPrefix(err.Error(), "accounting: read") {
		t.Errorf("got %v, want the error of reading", err)
	}
}
