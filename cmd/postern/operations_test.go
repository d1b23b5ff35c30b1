package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/gateway"
	"postern/cmd/postern/localsocket"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/tracking/event"
	"postern/tracking/spool"
)

// waitingCopies puts two messages into a retry spool, the second one for two
// recipients, and closes it again.
func waitingCopies(t *testing.T, dir string) {
	t.Helper()
	q, err := queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for id, to := range map[string][]string{"one": {"a"}, "two": {"b", "c"}} {
		tr := &queue.Transaction{
			ID:      id,
			Session: "session-" + id,
			Created: time.Now().Add(-90 * time.Second),
			From:    envelope.Address{Local: "s", Domain: "example.com"},
			Shared:  [][]byte{[]byte("Subject: " + id + "\r\n\r\nbody\r\n")},
		}
		for _, local := range to {
			tr.Copies = append(tr.Copies, queue.Copy{
				MessageID: "id/" + local,
				Recipient: envelope.Recipient{Address: envelope.Address{Local: local, Domain: "example.net"}},
				Own:       [][]byte{[]byte("X-Copy: " + local + "\r\n"), nil},
			})
		}
		if err := q.Put(t.Context(), tr); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(q.Flush(), q.Close()); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// TestQueueCommands asks the spool itself, and a gateway that runs.
func TestQueueCommands(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("gateway %v", running), func(t *testing.T) {
			file := writeConfig(t, "", "")
			waitingCopies(t, filepath.Join(filepath.Dir(file), "state", "queue"))
			if running { // whose upstream is away, so that what waits goes on to wait
				serving(t, file)
				eventually(t, "the first attempts", func() bool {
					var list []queue.Waiting
					_, stdout, _ := execute(t, "", "queue", "list", "--json", "--config", file)
					err := json.Unmarshal([]byte(stdout), &list)
					return err == nil && !slices.ContainsFunc(list, func(w queue.Waiting) bool { return w.Tries == 0 })
				})
			}
			queueCmd := func(args ...string) (int, string, string) {
				return execute(t, "", append([]string{"queue", args[0], "--config", file}, args[1:]...)...)
			}

			code, stdout, stderr := queueCmd("list")
			rows := strings.Split(stdout, "\n")
			if code != 0 || stderr != "" || len(rows) != 5 {
				t.Fatalf("list: got %d %q %q, want a heading and three copies", code, stdout, stderr)
			}
			if want := regexp.MustCompile(`^MESSAGE ID +FROM +TO +AGE +TRIES +NEXT +LAST ANSWER$`); !want.MatchString(rows[0]) {
				t.Errorf("list: got %q, want %s", rows[0], want)
			}
			code, stdout, _ = queueCmd("list", "--json", "-n", "2")
			var list []queue.Waiting
			if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 0 || len(list) != 2 || list[0].From != "s@example.com" {
				t.Errorf("list --json -n 2: got %d %q, %v, want two copies", code, stdout, err)
			}

			if code, stdout, _ := queueCmd("show", "id/a"); code != 0 || stdout != "X-Copy: a\r\nSubject: one\r\n\r\nbody\r\n" {
				t.Errorf("show: got %d %q, want the copy", code, stdout)
			}
			if code, stdout, _ := queueCmd("show", "session-two"); code != 0 || !strings.Contains(stdout, "id/b") || !strings.Contains(stdout, "id/c") {
				t.Errorf("show of a session: got %d %q, want its two copies", code, stdout)
			}
			for _, command := range []string{"show", "retry", "drop"} {
				code, stdout, stderr := queueCmd(command, "nobody")
				if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "postern: ") || !strings.Contains(stderr, queue.ErrUnknown.Error()) {
					t.Errorf("%s: got %d %q %q, want that there is none", command, code, stdout, stderr)
				}
			}

			if code, stdout, _ := queueCmd("drop", "id/b"); code != 0 || stdout != "id/b dropped\n" {
				t.Errorf("drop: got %d %q", code, stdout)
			}
			if running {
				return // which is trying what is due
			}
			if code, stdout, _ := queueCmd("retry", "id/c"); code != 0 || stdout != "1 due now\n" {
				t.Errorf("retry: got %d %q, want one", code, stdout)
			}
			code, stdout, _ = queueCmd("list")
			if rows := strings.Split(stdout, "\n"); code != 0 || len(rows) != 4 || !regexp.MustCompile(`^id/. .* 0s +""$`).MatchString(rows[1]) {
				t.Errorf("list: got %d %q, want two, due now", code, stdout)
			}
			if code, stdout, _ := queueCmd("retry"); code != 0 || stdout != "2 due now\n" {
				t.Errorf("retry of all: got %d %q, want two", code, stdout)
			}
			for _, id := range []string{"id/a", "id/c"} {
				if code, stdout, _ := queueCmd("drop", id); code != 0 || stdout != id+" dropped\n" {
					t.Errorf("drop: got %d %q", code, stdout)
				}
			}
			if code, stdout, stderr := queueCmd("list"); code != 0 || stdout != "nothing waits\n" || stderr != "" {
				t.Errorf("list: got %d %q %q, want nothing", code, stdout, stderr)
			}
			if code, stdout, _ := queueCmd("list", "--json"); code != 0 || stdout != "[]\n" {
				t.Errorf("list --json: got %d %q, want an empty list", code, stdout)
			}
		})
	}
}

