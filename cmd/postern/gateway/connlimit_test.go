package gateway

import (
	"errors"
	"net"
	"testing"
)

// waiting is a listener whose connections a test makes.
type waiting struct {
	net.Listener
	conns chan net.Conn
}

func (q waiting) Accept() (net.Conn, error) {
	if c, ok := <-q.conns; ok {
		return c, nil
	}
	return nil, errors.New("closed")
}

func (q waiting) Close() error { return nil }

func TestConnectionLimitHoldsListenersTogether(t *testing.T) {
	limit := newConnectionLimit(2)
	ready := func() waiting { // with connections that wait
		q := waiting{conns: make(chan net.Conn, 10)}
		for range cap(q.conns) {
			a, b := net.Pipe()
			t.Cleanup(func() { a.Close(); b.Close() })
			q.conns <- a
		}
		return q
	}
	first, second := limit.listener(ready()), limit.listener(ready())

	a, err := first.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Accept(); err != nil {
		t.Fatal(err)
	}
	if got := len(limit.free); got != 2 {
		t.Fatalf("got %d connections counted, want 2", got)
	}

	next := make(chan error)
	go func() {
		_, err := first.Accept()
		next <- err
	}()
	a.Close()
	a.Close() // counts once
	if err := <-next; err != nil {
		t.Errorf("a place is free: got %v", err)
	}
	if got := len(limit.free); got != 2 {
		t.Errorf("got %d connections counted, want 2", got)
	}

	go func() {
		_, err := second.Accept()
		next <- err
	}()
	second.Close()
	if err := <-next; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed while it waits: got %v, want %v", err, net.ErrClosed)
	}
}

func TestConnectionLimitIsNotTakenByAFailedAccept(t *testing.T) {
	limit := newConnectionLimit(1)
	q := waiting{conns: make(chan net.Conn)}
	close(q.conns)
	l := limit.listener(q)

	for range 3 {
		if _, err := l.Accept(); err == nil {
			t.Fatal("got no error")
		}
	}
	if got := len(limit.free); got != 0 {
		t.Errorf("got %d connections counted, want none", got)
	}
}
