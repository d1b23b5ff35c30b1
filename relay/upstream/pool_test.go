package upstream_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/upstream"
)

const second = "127.0.0.2:25"

const allBusy = "451 4.3.2 All connections to the upstream are busy, try again later"

func TestDefaults(t *testing.T) {
	p := upstream.New(upstream.Config{Log: quiet})
	defer p.Close()
	c := p.Config()
	if c.MaxConnections != 64 || c.MaxMessages != 1000 || c.MaxIdle != 30*time.Second || c.MaxAge != 10*time.Minute ||
		c.Wait != 30*time.Second {
		t.Errorf("got %+v", c)
	}
	want := upstream.Timeouts{
		Connect:  30 * time.Second,
		Greeting: 5 * time.Minute,
		Command:  5 * time.Minute,
		Data:     3 * time.Minute,
		FinalDot: 10 * time.Minute,
	}
	if c.Timeouts != want {
		t.Errorf("got %+v, want %+v", c.Timeouts, want)
	}

	set := upstream.Config{
		Log:            quiet,
		MaxConnections: 1,
		MaxMessages:    2,
		MaxIdle:        3,
		MaxAge:         4,
		Wait:           5,
		Timeouts:       upstream.Timeouts{Connect: 1, Greeting: 2, Command: 3, Data: 4, FinalDot: 5},
	}
	q := upstream.New(set)
	defer q.Close()
	c = q.Config()
	if c.MaxConnections != 1 || c.MaxMessages != 2 || c.MaxIdle != 3 || c.MaxAge != 4 || c.Wait != 5 ||
		c.Timeouts != set.Timeouts {
		t.Errorf("what was set is gone: %+v", c)
	}
}

// TestIdleConnections checks how long they are reused before they are closed.
func TestIdleConnections(t *testing.T) {
	for _, c := range []struct {
		name        string
		pauses      []time.Duration
		connections int
	}{
		{"just in time", []time.Duration{30*time.Second - 1}, 1},
		{"idle for too long", []time.Duration{30 * time.Second}, 2},
		{"used now and then", slices.Repeat([]time.Duration{29 * time.Second}, 20), 1},
		{"too old", slices.Repeat([]time.Duration{25 * time.Second}, 24), 2},
		{"not too old", slices.Repeat([]time.Duration{25 * time.Second}, 23), 1},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, nil))
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
			for i := 0; ; i++ {
				if out := p.Send(context.Background(), transaction()); !out.Accepted() {
					t.Fatalf("%+v", out)
				}
				if i == len(c.pauses) {
					break
				}
				time.Sleep(c.pauses[i])
			}
			synctest.Wait()
			if s.connections() != c.connections || open.now() != 1 {
				t.Errorf("%d connections, %d open; want %d and 1", s.connections(), open.now(), c.connections)
			}
			if got := slices.Index(s.commands(), "QUIT") >= 0; got != (c.connections > 1) {
				t.Errorf("QUIT was said: %v", got)
			}
		})
	}
}

// TestConnectionTooOldToKeep checks that such a connection is closed after its
// transaction.
func TestConnectionTooOldToKeep(t *testing.T) {
	for _, c := range []struct {
		name string
		age  time.Duration
		idle int
	}{{"in time", 10*time.Minute - 1, 1}, {"too old", 10 * time.Minute, 0}} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, func(_ int, command string) string {
				if command == "." {
					time.Sleep(c.age)
				}
				return ""
			})
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, Timeouts: upstream.Timeouts{FinalDot: time.Hour}})
			if out := p.Send(context.Background(), transaction()); !out.Accepted() || p.Idle() != c.idle {
				t.Errorf("%+v, %d connections are kept, want %d", out, p.Idle(), c.idle)
			}
		})
	}
}

// TestMessagesOnAConnection checks that there are as many as configured.
func TestMessagesOnAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxMessages: 3})
		for i := range 7 {
			if out := p.Send(context.Background(), transaction()); !out.Accepted() {
				t.Fatalf("%+v", out)
			}
			if want := i/3 + 1; s.connections() != want {
				t.Errorf("message %d: %d connections, want %d", i, s.connections(), want)
			}
		}
		synctest.Wait()
		if open.now() != 1 {
			t.Errorf("%d connections are open, want 1", open.now())
		}
	})
}

// TestOneMessageOnAConnection checks that no connection is kept then.
func TestOneMessageOnAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxMessages: 1})
		for range 2 {
			if out := p.Send(context.Background(), transaction()); !out.Accepted() || open.now() != 0 {
				t.Errorf("%+v, %d connections are open", out, open.now())
			}
		}
		if s.connections() != 2 {
			t.Errorf("%d connections, want 2", s.connections())
		}
	})
}

