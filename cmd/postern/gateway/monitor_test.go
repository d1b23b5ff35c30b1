package gateway

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/cmd/postern/health"
	"postern/relay/queue"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want time.Duration
	}{
		{"disk", diskBound, 2 * time.Minute},
		{"accept", acceptBound, time.Minute},
		{"round", roundBound, 5 * time.Minute},
		{"upstreams that were away", checkTimeout, 30 * time.Second},
		{"the local CA", renewEvery, 24 * time.Hour},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestPartsShowSignsOfLife: each of those that can hang is watched, and is named
// once its last sign of life is older than its bound.
func TestPartsShowSignsOfLife(t *testing.T) {

	for _, c := range []struct {
		name  string
		begin func(m *mail) func()
	}{
		{"event spool", func(m *mail) func() { return m.events.appends.Begin() }},
		{"retry spool", func(m *mail) func() { return m.puts.Begin() }},
		{"cursor of uploads", func(m *mail) func() { return m.events.commits.Begin() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := startGateway(t, everything(t))
				end := c.begin(partOf[*mail](t, g))

				time.Sleep(diskBound)
				if err := g.health.Check(); err != nil {
					t.Errorf("within its bound: got %v, want all alive", err)
				}
				time.Sleep(time.Second)
				if err := g.health.Check(); err == nil || err.Error() != c.name+": no sign of life for 2m1s" {
					t.Errorf("got %v, want it named", err)
				}
				end()
				if err := g.health.Check(); err != nil {
					t.Errorf("at the end: got %v, want all alive", err)
				}
			})
		})
	}
}

// TestRoundsGoRound: every five seconds, until the end, and one that hangs is
// named.
func TestRoundsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{}
		var done buffer
		var hangs atomic.Bool
		g.everyRound(func(context.Context) { io.WriteString(&done, "a") })
		g.everyRound(func(context.Context) {
			if hangs.Load() {
				time.Sleep(roundBound + time.Minute)
			}
			io.WriteString(&done, "b")
		})
		g.addRounds()
		ctx, cancel := context.WithCancel(t.Context())
		files := newGroup(ctx, func() { t.Error("rounds failed") })
		files.run(g.components[0])

		time.Sleep(watchEvery - time.Second)
		synctest.Wait()
		if got := done.take(); got != "" {
			t.Errorf("got %q before the first round", got)
		}
		time.Sleep(watchEvery + time.Second)
		synctest.Wait()
		if got := done.take(); watchEvery != 5*time.Second || got != "abab" {
			t.Errorf("got %q in two rounds of %v, want each twice, and 5 seconds", got, watchEvery)
		}

		hangs.Store(true)
		time.Sleep(watchEvery + roundBound + time.Second)
		synctest.Wait()
		if err := g.health.Check(); err == nil || !strings.HasPrefix(err.Error(), "files and upstreams: no sign of life") {
			t.Errorf("got %v, want the round named that hangs", err)
		}
		cancel()
		if err := files.wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestWorkIsShownWhileItLasts: what is under way in the spools is seen by the
// health check.
func TestWorkIsShownWhileItLasts(t *testing.T) {
	g, _ := startGateway(t, everything(t))
	m := partOf[*mail](t, g)
	mark := time.Now()
	idle := func(what string, alive time.Time) {
		t.Helper()
		if alive.Before(mark) {
			t.Errorf("%s: got %v, want it idle", what, alive)
		}
	}

	ev, err := event.Decode([]byte(storedClick))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.events.log.Record(t.Context(), ev, ev); err != nil {
		t.Fatal(err)
	}
	mark = time.Now()
	idle("appends", m.events.appends.Alive())
	release, err := m.events.log.Reserve(1000)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := m.events.log.Reserve(1 << 62); err == nil {
		t.Error("more room than there is: got no error")
	}

	q := &watchedQueue{Queue: m.queue, puts: &m.puts}
	if err := q.Put(t.Context(), &queue.Transaction{ID: "x", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	mark = time.Now()
	idle("puts", m.puts.Alive())
	s := &seenSource{}
	watched := &watchedSource{Source: s, commits: &m.events.commits}
	s.work = watched.commits
	at := spool.Position{Segment: 1, Offset: 2}
	if err := watched.Commit(at); !errors.Is(err, errSeen) || s.at != at || !s.alive.Before(time.Now()) {
		t.Errorf("got %v at %v", err, s.at)
	}
	mark = time.Now()
	idle("commits", watched.commits.Alive())

	count := 0
	err = spool.ReadDir(EventsDir(g.cfg.Config), func(spool.Record) bool {
		count++
		return true
	})
	if err != nil || count != 2 {
		t.Errorf("got %d events, %v, want both", count, err)
	}
	if err := event.NewLog(m.events.spool, nil).Record(t.Context(), ev); err != nil {
		t.Errorf("without a watch: %v", err)
	}
}

var errSeen = errors.New("seen")

// seenSource notes what is under way while it commits.
type seenSource struct {
	ingest.Source
	work  *health.Work
	at    spool.Position
	alive time.Time
}

func (s *seenSource) Commit(at spool.Position) error {
	s.at = at
	s.alive = s.work.Alive()
	return errSeen
}

// storedClick is an event as it is stored.
const storedClick = `{"msys":{"track_event":{"type":"click","event_id":"1","message_id":"m1",` +
	`"timestamp":"1795500000","delv_method":"esmtp","rcpt_to":"a@example.net",` +
	`"target_link_url":"https://example.com/","target_link_name":"x"}}}`
