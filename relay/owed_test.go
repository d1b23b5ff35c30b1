package relay

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
)

// TestOwedInjection: a copy that waits since a previous run, which was killed
// before it wrote the copy's injection event, has that event with the same id.
func TestOwedInjection(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.relay.Submit(context.Background(), submission(htmlMessage, "a", "b"))
	first := b.rec.events
	b.rec.events = nil
	tr := b.queue.got[0]

	for _, c := range []struct {
		name      string
		recovered bool
		tries     int
		want      int
	}{
		{"put by this run", false, 0, 0},
		{"put by a previous run", true, 0, 1},
		{"tried by a previous run", true, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.rec.events = nil
			tr.Recovered = c.recovered
			if v := b.relay.Deliver(context.Background(), tr, 1, c.tries); !v.Done {
				t.Fatalf("%+v", v)
			}
			if len(b.rec.events) != c.want {
				t.Fatalf("%d events, want %d", len(b.rec.events), c.want)
			}
			if c.want == 0 {
				return
			}

			got, want := *b.rec.events[0], *first[1]
			if !got.Timestamp.Equal(want.Timestamp.Truncate(time.Second)) {
				t.Errorf("timestamp %v, want %v", got.Timestamp, want.Timestamp)
			}
			got.Timestamp = want.Timestamp
			gotLine, _ := got.Encode()
			wantLine, _ := want.Encode()
			if string(gotLine) != string(wantLine) {
				t.Errorf("got  %s\nwant %s", gotLine, wantLine)
			}
		})
	}
}

// TestStableInjectionIDs: each copy's events have ids that depend on nothing but
// the copy.
func TestStableInjectionIDs(t *testing.T) {
	b := newBench(t, nil)
	b.up.answers["b"] = replied(550, "no")
	b.relay.Submit(context.Background(), submission(htmlMessage, "a", "b"))

	seen := map[string]bool{}
	for _, e := range b.rec.events {
		if want := event.StableID(string(e.Type), e.MessageID); e.ID != want || seen[e.ID] {
			t.Errorf("%s of %s has id %s, want %s, once", e.Type, e.MessageID, e.ID, want)
		}
		seen[e.ID] = true
	}
}

// countingUpstream lets the first copy use up the client's patience.
type countingUpstream struct {
	*fakeUpstream
	mu    sync.Mutex
	calls int
}

func (c *countingUpstream) Send(ctx context.Context, _ *upstream.Transaction) upstream.Outcome {
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	<-ctx.Done()
	return upstream.Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", errors.New("cut"))}
}

// TestOverdueCopiesAreNotSent: what is left when the client's patience is over
// is put into the retry spool, and not before an upstream.
func TestOverdueCopiesAreNotSent(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.CopiesAtOnce, c.Sending.AnswerWithin = 1, time.Millisecond })
	up := &countingUpstream{fakeUpstream: b.up}
	b.relay.cfg.Upstream = up

	answer := b.relay.Submit(context.Background(), submission(htmlMessage, "a", "b", "c", "d"))
	if answer.Code != 250 || len(b.queue.got) != 1 || len(b.queue.got[0].Copies) != 4 {
		t.Errorf("%v, queued %+v, want 250 and four copies", answer, b.queue.got)
	}
	if up.calls > 1 {
		t.Errorf("%d copies were sent, want at most 1", up.calls)
	}
}
