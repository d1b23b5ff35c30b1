package smtpd

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"postern/smtpd/wire"
)

func TestHandshakesOfASourceWait(t *testing.T) {
	t.Parallel()
	h := newHandshakeSlots(2)
	ctx, cancel := context.WithCancel(context.Background())
	var done []func()
	for range 2 {
		end, err := h.acquire(ctx, oneSource)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, end)
	}
	other, err := h.acquire(ctx, otherSource)
	if err != nil {
		t.Fatalf("another source: %v", err)
	}
	other()

	third := make(chan error, 1)
	go func() {
		end, err := h.acquire(ctx, oneSource)
		if err == nil {
			end()
		}
		third <- err
	}()
	done[0]()
	if err := <-third; err != nil {
		t.Errorf("after one was done: %v", err)
	}

	end, err := h.acquire(ctx, oneSource)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := h.acquire(ctx, oneSource); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	end()
	done[1]()
	if len(h.queues) != 0 {
		t.Errorf("%d sources remembered", len(h.queues))
	}
}

// TestSilentClientsTakeNoHandshakePlaces: a client is served by TLS however
// many of its source are connected and say nothing.
func TestSilentClientsTakeNoHandshakePlaces(t *testing.T) {
	t.Parallel()
	r := startServer(t, nil, true)
	for range 100 {
		raw, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}

	p := &player{t: t, at: "handshake", serv: r}
	p.dial()
	defer p.raw.Close()
	p.raw.SetDeadline(time.Now().Add(wire.HandshakeTimeout / 2))
	p.tls()
	p.expect("220")
}
