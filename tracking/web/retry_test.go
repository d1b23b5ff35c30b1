package web

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/tracking/event"
)

// clocked is a Recorder that fails as often as it is told, and notes when it was
// called.
type clocked struct {
	mu       sync.Mutex
	begin    time.Time
	failures int
	calls    []time.Duration
	written  []string
}

func (c *clocked) Record(_ context.Context, e ...*event.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, time.Since(c.begin))
	if c.failures > 0 {
		c.failures--
		return errDiskFull
	}
	c.written = append(c.written, e[0].ID)
	return nil
}

// seen returns when it was called, and how many events are written.
func (c *clocked) seen() ([]time.Duration, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls), len(c.written)
}

// TestPausesBetweenTries: doubled from one second up to half a minute, and one
// second again once something was written.
func TestPausesBetweenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewState().retries
		c := &clocked{begin: time.Now(), failures: 7}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.serve(ctx, slog.New(slog.DiscardHandler)) }()

		l.add(requestKey{1}, &event.Event{ID: "a"}, c)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		var want []time.Duration
		for _, s := range []time.Duration{1, 3, 7, 15, 31, 61, 91} {
			want = append(want, s*time.Second)
		}
		if calls, written := c.seen(); !reflect.DeepEqual(calls, want) || written != 0 {
			t.Errorf("tried at %v, want %v", calls, want)
		}

		time.Sleep(time.Minute)
		synctest.Wait()
		want = append(want, 121*time.Second)
		if calls, written := c.seen(); !reflect.DeepEqual(calls, want) || written != 1 {
			t.Errorf("tried at %v and %d written, want it in the last try at %v", calls, written, want)
		}

		l.add(requestKey{2}, &event.Event{ID: "b"}, c)
		time.Sleep(time.Second)
		synctest.Wait()
		want = append(want, 3*time.Minute+time.Second)
		if calls, written := c.seen(); !reflect.DeepEqual(calls, want) || written != 2 {
			t.Errorf("tried at %v, want the next one a second after it came: %v", calls, want)
		}
		cancel()
		<-done
	})
}

// TestTriesStopAtThreeFailures in a row; others go on from where it stopped.
func TestTriesStopAtThreeFailures(t *testing.T) {
	for _, c := range []struct {
		name     string
		failures int
		events   int
		calls    int
		written  int
		again    bool // something was written
	}{
		{"none", 0, 5, 5, 5, true},
		{"two", 2, 5, 5, 3, true},
		{"three", 3, 5, 3, 0, false},
		{"all of two", 2, 2, 2, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewState().retries
			r := &clocked{failures: c.failures}
			for i := range c.events {
				l.add(requestKey{byte(i)}, &event.Event{}, r)
			}
			if got := l.try(t.Context(), slog.New(slog.DiscardHandler)); got != c.again {
				t.Errorf("something was written: %v, want %v", got, c.again)
			}
			if len(r.calls) != c.calls || len(r.written) != c.written || l.length() != c.events-c.written {
				t.Errorf("%d calls, %d written, %d left, want %d, %d and the rest", len(r.calls), len(r.written), l.length(), c.calls, c.written)
			}
		})
	}
}

// TestFailuresInARow: one that is written begins the count anew.
func TestFailuresInARow(t *testing.T) {
	l := NewState().retries
	bad, good := &clocked{failures: 10}, &clocked{}
	for i, r := range []*clocked{bad, bad, good, bad, bad, good} {
		l.add(requestKey{byte(i)}, &event.Event{}, r)
	}
	if !l.try(t.Context(), slog.New(slog.DiscardHandler)) || len(bad.calls) != 4 || len(good.written) != 2 {
		t.Errorf("%d failures and %d written, want 4 and 2", len(bad.calls), len(good.written))
	}
}

