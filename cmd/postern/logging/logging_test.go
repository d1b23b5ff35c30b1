package logging

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is more time than any test needs.
const long = time.Minute

// sink is a writer that a test can block or fail.
type sink struct {
	entered chan struct{} // gets one for each Write that begins; nil: nobody asks
	gate    chan struct{} // each Write waits for one, or for its end; nil: none waits

	mu    sync.Mutex
	fail  error
	lines []string
}

func (s *sink) Write(p []byte) (int, error) {
	if s.entered != nil {
		s.entered <- struct{}{}
	}
	if s.gate != nil {
		<-s.gate
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	s.lines = append(s.lines, string(p))
	return len(p), nil
}

func (s *sink) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "")
}

func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestLogKeepsOrder(t *testing.T) {
	w := &sink{}
	l := New(Config{Writer: w})
	const n = 1000

	for i := range n {
		if i%7 == 0 {
			l.Logger().Error("line", "n", i)
			continue
		}
		l.Logger().With("part", "x").Info("line", "n", i)
	}
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}

	if len(w.lines) != n {
		t.Fatalf("got %d lines, want %d", len(w.lines), n)
	}
	for i, line := range w.lines {
		if want := fmt.Sprintf(" n=%d\n", i); !strings.HasSuffix(line, want) {
			t.Fatalf("line %d: got %q, want it to end with %q", i, line, want)
		}
	}
}

func TestLogNeverBlocks(t *testing.T) {
	w := &sink{entered: make(chan struct{}, 1), gate: make(chan struct{})}
	l := New(Config{Writer: w, Buffer: 4 << 10})
	reg := prometheus.NewRegistry()
	l.Register(reg)

	l.Logger().Info("held by the writer")
	<-w.entered

	const n = 1000
	for i := range n { // would hang here
		l.Logger().Info("much", "n", i)
	}
	dropped := value(t, l.dropped)
	if dropped <= 0 || dropped >= n {
		t.Errorf("got %v lines dropped, want some of %d and not all", dropped, n)
	}
	l.Logger().Error("room for an error is left")

	go func() {
		for range w.entered {
		}
	}()
	close(w.gate)
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}
	close(w.entered)

	text := w.text()
	at := strings.Index(text, fmt.Sprintf("lines=%v", dropped))
	if at < 0 || strings.Index(text, "room for an error is left") < at {
		t.Errorf("got\n%s\nwant a line that says %v are missing, before the error", text, dropped)
	}
}

func TestLogCountsFailedWrites(t *testing.T) {
	w := &sink{entered: make(chan struct{}), fail: errors.New("broken pipe")}
	l := New(Config{Writer: w})

	l.Logger().Info("lost")
	<-w.entered
	l.Logger().Info("lost as well")
	<-w.entered
	l.Logger().Error("after it")
	go func() {
		for range w.entered {
		}
	}()
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}
	close(w.entered)

	if got := value(t, l.failed); got != 3 {
		t.Errorf("got %v failed writes, want 3", got)
	}
}

func TestLogGoesOnAfterFailedWrite(t *testing.T) {
	w := &sink{entered: make(chan struct{}), gate: make(chan struct{}), fail: errors.New("broken pipe")}
	l := New(Config{Writer: w})

	l.Logger().Info("lost")
	<-w.entered
	w.gate <- struct{}{}
	l.Logger().Info("there")
	<-w.entered // the first has failed
	w.setFail(nil)
	w.gate <- struct{}{}
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}

	if got := w.text(); strings.Contains(got, "lost") || !strings.Contains(got, "there") {
		t.Errorf("got %q, want the second line alone", got)
	}
}

func TestCloseIsBounded(t *testing.T) {
	w := &sink{entered: make(chan struct{}, 1), gate: make(chan struct{})}
	l := New(Config{Writer: w})
	l.Logger().Info("held by the writer")
	<-w.entered
	l.Logger().Info("waits")
	l.Logger().Error("waits, too")

	err := l.Close(10 * time.Millisecond) // would hang here
	if err == nil || !strings.Contains(err.Error(), "3 lines") {
		t.Errorf("got error %v, want one that says 3 lines are lost", err)
	}

	l.Logger().Error("too late, and no panic")
	go func() {
		for range w.entered {
		}
	}()
	close(w.gate)
	<-l.done
	close(w.entered)
}

func TestCloseWritesErrorsFirstWhenTimeIsShort(t *testing.T) {
	w := &sink{entered: make(chan struct{}, 100), gate: make(chan struct{}, 100)}
	l := New(Config{Writer: w})
	l.Logger().Info("held by the writer")
	<-w.entered
	for range 5 {
		l.Logger().Info("ordinary")
	}
	l.Logger().Error("grave")
	l.Logger().Info("ordinary")

	l.mu.Lock()
	l.closing = true
	lost := l.keepUrgent() // what Close does at half-time
	l.mu.Unlock()
	close(w.gate)
	<-l.done

	if lost != 6 {
		t.Errorf("got %d lines given up, want 6", lost)
	}
	text := w.text()
	if strings.Contains(text, "msg=ordinary") || !strings.Contains(text, "msg=grave") || !strings.Contains(text, "lines=5") {
		t.Errorf("got\n%s\nwant the error, and a line that says 5 are missing before it", text)
	}
}

func TestLogFormats(t *testing.T) {
	for _, c := range []struct {
		name string
		json bool
		want string
	}{
		{"text", false, `level=WARN msg=hello g.a=1`},
		{"json", true, `"level":"WARN","msg":"hello","g":{"a":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			l := New(Config{Writer: &b, JSON: c.json})
			l.Logger().Debug("below the level")
			l.Logger().WithGroup("g").Warn("hello", "a", 1)
			fmt.Fprintln(l, "plain text")
			if err := l.Close(long); err != nil {
				t.Fatal(err)
			}

			got := b.String()
			if !strings.Contains(got, c.want) || !strings.HasSuffix(got, "plain text\n") || strings.Contains(got, "below") {
				t.Errorf("got %q, want it to hold %q and the plain text last", got, c.want)
			}
		})
	}
}

func TestLogIsSafeForConcurrentUse(t *testing.T) {
	w := &sink{}
	l := New(Config{Writer: w, Buffer: 1 << 20})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				l.Logger().Info("concurrent", "n", i)
			}
		})
	}
	wg.Wait()
	if err := l.Close(long); err != nil {
		t.Fatal(err)
	}

	if got := len(w.lines); got != 800 {
		t.Errorf("got %d lines, want 800", got)
	}
}