// busy starts n transactions, which wait for the reply to the final dot.
func busy(t *testing.T, p *upstream.Pool, n int) (outcomes chan upstream.Outcome) {
	t.Helper()
	outcomes = make(chan upstream.Outcome, n)
	for range n {
		go func() { outcomes <- p.Send(context.Background(), transaction()) }()
	}
	synctest.Wait()

	return outcomes
}

// TestWaitingForAConnection checks the time limit, and that a released
// connection ends the wait.
func TestWaitingForAConnection(t *testing.T) {
	for _, c := range []struct {
		name   string
		frees  time.Duration
		gone   bool // the connection is not kept
		taken  bool
		want   string
		waited time.Duration
	}{
		{"not in time", time.Minute, false, false, allBusy, 30 * time.Second},
		{"in time", 29 * time.Second, false, true, "250 taken", 29 * time.Second},
		{"a slot in time", 29 * time.Second, true, true, "250 taken", 29 * time.Second},
	} {
		run(t, c.name, func(t *testing.T) {
			hold := make(chan struct{})
			n := newNetwork()
			s := n.host(addr, func(conn int, command string) string {
				if command != "." || conn > 2 {
					return ""
				}
				<-hold
				if c.gone && conn == 1 {
					return "250 taken" + closing
				}
				return ""
			})
			maxMessages := 0
			if c.gone {
				maxMessages = 1
			}
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxConnections: 2, MaxMessages: maxMessages})
			outcomes := busy(t, p, 2)
			if s.connections() != 2 {
				t.Fatalf("%d connections, want 2", s.connections())
			}
			time.AfterFunc(c.frees, func() { close(hold) })
			start := time.Now()
			out := p.Send(context.Background(), transaction())
			if waited := time.Since(start); waited != c.waited || sent(out) != c.want {
				t.Errorf("%s after %v, want %s after %v", sent(out), waited, c.want, c.waited)
			}
			for range 2 {
				<-outcomes
			}
		})
	}
}

// TestWaitingEndsWithTheContext checks that a transaction whose context ends
// stops waiting.
func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		n := newNetwork()
		n.host(addr, func(_ int, command string) string {
			if command == "." {
				<-hold
			}
			return ""
		})
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxConnections: 1})
		outcomes := busy(t, p, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if got := sent(p.Send(ctx, transaction())); got != notReachable || time.Since(start) != time.Second {
			t.Errorf("got %s after %v, want %s after 1s", got, time.Since(start), notReachable)
		}
		close(hold)
		<-outcomes
	})
}

// TestLeastBusyUpstream checks that a transaction is sent to the healthy
// upstream with the fewest transactions.
func TestLeastBusyUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		n := newNetwork()
		waits := func(_ int, command string) string {
			if command == "." {
				<-hold
			}
			return ""
		}
		a, b := n.host(addr, waits), n.host(second, waits)
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr, second}, MaxConnections: 5})
		var all []chan upstream.Outcome
		for i := range 8 {
			all = append(all, busy(t, p, 1))
			if want := i/2 + 1; a.connections() != want || b.connections() != i+1-want {
				t.Errorf("transaction %d: %d and %d connections", i, a.connections(), b.connections())
			}
		}
		close(hold)
		for _, c := range all {
			if out := <-c; !out.Accepted() {
				t.Errorf("%+v", out)
			}
		}
		if p.Idle() != 8 {
			t.Errorf("%d connections are kept, want 8", p.Idle())
		}
		p.Retire()
		synctest.Wait()
	})
}

// TestUpstreamOfWhichAllAreBusy checks that such an upstream is passed over.
func TestUpstreamOfWhichAllAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		n := newNetwork()
		waits := func(_ int, command string) string {
			if command == "." {
				<-hold
			}
			return ""
		}
		a, b := n.host(addr, waits), n.host(second, waits)
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr, second}, MaxConnections: 1})
		outcomes := busy(t, p, 2)
		if a.connections() != 1 || b.connections() != 1 {
			t.Errorf("%d and %d connections, want 1 and 1", a.connections(), b.connections())
		}
		if got := sent(p.Send(context.Background(), transaction())); got != allBusy {
			t.Errorf("got %s, want %s", got, allBusy)
		}
		close(hold)
		<-outcomes
		<-outcomes
	})
}

// TestPausesOfAFailingUpstream checks that pauses grow up to 30 s and end when
// the upstream replies.
func TestPausesOfAFailingUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
		p.Check(context.Background())
		if got := len(n.dialled(addr)); got != 0 {
			t.Errorf("dialled %d times before anybody failed, want never", got)
		}

		p.Send(context.Background(), transaction())
		for i := range 80 {
			want := 30 * time.Second
			if i < 5 {
				want = time.Second << i
			}
			if got := p.Pause(addr); got != want {
				t.Errorf("pause %d: %v, want %v", i, got, want)
			}
			time.Sleep(want - 1)
			p.Check(context.Background())
			if got := len(n.dialled(addr)); got != i+1 {
				t.Errorf("pause %d: dialled %d times within it, want %d", i, got, i+1)
			}
			time.Sleep(time.Nanosecond)
			p.Check(context.Background())
			if got := len(n.dialled(addr)); got != i+2 {
				t.Errorf("pause %d: dialled %d times after it, want %d", i, got, i+2)
			}
		}

		n.host(addr, answers(true, nil))
		time.Sleep(time.Minute)
		p.Check(context.Background())
		if p.Pause(addr) != 0 || p.Idle() != 1 {
			t.Errorf("a pause of %v and %d connections, want none and 1", p.Pause(addr), p.Idle())
		}
		p.Check(context.Background())
		if got := len(n.dialled(addr)); got != 82 {
			t.Errorf("dialled %d times, want 82", got)
		}
	})
}

