package upstream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"postern/relay/upstream"
)

// TestContextEndsInAPhase checks that the caller does not wait for a silent
// upstream, and that the connection is not used again.
func TestContextEndsInAPhase(t *testing.T) {
	for _, phase := range []string{"greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "."} {
		run(t, phase, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, answers(true, map[string]string{phase: silent}))
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, Username: "u", Password: "p"})
			ctx, cancel := context.WithTimeout(context.Background(), 7*time.Second)
			defer cancel()
			start := time.Now()
			out := p.Send(ctx, transaction())
			if took := time.Since(start); took != 7*time.Second {
				t.Errorf("waited %v, want 7s", took)
			}
			if out.Err == nil || out.Permanent() || out.Doubtful != (phase == ".") {
				t.Errorf("got %+v", out)
			}
			if open.now() != 0 {
				t.Errorf("%d connections are open, want none", open.now())
			}
		})
	}
}

// TestContextThatEndsAfterwards checks that the connection can still be used.
func TestContextThatEndsAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if out := p.Send(ctx, transaction()); !out.Accepted() {
				t.Errorf("%+v", out)
			}
			cancel()
			time.Sleep(2 * time.Second)
		}
		if s.connections() != 1 {
			t.Errorf("%d connections, want 1", s.connections())
		}
	})
}

// TestContextThatEndsWithTheAnswer checks that the connection is not used
// again, whichever comes first, since its deadline may still be set.
func TestContextThatEndsWithTheAnswer(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			n := newNetwork()
			n.host(addr, func(_ int, command string) string {
				if command == "." {
					cancel()
				}
				return ""
			})
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
			p.Send(ctx, transaction())
			if p.Idle() != 0 || open.now() != 0 {
				t.Errorf("%d connections are kept and %d open, want none", p.Idle(), open.now())
			}
		})
	}
}
