package queue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// heldDeliverer holds its only attempt until it is released.
type heldDeliverer struct {
	began   chan struct{}
	release chan struct{}
}

func (h *heldDeliverer) Deliver(context.Context, *Transaction, int, int) Verdict {
	h.began <- struct{}{}
	<-h.release
	return Verdict{Done: true, Reply: "250 taken"}
}

func (h *heldDeliverer) GiveUp(context.Context, *Transaction, int, int, Verdict) []*Transaction {
	return nil
}

func (h *heldDeliverer) Reachable(context.Context) error { return nil }

func TestWhatIsBeingSentIsSaidSo(t *testing.T) {
	q := open(t, newDisk(t), func(c *Config) { c.RetryAfter = []time.Duration{time.Hour} })
	defer finish(t, q)
	sent := transaction("t1", "a")
	sent.Session = "s.1"
	waits := transaction("t2", "b")
	waits.Session = "s.1"
	waits.Copies[0].Tried = &Verdict{Reply: "450 later"}
	if err := q.Put(context.Background(), sent, waits); err != nil {
		t.Fatal(err)
	}
	d := &heldDeliverer{began: make(chan struct{}), release: make(chan struct{})}
	stop := serve(q, d)
	defer stop()
	defer close(d.release)
	<-d.began

	if err := q.Drop("t1-a"); !errors.Is(err, ErrInFlight) || errors.Is(err, ErrUnknown) {
		t.Errorf("drop: got %v, want %v", err, ErrInFlight)
	}
	if n, err := q.Retry("t1-a"); n != 0 || !errors.Is(err, ErrInFlight) {
		t.Errorf("retry: got %d, %v, want 0, %v", n, err, ErrInFlight)
	}

	err := q.Drop("s.1")
	if !errors.Is(err, ErrInFlight) || !strings.Contains(err.Error(), "1 of 2 copies of s.1; the others were dropped") {
		t.Errorf("drop of both: got %v", err)
	}
	if list := q.List(9); len(list) != 1 || list[0].MessageID != "t1-a" {
		t.Errorf("got %+v, want only the copy that is being sent", list)
	}
	if err := q.Drop("t2-b"); !errors.Is(err, ErrUnknown) {
		t.Errorf("drop of what is gone: got %v, want %v", err, ErrUnknown)
	}
}

// TestSessionLeadsToItsCopies looks copies up by the id of their session, after
// a restart, and in several transactions.
func TestSessionLeadsToItsCopies(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	one, two, other := transaction("t1", "a", "b"), transaction("t2", "c"), transaction("t3", "d")
	one.Session, two.Session, other.Session = "s.1", "s.1", "s.2"
	if err := q.Put(context.Background(), one, two, other); err != nil {
		t.Fatal(err)
	}
	finish(t, q)
	q = open(t, disk, nil)
	defer finish(t, q)

	show, err := q.Show("s.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 copies of s.1", "t1-a a@example.net", "t1-b b@example.net", "t2-c c@example.net"} {
		if !strings.Contains(string(show), want) {
			t.Errorf("show: no %q in\n%s", want, show)
		}
	}
	lines := strings.Split(string(show), "\n")
	if len(lines) != 5 || !slices.IsSorted(lines[1:4]) || lines[1] != `t1-a a@example.net tries=0 reply=""` {
		t.Errorf("show: got %q, want a line each, in order", lines)
	}
	if msg, err := q.Show("s.2"); err != nil || string(msg) != bytesOf("t3", "d") {
		t.Errorf("show of one: got %q, %v", msg, err)
	}

	if n, err := q.Retry("s.1"); n != 3 || err != nil {
		t.Errorf("retry: got %d, %v, want 3", n, err)
	}
	if n, err := q.Retry("s.3"); n != 0 || !errors.Is(err, ErrUnknown) {
		t.Errorf("retry of another: got %d, %v, want 0, %v", n, err, ErrUnknown)
	}
	if err := q.Drop("s.1"); err != nil {
		t.Error(err)
	}
	if list := q.List(9); len(list) != 1 || list[0].Session != "s.2" {
		t.Errorf("got %+v, want only the copy of s.2", list)
	}
}

// TestNoIDIsNoID checks that an empty id does not match transactions without a
// session, which older versions wrote.
func TestNoIDIsNoID(t *testing.T) {
	q := open(t, newDisk(t), nil)
	defer finish(t, q)
	if err := q.Put(context.Background(), transaction("t1", "a")); err != nil {
		t.Fatal(err)
	}
	if err := q.Drop(""); !errors.Is(err, ErrUnknown) {
		t.Errorf("drop: got %v, want %v", err, ErrUnknown)
	}
	if _, err := q.Show(""); !errors.Is(err, ErrUnknown) {
		t.Errorf("show: got %v, want %v", err, ErrUnknown)
	}
}