// TestWaitingIsGivenUp after ten minutes, to the nanosecond, which is counted
// and logged.
func TestWaitingIsGivenUp(t *testing.T) {
	s := NewState()
	l := s.retries
	now := time.Unix(1795500000, 0)
	l.now = func() time.Time { return now }
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	l.add(requestKey{1}, &event.Event{ID: "old"}, nil)
	now = now.Add(1)
	l.add(requestKey{2}, &event.Event{ID: "new"}, nil)

	now = now.Add(10*time.Minute - 2)
	l.expire(logger)
	if l.length() != 2 || log.Len() != 0 {
		t.Errorf("within ten minutes: %d wait, logged %q", l.length(), &log)
	}

	now = now.Add(1)
	array := l.entries
	l.expire(logger)
	if l.length() != 1 || l.entries[0].event.ID != "new" || value(t, s.lost) != 1 {
		t.Errorf("after ten minutes: %d wait, %v lost, want 1 and 1", l.length(), value(t, s.lost))
	}
	if array[1] != nil {
		t.Error("what was given up is still held")
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=ERROR msg="web: unsubscribe events lost" events=1`) {
		t.Errorf("logged %q, want one line", got)
	}

	key := requestKey{2}
	if !l.add(key, &event.Event{}, nil) || l.length() != 1 {
		t.Errorf("the same request waits %d times, want once", l.length())
	}
}

// stalled is a Recorder that waits for its context to end.
type stalled struct{ calls int }

func (s *stalled) Record(ctx context.Context, _ ...*event.Event) error {
	s.calls++
	<-ctx.Done()
	return ctx.Err()
}

// TestFlushIsBounded: a disk that does not answer holds up the end for five
// seconds in all, and what comes after the end finds no place.
func TestFlushIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewState()
		r := &stalled{}
		for i := range 3 {
			s.retries.add(requestKey{byte(i)}, &event.Event{}, r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()

		start := time.Now()
		if err := s.Serve(ctx, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the end took %v, want 5s", took)
		}
		if r.calls != 1 || value(t, s.lost) != 3 || s.retries.length() != 0 {
			t.Errorf("%d calls, %v lost, %d waiting, want 1, 3, 0", r.calls, value(t, s.lost), s.retries.length())
		}
		if s.retries.add(requestKey{9}, &event.Event{}, r) {
			t.Error("an event that comes after the end is kept")
		}
	})
}

// TestTimesOfWriting holds how long things are waited for.
func TestTimesOfWriting(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"a click", clickWaits, 5 * time.Second},
		{"an unsubscribe request", unsubscribeWaits, 20 * time.Second},
		{"events written at once", maxWriting, 4096},
		{"places for them", cap(NewState().writing), 4096},
		{"events that wait", maxWaiting, 10000},
		{"how long", waitAtMost, 10 * time.Minute},
		{"requests remembered of a second", maxRemembered, 131072},
		{"the same within", sameWithin, time.Second},
		{"a clock set back", clockSetBack, time.Minute},
		{"one line each", logEvery, time.Minute},
		{"bytes of a host in the log", maxHostLogged, 255},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestLogLimiter: one line a minute, whatever way the clock goes.
func TestLogLimiter(t *testing.T) {
	var s logLimiter
	now := time.Unix(1795500000, 0)
	for _, c := range []struct {
		after time.Duration // since the last that was logged
		want  int
	}{{0, 1}, {0, 0}, {time.Minute - 1, 0}, {-time.Minute + 1, 0}, {time.Minute, 1}, {-time.Minute, 1}} {
		got := 0
		s.log(now.Add(c.after), func() { got++ })
		if got != c.want {
			t.Errorf("%v later: logged %d times, want %d", c.after, got, c.want)
		}
		if got > 0 {
			now = now.Add(c.after)
		}
	}
}

// TestQueueHoldsNothingThatIsOut: what is taken out is left to the collector.
func TestQueueHoldsNothingThatIsOut(t *testing.T) {
	l := NewState().retries
	l.add(requestKey{1}, &event.Event{ID: "a"}, nil)
	l.add(requestKey{2}, &event.Event{ID: "b"}, nil)
	array := l.entries
	if w := l.first(); w.event.ID != "a" || array[0] != nil || l.length() != 1 || l.entries[0].event.ID != "b" {
		t.Errorf("took %q, %d are left, the queue holds %v", w.event.ID, l.length(), array)
	}
}