// answering has a program of the test answer on admin.socket of a configuration.
func answering(t *testing.T, file string, h http.Handler) {
	t.Helper()
	c := loadConfig(t, file)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := localsocket.Listen(c.Admin.Socket, "")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

// TestQueueListShowsWhatIsKnownOfACopy: the columns of copies that were tried.
func TestQueueListShowsWhatIsKnownOfACopy(t *testing.T) {
	file := writeConfig(t, "", "")
	now := time.Now()
	asked := ""
	answering(t, file, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String() + " " + r.Header.Get(admin.Header)
		_ = json.NewEncoder(w).Encode([]queue.Waiting{
			{MessageID: "a", From: "s@example.com", Recipient: "a@example.net", Created: now.Add(-time.Hour), Tries: 3, Next: now.Add(-time.Minute),
				Reply: "451 \"later\" " + strings.Repeat("x", 120)},
			{MessageID: "b", From: "s@example.com", Recipient: "b@example.net", Created: now.Add(-time.Minute), Tries: 1, Next: now.Add(time.Hour), Away: true},
		})
	}))

	code, stdout, stderr := execute(t, "", "queue", "list", "-n", "5", "--config", file)

	rows := strings.Split(stdout, "\n")
	if code != 0 || stderr != "" || len(rows) != 4 || asked != "GET /queue?n=5 command" {
		t.Fatalf("got %d %q %q, asked for %q, want a heading and two copies", code, stdout, stderr, asked)
	}
	for i, want := range []string{
		`^a +s@example\.com +a@example\.net +1h0m[0-9]s +3 +0s +"451 \\"later\\" x{88}"$`,
		`^b +s@example\.com +b@example\.net +1m[0-9]s +1 +(1h0m0s|59m5[0-9]s), or when the upstream is back +""$`,
	} {
		if !regexp.MustCompile(want).MatchString(rows[i+1]) {
			t.Errorf("got %q, want %s", rows[i+1], want)
		}
	}
}

