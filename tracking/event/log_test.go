package event

import (
	"errors"
	"log/slog"
	"testing"

	"postern/tracking/spool"
)

// openSpool opens a spool in a temporary folder.
func openSpool(t *testing.T, c spool.Config) *spool.Spool {
	t.Helper()

	c.Dir = t.TempDir()
	c.Readers = []string{"test"}
	c.Log = slog.New(slog.DiscardHandler)

	s, err := spool.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })

	return s
}

// stored returns the lines that a spool holds.
func stored(t *testing.T, s *spool.Spool) []string {
	t.Helper()

	waiting, err := s.Backlog("test")
	if err != nil {
		t.Fatal(err)
	}

	r, err := s.Reader("test")
	if err != nil {
		t.Fatal(err)
	}

	var lines []string
	for range waiting.Records {
		rec, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(rec.Data))
	}

	return lines
}

func TestLogRecordsEventsInOrder(t *testing.T) {
	s := openSpool(t, spool.Config{})
	log := NewLog(s, nil)

	events := []*Event{full(Injection), full(Delivery), full(Click)}
	if err := log.Record(t.Context(), events...); err != nil {
		t.Fatal(err)
	}

	lines := stored(t, s)
	if len(lines) != len(events) {
		t.Fatalf("got %d records, want %d", len(lines), len(events))
	}

	for i, line := range lines {
		got, err := Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if got.Type != events[i].Type || got.ID != events[i].ID {
			t.Errorf("record %d: got %s %s, want %s %s", i, got.Type, got.ID, events[i].Type, events[i].ID)
		}
	}
}

// TestLogRecordsAllOrNone: where one event cannot be encoded, none is stored.
func TestLogRecordsAllOrNone(t *testing.T) {
	s := openSpool(t, spool.Config{})
	began := 0
	log := NewLog(s, func() func() {
		began++
		return func() {}
	})

	if err := log.Record(t.Context(), full(Delivery), &Event{Type: "opened"}); err == nil {
		t.Error("an event of an unknown type is recorded")
	}
	if lines := stored(t, s); len(lines) != 0 {
		t.Errorf("got %d records, want none", len(lines))
	}
	if began != 0 {
		t.Errorf("begin was called %d times, want 0", began)
	}
}

func TestLogCallsBeginAndEndAroundAppend(t *testing.T) {
	s := openSpool(t, spool.Config{})

	var calls []bool // true: begin
	var durable int64
	log := NewLog(s, func() func() {
		calls = append(calls, true)

		return func() {
			calls = append(calls, false)
			durable = s.Size()
		}
	})

	if err := log.Record(t.Context(), full(Open)); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 2 || !calls[0] || calls[1] {
		t.Errorf("got calls %v, want begin and end once", calls)
	}
	if durable == 0 {
		t.Error("end was called before the event was durable")
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := log.Record(t.Context(), full(Open)); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("got %v, want %v", err, spool.ErrClosed)
	}
	if len(calls) != 4 {
		t.Errorf("got %d calls, want end to be called after an error too", len(calls))
	}
}

func TestLogReservesRoom(t *testing.T) {
	dir := t.TempDir()
	disk := spool.NewDisk(nil, dir, 0)
	log := NewLog(openSpool(t, spool.Config{Disk: disk}), nil)

	free, err := disk.Free()
	if err != nil {
		t.Fatal(err)
	}

	release, err := log.Reserve(free / 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Reserve(free / 4 * 3); !errors.Is(err, spool.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, spool.ErrNoSpace)
	}

	release()
	again, err := log.Reserve(free / 4 * 3)
	if err != nil {
		t.Errorf("after release: %v", err)
	} else {
		again()
	}
}
