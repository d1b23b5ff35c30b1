package queue

import (
	"context"
	"sync"
	"testing"
	"time"
)

// recoveredDeliverer records which transactions were recovered, and their
// results before they were queued.
type recoveredDeliverer struct {
	*fakeDeliverer
	mu        sync.Mutex
	recovered map[string]bool
}

func (r *recoveredDeliverer) Deliver(ctx context.Context, t *Transaction, i, tries int) Verdict {
	r.mu.Lock()
	r.recovered[t.ID] = t.Recovered
	r.mu.Unlock()
	return r.fakeDeliverer.Deliver(ctx, t, i, tries)
}

// TestRecovered checks that transactions of a previous run are marked.
func TestRecovered(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	if err := q.Put(context.Background(), transaction("old", "a")); err != nil {
		t.Fatal(err)
	}
	finish(t, q)

	q = open(t, disk, nil)
	defer finish(t, q)
	if err := q.Put(context.Background(), transaction("new", "b")); err != nil {
		t.Fatal(err)
	}
	d := &recoveredDeliverer{fakeDeliverer: newFake(), recovered: map[string]bool{}}
	stop := serve(q, d)
	d.attempts(t, 2)
	stop()

	if !d.recovered["old"] || d.recovered["new"] {
		t.Errorf("recovered %v, want old alone", d.recovered)
	}
}

// TestTriedByCopy checks that each copy of a transaction has its own result of
// the first attempt.
func TestTriedByCopy(t *testing.T) {
	q := open(t, newDisk(t), func(c *Config) { c.RetryAfter = []time.Duration{time.Minute, time.Hour} })
	defer finish(t, q)
	tr := transaction("t", "a", "b", "c")
	tr.Copies[0].Tried = &Verdict{Reply: "450 a"}
	tr.Copies[1].Tried = &Verdict{Reply: "451 4.4.1 b", Away: true}
	if err := q.Put(context.Background(), tr); err != nil {
		t.Fatal(err)
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	for _, want := range []struct {
		copy, reply string
		tries       int
		away        bool
	}{{"t-a", "450 a", 1, false}, {"t-b", "451 4.4.1 b", 1, true}, {"t-c", "", 0, false}} {
		c := q.entries["t"].copies[want.copy]
		if c.reply != want.reply || c.tries != want.tries || c.isAway != want.away {
			t.Errorf("%s: reply %q, tries %d, away %v, want %+v", want.copy, c.reply, c.tries, c.isAway, want)
		}
		pause := time.Duration(want.tries) * time.Minute
		if due := time.Until(c.next); due < pause*9/10-time.Second || due > pause*11/10 {
			t.Errorf("%s: due in %v, want %v", want.copy, due, pause)
		}
	}
}
