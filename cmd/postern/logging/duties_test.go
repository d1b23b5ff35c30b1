package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// held returns a log whose writer blocks in its first line.
func held(t *testing.T, buffer int) (*Log, *sink) {
	t.Helper()
	w := &sink{entered: make(chan struct{}, 1000), gate: make(chan struct{})}
	l := New(Config{Writer: w, Buffer: buffer})
	fmt.Fprint(l, "held\n")
	<-w.entered
	return l, w
}

// release unblocks the writer and closes the log.
func release(t *testing.T, l *Log, w *sink) string {
	t.Helper()
	close(w.gate)
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}
	return w.text()
}

// TestTheBufferIsFullToTheByte checks that ordinary lines fill three quarters
// of the buffer, and errors the last one.
func TestTheBufferIsFullToTheByte(t *testing.T) {
	l, w := held(t, 400)
	put := func(n int, urgent bool) float64 {
		before := value(t, l.dropped)
		l.put(bytes.Repeat([]byte("x"), n), urgent)
		return value(t, l.dropped) - before
	}

	for i, c := range []struct {
		size    int
		urgent  bool
		dropped float64
	}{
		{301, false, 1}, // of 300
		{300, false, 0},
		{1, false, 1},
		{101, true, 1}, // of 100
		{100, true, 0},
		{1, true, 1},
	} {
		if got := put(c.size, c.urgent); got != c.dropped {
			t.Errorf("%d: %d bytes, urgent %v: got %v dropped, want %v", i, c.size, c.urgent, got, c.dropped)
		}
	}
	if l.size != 400 {
		t.Errorf("got %d bytes in the buffer, want 400", l.size)
	}

	text := release(t, l, w)
	if l.size != 0 || len(l.lines) != 0 {
		t.Errorf("got %d bytes and %d lines left, want none", l.size, len(l.lines))
	}
	if got := strings.Count(text, "log lines dropped, their reader did not keep up"); got != 3 {
		t.Errorf("got\n%s\nwant three words of what is missing: before each line that came in, and at the end", text)
	}
	for _, want := range []string{"lines=1\n", "lines=2\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q in it", text, want)
		}
	}
}

// TestWhatIsMissingIsSaidOnce checks that one line stands for the missing ones,
// in their place.
func TestWhatIsMissingIsSaidOnce(t *testing.T) {
	l, w := held(t, 400)
	l.put(bytes.Repeat([]byte("x"), 500), false)
	l.put([]byte("first\n"), false)
	l.put([]byte("second\n"), false)

	lines := strings.Split(release(t, l, w), "\n")
	if len(lines) != 5 || lines[0] != "held" || !strings.HasSuffix(lines[1], "lines=1") || lines[2] != "first" || lines[3] != "second" {
		t.Errorf("got %q, want a word of one line before the first", lines)
	}
	if !strings.Contains(lines[1], "level=WARN msg=\"log lines dropped, their reader did not keep up\" lines=1") {
		t.Errorf("got %q", lines[1])
	}
}

// TestLinesAreCopied checks that the caller may reuse the memory of a line.
func TestLinesAreCopied(t *testing.T) {
	l, w := held(t, 0)
	b := []byte("mine\n")
	if n, err := l.Write(b); n != len(b) || err != nil {
		t.Errorf("got %d, %v, want %d", n, err, len(b))
	}
	if n, err := (urgentWriter{l}).Write(b); n != len(b) || err != nil {
		t.Errorf("got %d, %v, want %d", n, err, len(b))
	}
	copy(b, "XXXX")
	if text := release(t, l, w); text != "held\nmine\nmine\n" {
		t.Errorf("got %q, want the lines as they were", text)
	}
	if DefaultBuffer != 4194304 || l.limit != DefaultBuffer {
		t.Errorf("got a buffer of %d, want 4 MiB", l.limit)
	}
}

// TestAFailedWriteIsCountedOnce checks that only writes that fail are counted.
func TestAFailedWriteIsCountedOnce(t *testing.T) {
	w := &sink{}
	l := New(Config{Writer: w})
	fmt.Fprint(l, "good\n")
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}
	if got := value(t, l.failed); got != 0 {
		t.Errorf("got %v failed writes, want none", got)
	}
	w.setFail(errors.New("broken pipe"))
	l.emit([]byte("lost\n"))
	if got := value(t, l.failed); got != 1 {
		t.Errorf("got %v failed writes, want one", got)
	}
}

// TestCloseEndsAnIdleLog checks that Close wakes the writer.
func TestCloseEndsAnIdleLog(t *testing.T) {
	l := New(Config{Writer: &sink{}})
	if err := l.Close(long); err != nil {
		t.Error(err)
	}
	select {
	case <-l.done:
	default:
		t.Error("the writer goes on")
	}
	fmt.Fprint(l, "too late\n")
	if got := value(t, l.dropped); got != 1 {
		t.Errorf("got %v dropped, want the one that came too late", got)
	}
}