// TestCommandsSayWhatTheGatewayRefuses, and do not touch the spool themselves.
func TestCommandsSayWhatTheGatewayRefuses(t *testing.T) {
	file := writeConfig(t, "", "")
	answering(t, file, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not now: "+r.URL.Path+strings.Repeat("!", 2000), http.StatusConflict)
	}))
	event := string(storedEvent(t, event.Click, "m1"))
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"queue", "list"}, "postern: not now: /queue!"},
		{"", []string{"queue", "list", "--json"}, "postern: not now: /queue!"},
		{"", []string{"queue", "show", "x/y"}, "postern: not now: /queue/x/y!"},
		{"", []string{"queue", "retry"}, "postern: not now: /queue/retry!"},
		{"", []string{"queue", "retry", "x"}, "postern: not now: /queue/x/retry!"},
		{"", []string{"queue", "drop", "x"}, "postern: not now: /queue/x/drop!"},
		{event, []string{"events", "replay", "-"}, "postern: 0 of 1 events put into the spool: not now: /events!"},
	} {
		code, stdout, stderr := execute(t, c.stdin, append(c.args, "--config", file)...)
		if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, c.want) || len(stderr) > 1100 {
			t.Errorf("%v: got %d %q %q, want %q", c.args, code, stdout, stderr, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "state", "queue")); err == nil {
		t.Error("a spool was made all the same")
	}
}

// TestQueueCommandsDoNotShareASpool: where another process has it open and no
// gateway answers, both are said.
func TestQueueCommandsDoNotShareASpool(t *testing.T) {
	file := writeConfig(t, "", "")
	dir := filepath.Join(filepath.Dir(file), "state", "queue")
	q, err := queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()

	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"drop", "x"}} {
		code, stdout, stderr := execute(t, "", append([]string{"queue", args[0], "--config", file}, args[1:]...)...)
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, "no gateway answers on admin.socket") ||
			!strings.Contains(stderr, "the spool cannot be opened") {
			t.Errorf("%v: got %d %q %q, want why neither can be asked", args, code, stdout, stderr)
		}
	}
}