// TestCheckKeepsToItsLimits checks that neither an upstream whose connections
// are all in use nor one of a retired pool is dialled.
func TestCheckKeepsToItsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		hold := make(chan struct{})
		n.host(addr, func(_ int, command string) string {
			if command == "." {
				<-hold
			}
			return ""
		})
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxConnections: 1})
		outcomes := busy(t, p, 1)
		time.Sleep(time.Minute)
		n.dialing = func(context.Context, string) error { return errors.New("no") }
		if err := p.Ping(context.Background()); err == nil {
			t.Error("well, though it cannot be dialled")
		}
		n.dialing = nil
		time.Sleep(time.Minute)
		p.Check(context.Background())
		if got := len(n.dialled(addr)); got != 2 {
			t.Errorf("dialled %d times with all connections in use, want 2", got)
		}
		close(hold)
		<-outcomes

		p.Retire()
		p.Check(context.Background())
		if got := len(n.dialled(addr)); got != 2 {
			t.Errorf("dialled %d times for a pool that was retired, want 2", got)
		}
	})
}

// TestSickUpstreamIsTriedLast checks that it is tried all the same if no other
// is left.
func TestSickUpstreamIsTriedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b := n.host(second, answers(true, map[string]string{}))
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr, second}, MaxConnections: 1})
		for range 3 {
			if out := p.Send(context.Background(), transaction()); out.Upstream != second {
				t.Errorf("%+v, want %s", out, second)
			}
		}
		if got := len(n.dialled(addr)); got != 1 {
			t.Errorf("the sick one was dialled %d times, want once", got)
		}
		hold := make(chan struct{})
		b.answer = func(_ int, command string) string {
			if command == "." {
				<-hold
			}
			return ""
		}
		outcomes := busy(t, p, 1)
		a := n.host(addr, answers(true, nil))
		if out := p.Send(context.Background(), transaction()); out.Upstream != addr || a.connections() != 1 {
			t.Errorf("%+v, want %s though it was sick", out, addr)
		}
		close(hold)
		<-outcomes
	})
}

// TestRetire checks that idle connections are closed and that later
// transactions each have a new one. Close refuses them.
func TestRetire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		reg := prometheus.NewRegistry()
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, Metrics: reg})
		if out := p.Send(context.Background(), transaction()); !out.Accepted() || open.now() != 1 {
			t.Fatalf("%+v", out)
		}
		if got := metrics(t, reg)["postern_upstream_open_connections"]; got != 1 {
			t.Errorf("%v open connections, want 1", got)
		}
		p.Retire()
		if open.now() != 0 || p.Idle() != 0 || metrics(t, reg)["postern_upstream_open_connections"] != 0 {
			t.Errorf("%d connections are open and %d kept, want none", open.now(), p.Idle())
		}
		for range 2 {
			if out := p.Send(context.Background(), transaction()); !out.Accepted() || open.now() != 0 {
				t.Errorf("%+v, %d connections are open", out, open.now())
			}
		}
		if s.connections() != 3 {
			t.Errorf("%d connections, want 3", s.connections())
		}
		p.Close()
		if got := sent(p.Send(context.Background(), transaction())); got != "451 4.3.2 Shutting down, try again later" {
			t.Errorf("got %s", got)
		}
		if err := p.Ping(context.Background()); err == nil {
			t.Error("a closed pool is well")
		}
		synctest.Wait()
		quits := 0
		for _, line := range s.commands() {
			if line == "QUIT" {
				quits++
			}
		}
		if quits != 3 {
			t.Errorf("QUIT was said %d times, want 3", quits)
		}
	})
}

// TestQuitIsPolite checks that QUIT is sent, and takes no longer than a second.
func TestQuitIsPolite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, map[string]string{".": "250 taken" + deaf}))
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
		if out := p.Send(context.Background(), transaction()); !out.Accepted() {
			t.Fatalf("%+v", out)
		}
		start := time.Now()
		p.Close()
		if took := time.Since(start); took != time.Second || open.now() != 0 {
			t.Errorf("closed after %v, %d connections are open; want 1s and none", took, open.now())
		}
		s.hangUp()
	})
}