// TestCloseSaysHowManyLinesWereLost checks the number in both halves of its
// time.
func TestCloseSaysHowManyLinesWereLost(t *testing.T) {
	l, w := held(t, 0)
	for range 3 {
		l.Logger().Info("ordinary")
	}
	for range 2 {
		l.Logger().Error("grave")
	}
	err := l.Close(2 * time.Nanosecond)
	if err == nil || err.Error() != "logging: 6 lines not written within 2ns" {
		t.Errorf("got %v, want 3 ordinary, 2 grave and the one in the writer's hands", err)
	}
	if got := value(t, l.dropped); got != 3 {
		t.Errorf("got %v dropped, want the ordinary ones", got)
	}
	close(w.gate)
	<-l.done
	text := w.text()
	if strings.Count(text, "msg=grave") != 2 || strings.Contains(text, "msg=ordinary") || strings.Count(text, "lines=3\n") != 1 {
		t.Errorf("got\n%s\nwant both errors, and a word of three lines", text)
	}
}

// TestWhatIsKeptSaysWhatIsMissing checks that dropped lines are counted before
// the error that follows them, and at the end.
func TestWhatIsKeptSaysWhatIsMissing(t *testing.T) {
	l := &Log{
		lines: []line{
			{text: []byte("a"), missing: 2},
			{text: []byte("bb"), urgent: true, missing: 1},
			{text: []byte("ccc"), urgent: true},
			{text: []byte("dddd"), missing: 4},
		},
		size:    10,
		missing: 8,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}),
	}

	if got := l.keepUrgent(); got != 2 {
		t.Errorf("got %d lines given up, want 2", got)
	}
	if len(l.lines) != 2 || l.lines[0].missing != 4 || l.lines[1].missing != 0 || l.missing != 13 || l.size != 5 {
		t.Errorf("got %+v, %d missing, %d bytes, want 4 before the first, none before the second, 13 at the end, 5 bytes", l.lines, l.missing, l.size)
	}
	if got := value(t, l.dropped); got != 2 {
		t.Errorf("got %v dropped, want 2", got)
	}
}

// TestLevelsAreHeld checks levels below and above error.
func TestLevelsAreHeld(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelDebug: "debug info warn error",
		slog.LevelInfo:  "info warn error",
		slog.LevelWarn:  "warn error",
		slog.LevelError: "error",
	} {
		w := &sink{}
		l := New(Config{Writer: w, Level: level})
		log := l.Logger()
		log.Debug("debug")
		log.Info("info")
		log.Warn("warn")
		log.Error("error")
		if err := l.Close(long); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, line := range w.lines {
			_, msg, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "msg=")
			got = append(got, msg)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%v: got %q, want %q", level, text, want)
		}
		if got := log.Enabled(context.Background(), level-1); got {
			t.Errorf("%v: got that %v is written, want not", level, level-1)
		}
	}
}

// TestAttributesAndGroupsHoldForErrorsToo checks also that a shared slice of
// attributes is not changed.
func TestAttributesAndGroupsHoldForErrorsToo(t *testing.T) {
	w := &sink{}
	l := New(Config{Writer: w, JSON: true})
	attrs := []slog.Attr{slog.Duration("pause", 3*time.Second), slog.Int("n", 1)}
	log := slog.New(l.Logger().Handler().WithAttrs(attrs).WithGroup("g"))
	log.Info("x", "took", 2*time.Second, "m", 2)
	log.Error("y", "m", 3, "took", 1500*time.Nanosecond)
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}

	if len(w.lines) != 2 {
		t.Fatalf("got %q, want two lines", w.lines)
	}
	for i, want := range []string{
		`"pause_seconds":3,"n":1,"g":{"took_seconds":2,"m":2}}`,
		`"pause_seconds":3,"n":1,"g":{"m":3,"took_seconds":0.000002}}`,
	} {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(w.lines[i]), &object); err != nil || !strings.HasSuffix(w.lines[i], want+"\n") {
			t.Errorf("got %s, %v, want %s at its end", w.lines[i], err, want)
		}
	}
	if attrs[0].Key != "pause" || attrs[0].Value.Kind() != slog.KindDuration {
		t.Errorf("got %v, want the caller's own as it was", attrs[0])
	}
}

// TestInSecondsKeepsTheRecord checks the time, level, message and source
// position.
func TestInSecondsKeepsTheRecord(t *testing.T) {
	r := slog.NewRecord(time.Unix(1795500000, 0), slog.LevelWarn, "m", 7)
	r.AddAttrs(slog.Int("a", 1), slog.Duration("b", time.Second), slog.String("c", "x"))
	if !hasDuration(r) {
		t.Error("got no duration, want one")
	}

	got := inSeconds(r)
	if !got.Time.Equal(r.Time) || got.Level != r.Level || got.Message != "m" || got.PC != 7 || got.NumAttrs() != 3 || hasDuration(got) {
		t.Errorf("got %+v", got)
	}
	none := slog.NewRecord(time.Time{}, 0, "", 0)
	none.AddAttrs(slog.Int("a", 1))
	if hasDuration(none) {
		t.Error("got a duration, want none")
	}
}

// TestCountersHaveTheirNames checks the names of the metrics and their help.
func TestCountersHaveTheirNames(t *testing.T) {
	l := New(Config{Writer: &sink{}})
	defer l.Close(long) //nolint:errcheck // nothing is written
	reg := prometheus.NewPedanticRegistry()
	l.Register(reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		got = append(got, f.GetName()+": "+f.GetHelp())
	}
	want := "postern_log_lines_dropped_total: Log lines that were dropped because the reader of the log did not keep up.\n" +
		"postern_log_write_errors_total: Log lines that were lost in a failed write."
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