// eventSpool puts records into the event spool of a configuration, commits the
// uploader's cursor behind the first read of them, and closes it again.
func eventSpool(t *testing.T, file string, read int, records ...string) {
	t.Helper()
	s, err := spool.Open(spool.Config{
		Dir:     gateway.EventsDir(loadConfig(t, file).Config),
		Readers: []string{gateway.IngestReader},
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := s.Append(t.Context(), []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := s.Reader(gateway.IngestReader)
	if err != nil {
		t.Fatal(err)
	}
	for range read {
		r, err := reader.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.Commit(r.Next); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEventsStats(t *testing.T) {
	click, bounce := string(storedEvent(t, event.Click, "m1")), string(storedEvent(t, event.Bounce, "m2"))
	later := strings.ReplaceAll(click, "1795500000", "1795503661")
	file := writeConfig(t, "", "")

	code, stdout, stderr := execute(t, "", "events", "stats", "--config", file)
	if want := "  TYPE  KEPT  WAITING\n0 events, 0 bytes\n"; code != 0 || stdout != want || stderr != "" {
		t.Errorf("no spool: got %d %q %q, want %q", code, stdout, stderr, want)
	}

	eventSpool(t, file, 2, "no JSON", click, bounce, later)
	code, stdout, stderr = execute(t, "", "events", "stats", "--config", file)
	bytes := len("no JSON") + 2*len(click) + len(bounce)
	want := "        TYPE  KEPT  WAITING\n" +
		"      bounce     1        1\n" +
		"       click     2        1\n" +
		"  unreadable     1        0\n" +
		fmt.Sprintf("4 events, %d bytes, from 2026-11-24 06:00:00 to 2026-11-24 07:01:01\n", bytes)
	if code != 0 || stdout != want || stderr != "" {
		t.Errorf("got %d\n%s%s\nwant\n%s", code, stdout, stderr, want)
	}
}

func TestEventsTailEnds(t *testing.T) {
	click, bounce := string(storedEvent(t, event.Click, "m1")), string(storedEvent(t, event.Bounce, "m2"))
	file := writeConfig(t, "", "")
	eventSpool(t, file, 0, click, bounce, click)

	for _, c := range []struct {
		name string
		args []string
		want int
	}{
		{"all", nil, 3},
		{"one type", []string{"--type", "bounce"}, 1},
		{"two types", []string{"--type", "bounce", "--type", "click"}, 3},
		{"a message", []string{"--message", "m1"}, 2},
		{"as stored", []string{"--raw", "--type", "click"}, 2},
	} {
		code, stdout, stderr := execute(t, "", append([]string{"events", "tail", "--no-follow", "--config", file}, c.args...)...)
		if code != 0 || strings.Count(stdout, "\n") != c.want || stderr != "" {
			t.Errorf("%s: got %d %q %q, want %d lines", c.name, code, stdout, stderr, c.want)
		}
	}

	code, _, stderr := execute(t, "", "events", "tail", "--no-follow", "--config", file, "--type", "clack")
	if code != exitUsage || !strings.Contains(stderr, "--type: ") || !strings.Contains(stderr, "; write one of injection, delivery, ") {
		t.Errorf("a type that is none: got %d %q, want the types", code, stderr)
	}
}

func TestEventNamesListTypesAndClassesOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range strings.Split(eventNames(), ", ") {
		if name == "" || seen[name] {
			t.Errorf("got %q twice, or empty, in %s", name, eventNames())
		}
		seen[name] = true
	}
	for _, info := range event.Types() {
		if !seen[info.Public] || info.Class != "" && !seen[info.Class] {
			t.Errorf("got %s, want %s and %s", eventNames(), info.Public, info.Class)
		}
	}
}

// lineWriter gives each line that is written to a channel.
type lineWriter struct{ lines chan string }

func (w lineWriter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		w.lines <- strings.TrimSuffix(line, "\n")
	}
	return len(p), nil
}

// TestEventsTailFollows prints what comes, of the beginning only with --all.
func TestEventsTailFollows(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all %v", all), func(t *testing.T) {
			file := writeConfig(t, "", "")
			s, err := spool.Open(spool.Config{Dir: gateway.EventsDir(loadConfig(t, file).Config), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			add := func(id string) {
				t.Helper()
				if err := s.Append(t.Context(), storedEvent(t, event.Click, id)); err != nil {
					t.Fatal(err)
				}
			}
			add("before")

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			lines := make(chan string, 100)
			args := []string{"events", "tail", "--config", file, "--raw"}
			if all {
				args = append(args, "--all")
			}
			ended := make(chan int, 1)
			go func() { ended <- run(ctx, args, strings.NewReader(""), lineWriter{lines}, os.Stderr) }()

			// What is there at the start is passed before what comes; one that is
			// added while the command starts may be either.
			var got []string
			for n := 0; ; n++ {
				add(fmt.Sprint("after-", n))
				select {
				case line := <-lines:
					got = append(got, line)
				case <-time.After(50 * time.Millisecond):
					continue
				}
				break
			}
			if first := strings.Contains(got[0], `"before"`); first != all {
				t.Errorf("got %s first, want that of before: %v", got[0], all)
			}
			cancel()
			if code := <-ended; code != 0 {
				t.Errorf("got %d, want 0 at the end", code)
			}
		})
	}
}

func TestEventsBatches(t *testing.T) {
	file := writeConfig(t, "", "")
	if code, stdout, _ := execute(t, "", "events", "batches", "--config", file, "--json"); code != 0 || stdout != "" {
		t.Errorf("no ledger: got %d %q, want nothing", code, stdout)
	}

	s, err := spool.Open(spool.Config{Dir: filepath.Join(gateway.EventsDir(loadConfig(t, file).Config), "ledger"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		r := fmt.Sprintf(`{"batch":%d,"at":"2026-11-24T10:00:00Z","from":{},"to":{"Segment":1,"Offset":90},"sum":7,"events":%d,"raw":80,"status":"planned"}`, n, 10*n)
		if err := s.Append(t.Context(), []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	rows := func(args ...string) []string {
		code, stdout, stderr := execute(t, "", append([]string{"events", "batches", "--config", file}, args...)...)
		if code != 0 || stderr != "" {
			t.Fatalf("%v: got %d %q", args, code, stderr)
		}
		return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	}
	got := rows()
	when := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC).Local().Format(time.DateTime)
	if len(got) != 4 || got[0] != "BATCH  TIME                 STATUS   EVENTS  QUARANTINED  BYTES  GZIP  TRIES  ID  ERROR" ||
		!strings.HasPrefix(got[1], "1      "+when+"  planned  10 ") || !strings.HasPrefix(got[3], "3 ") {
		t.Errorf("got %q, want a heading and three batches", got)
	}
	if got := rows("-n", "2"); len(got) != 3 || !strings.HasPrefix(got[1], "2 ") {
		t.Errorf("-n 2: got %q, want the two newest", got)
	}
	if got := rows("-n", "1", "--json"); len(got) != 1 || !strings.HasPrefix(got[0], `{"batch":3,`) {
		t.Errorf("--json: got %q, want the newest", got)
	}
}

// TestEventsReplay puts events into the spool, from a file or standard input,
// with a gateway and without.
func TestEventsReplay(t *testing.T) {
	click := string(storedEvent(t, event.Click, "m1"))
	bounce := string(storedEvent(t, event.Bounce, "m2"))
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("gateway %v", running), func(t *testing.T) {
			file := writeConfig(t, "", "")
			dir := gateway.EventsDir(loadConfig(t, file).Config)
			if running {
				serving(t, file)
			}
			records := func() (out []string) {
				if err := spool.ReadDir(dir, func(r spool.Record) bool { out = append(out, string(r.Data)); return true }); err != nil {
					t.Fatal(err)
				}
				return out
			}

			input := writeFile(t, t.TempDir(), "events.ndjson", click+"\n\n"+bounce)
			if code, stdout, stderr := execute(t, "", "events", "replay", "--config", file, input); code != 0 || stdout != "2 events put into the spool\n" || stderr != "" {
				t.Fatalf("a file: got %d %q %q", code, stdout, stderr)
			}
			if code, stdout, stderr := execute(t, bounce+"\n", "events", "replay", "--config", file, "-"); code != 0 || stdout != "1 events put into the spool\n" || stderr != "" {
				t.Fatalf("standard input: got %d %q %q", code, stdout, stderr)
			}
			if code, stdout, _ := execute(t, "", "events", "replay", "--config", file, "-"); code != 0 || stdout != "0 events put into the spool\n" {
				t.Errorf("nothing: got %d %q", code, stdout)
			}
			if got := records(); len(got) != 3 || got[0] != click || got[1] != bounce || got[2] != bounce {
				t.Errorf("got %q, want the three as they were", got)
			}

			code, stdout, stderr := execute(t, click+"\n{}\n", "events", "replay", "--config", file, "-")
			if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "postern: -:2: ") {
				t.Errorf("what is none: got %d %q %q, want the line named", code, stdout, stderr)
			}
			code, _, stderr = execute(t, "", "events", "replay", "--config", file, input+".not")
			if code != exitFailed || !strings.Contains(stderr, "no such file") {
				t.Errorf("no file: got %d %q", code, stderr)
			}
			if got := records(); len(got) != 3 {
				t.Errorf("got %d records, want nothing added", len(got))
			}
		})
	}
}

func TestEventsReplayWithoutASpool(t *testing.T) {
	click := string(storedEvent(t, event.Click, "m1"))
	file := writeConfig(t, "", "")
	s, err := spool.Open(spool.Config{Dir: gateway.EventsDir(loadConfig(t, file).Config), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	code, stdout, stderr := execute(t, click+"\n", "events", "replay", "--config", file, "-")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "0 of 1 events put into the spool: no gateway answers on admin.socket") ||
		!strings.Contains(stderr, "the spool cannot be opened") {
		t.Errorf("another process has it: got %d %q %q, want why neither can be asked", code, stdout, stderr)
	}
}
