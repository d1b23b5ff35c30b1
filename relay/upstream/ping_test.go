package upstream_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/upstream"
)

// TestPoolPing checks that one upstream that replies is enough, over an idle
// connection, or over a new one, which is kept.
func TestPoolPing(t *testing.T) {
	for _, c := range []struct {
		name        string
		noop        string
		well        bool
		connections int
		idle        int
	}{
		{"well", "", true, 1, 1},
		{"not known, but alive", "502 what", true, 1, 1},
		{"ends", "421 bye", true, 2, 1},
		{"closed", closing, true, 2, 1},
		{"nonsense", "what", true, 2, 1},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"NOOP": c.noop}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			for i := range 2 {
				if err := p.Ping(context.Background()); (err == nil) != c.well {
					t.Errorf("ping %d: %v", i, err)
				}
			}
			if s.connections() != c.connections || p.Idle() != c.idle {
				t.Errorf("%d connections, %d idle; want %d, %d", s.connections(), p.Idle(), c.connections, c.idle)
			}
			if !slices.Contains(s.commands(), "NOOP") {
				t.Error("NOOP was not said")
			}
		})
	}

	run(t, "nobody", func(t *testing.T) {
		p, _ := newNetwork().pool(t, upstream.Config{Addrs: []string{addr}})
		if err := p.Ping(context.Background()); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got %v", err)
		}
	})
}

// TestPingUnderLoad checks that an upstream that replied recently is healthy,
// and that another is asked over a connection above the limit.
func TestPingUnderLoad(t *testing.T) {
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
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr, second}, MaxConnections: 1})
		outcomes := busy(t, p, 1)
		time.Sleep(10 * time.Second)
		other := busy(t, p, 1) // over the second upstream, which is heard last
		time.Sleep(30*time.Second - 1)
		if err := p.Ping(context.Background()); err != nil || a.connections()+b.connections() != 2 {
			t.Errorf("got %v over %d connections, want nil over 2", err, a.connections()+b.connections())
		}
		time.Sleep(time.Nanosecond)
		if err := p.Ping(context.Background()); err != nil || a.connections() != 1 || b.connections() != 2 {
			t.Errorf("got %v over %d and %d connections, want nil over 1 and 2", err, a.connections(), b.connections())
		}
		synctest.Wait()
		if open.now() != 2 {
			t.Errorf("%d connections are open, want 2", open.now())
		}
		time.Sleep(time.Minute)
		n.dialing = func(context.Context, string) error { return errors.New("gone") }
		if err := p.Ping(context.Background()); err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("got %v, want that it is gone", err)
		}
		close(hold)
		<-outcomes
		<-other
	})
}

// TestLoginIsHeard checks that mail over a client's login shows that the
// upstream is healthy.
func TestLoginIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxConnections: 1})
		l, _, err := p.Login(context.Background(), "u", "p")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if out := l.Send(context.Background(), transaction()); !out.Accepted() {
			t.Fatalf("%+v", out)
		}
		time.Sleep(20 * time.Second)
		if err := p.Ping(context.Background()); err != nil || s.connections() != 1 {
			t.Errorf("got %v over %d connections, want nil over 1", err, s.connections())
		}
		l.Close()
	})
}

// metrics returns values by name and labels. Each must have a help text.
func metrics(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help text", f.GetName())
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}

	return out
}

// TestMetrics checks that dials are counted by result, and outcomes by class.
func TestMetrics(t *testing.T) {
	for _, c := range []struct {
		name  string
		table map[string]string
		class string // of the outcome; empty: none
	}{
		{"taken", nil, "2xx"},
		{"deferred", map[string]string{".": "450 later"}, "4xx"},
		{"refused", map[string]string{"RCPT": "550 no"}, "5xx"},
		{"session", map[string]string{"MAIL": "530 log in"}, "session"},
		{"lost", map[string]string{"DATA": closing}, "lost"},
		{"doubtful", map[string]string{".": closing}, "doubtful"},
		{"no greeting", map[string]string{"greeting": closing}, ""},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, answers(false, c.table))
			reg := prometheus.NewRegistry()
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, Metrics: reg})
			p.Send(context.Background(), transaction())
			got := metrics(t, reg)
			dial, outcomes := "ok", 1.0
			if c.class == "" {
				dial, outcomes = "failed", 0
			}
			if n := got["postern_upstream_connections_total result="+dial+" upstream="+addr]; n != 1 {
				t.Errorf("%v dials with result %s, want 1: %v", n, dial, got)
			}
			all := 0.0
			for name, n := range got {
				if strings.HasPrefix(name, "postern_upstream_replies_total") {
					all += n
				}
			}
			if all != outcomes || got["postern_upstream_replies_total class="+c.class+" upstream="+addr] != outcomes {
				t.Errorf("outcomes %v, want one of class %s", got, c.class)
			}
		})
	}
}

// TestDialsThatTheCallerGaveUp checks that they do not count against an
// upstream that still had time.
func TestDialsThatTheCallerGaveUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		after  time.Duration
		result string
		failed bool
	}{
		{"early", 30*time.Second - 1, "given_up", false},
		{"late", 30 * time.Second, "failed", true},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, answers(true, map[string]string{"greeting": silent}))
			reg := prometheus.NewRegistry()
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, Metrics: reg})
			ctx, cancel := context.WithTimeout(context.Background(), c.after)
			defer cancel()
			if out := p.Send(ctx, transaction()); out.Accepted() {
				t.Errorf("%+v", out)
			}
			if got := metrics(t, reg)["postern_upstream_connections_total result="+c.result+" upstream="+addr]; got != 1 {
				t.Errorf("counted %v with result %s, want 1", got, c.result)
			}
			if failed := p.Pause(addr) > 0; failed != c.failed {
				t.Errorf("taken for sick: %v, want %v", failed, c.failed)
			}
		})
	}
}

// TestContextThatEndsAtTheEndOfADial checks that no connection is leaked.
func TestContextThatEndsAtTheEndOfADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		n := newNetwork()
		n.host(addr, func(_ int, command string) string {
			if command == "EHLO" {
				cancel()
			}
			return ""
		})
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
		if out := p.Send(ctx, transaction()); out.Accepted() || out.Err == nil {
			t.Errorf("%+v", out)
		}
		synctest.Wait()
		if open.now() != 0 {
			t.Errorf("%d connections are open, want none", open.now())
		}
	})
}

// TestMailIsHeard checks that an upstream that accepts mail over an idle
// connection is healthy.
func TestMailIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold chan struct{}
		n := newNetwork()
		s := n.host(addr, func(_ int, command string) string {
			if command == "." && hold != nil {
				<-hold
			}
			return ""
		})
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxConnections: 1})
		for range 10 {
			if out := p.Send(context.Background(), transaction()); !out.Accepted() {
				t.Fatalf("%+v", out)
			}
			time.Sleep(20 * time.Second)
		}
		hold = make(chan struct{})
		outcomes := busy(t, p, 1)
		if err := p.Ping(context.Background()); err != nil || s.connections() != 1 {
			t.Errorf("got %v over %d connections, want nil over 1", err, s.connections())
		}

		// A pool that is closed is not well, though its upstream is.
		p.Close()
		if err := p.Ping(context.Background()); err == nil || s.connections() != 1 {
			t.Errorf("closed: got %v over %d connections, want an error over 1", err, s.connections())
		}
		close(hold)
		<-outcomes
	})
}
