package health

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// at is a part that made progress last so long ago.
type at time.Duration

func (a at) Alive() time.Time { return time.Now().Add(-time.Duration(a)) }

func TestCheckNamesStuckParts(t *testing.T) {
	var r Registry
	if err := r.Check(); err != nil {
		t.Errorf("no part: got %v, want nil", err)
	}

	r.Watch("idle", at(0), time.Minute)
	r.Watch("slow", at(time.Minute), time.Hour)
	if err := r.Check(); err != nil {
		t.Errorf("all alive: got %v, want nil", err)
	}

	r.Watch("spool", at(2*time.Hour), time.Hour)
	r.Watch("queue", at(3*time.Hour), time.Hour)
	err := r.Check()
	if err == nil {
		t.Fatal("two stuck: got nil, want an error")
	}
	for _, name := range []string{"spool: no sign of life for 2h0m0s", "queue: "} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("got %q, want it to hold %q", err, name)
		}
	}
	if strings.Contains(err.Error(), "idle") || strings.Contains(err.Error(), "slow") {
		t.Errorf("got %q, want no word of what is alive", err)
	}
}

func TestWorkIsAsOldAsItsOldestPiece(t *testing.T) {
	var w Work
	before := time.Now()
	if got := w.Alive(); got.Before(before) {
		t.Errorf("idle: got %v, want now", got)
	}

	endFirst := w.Begin()
	first := w.Alive()
	between := time.Now()
	endSecond := w.Begin()
	if got := w.Alive(); !got.Equal(first) || got.After(between) {
		t.Errorf("two under way: got %v, want the first one's %v", got, first)
	}

	endFirst()
	if got := w.Alive(); got.Before(between) {
		t.Errorf("the first ended: got %v, want the second one's, not before %v", got, between)
	}

	endSecond()
	after := time.Now()
	if got := w.Alive(); got.Before(after) {
		t.Errorf("all ended: got %v, want now", got)
	}
}

// step is a listener that returns what a test sends.
type step struct {
	net.Listener
	next chan net.Conn // nil: an error
}

func (s step) Accept() (net.Conn, error) {
	if c := <-s.next; c != nil {
		return c, nil
	}
	return nil, errors.New("closed")
}

func TestListenerIsAliveWhileItsUserAccepts(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	s := step{next: make(chan net.Conn, 2)}
	l := NewListener(s)

	mark := time.Now()
	if got := l.Alive(); got.Before(mark) {
		t.Errorf("not begun: got %v, want now", got)
	}

	s.next <- here
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	if got := l.Alive(); got.After(left) {
		t.Errorf("a connection is with the user: got %v, want when it got it, before %v", got, left)
	}

	s.next <- nil
	if _, err := l.Accept(); err == nil {
		t.Fatal("got no error")
	}
	mark = time.Now()
	if got := l.Alive(); got.Before(mark) {
		t.Errorf("after an error: got %v, want now", got)
	}
}
