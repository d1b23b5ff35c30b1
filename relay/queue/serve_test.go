package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// funcDeliverer is a Deliverer that consists of functions.
type funcDeliverer struct {
	deliver   func(ctx context.Context, t *Transaction, index, tries int) Verdict
	giveUp    func(ctx context.Context, t *Transaction, index, tries int, v Verdict) []*Transaction
	reachable func() error
}

func (f *funcDeliverer) Deliver(ctx context.Context, t *Transaction, index, tries int) Verdict {
	return f.deliver(ctx, t, index, tries)
}

func (f *funcDeliverer) GiveUp(ctx context.Context, t *Transaction, index, tries int, v Verdict) []*Transaction {
	return f.giveUp(ctx, t, index, tries, v)
}

func (f *funcDeliverer) Reachable(context.Context) error { return f.reachable() }

// pass lets time pass, and what is due complete.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestTriesAndPauses checks that a copy is tried when it is due, with the
// number of attempts before, and given up when its time is over.
func TestTriesAndPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), func(c *Config) {
			c.RetryAfter = []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute}
			c.BounceAfter = 3 * time.Hour
			c.logEvery, c.ProbeEvery = time.Minute, time.Hour
		})
		start := time.Now()
		var at []time.Duration
		var tries []int
		gaveUp := -1
		d := &funcDeliverer{
			deliver: func(_ context.Context, _ *Transaction, _, n int) Verdict {
				at = append(at, time.Since(start))
				tries = append(tries, n)
				return Verdict{Reply: "450 later"}
			},
			giveUp: func(_ context.Context, tr *Transaction, i, n int, v Verdict) []*Transaction {
				if tr.ID != "t1" || tr.Copies[i].MessageID != "t1-a" || v.Reply != "450 later" {
					t.Errorf("gave up %s of %s after %q", tr.Copies[i].MessageID, tr.ID, v.Reply)
				}
				gaveUp = n
				return nil
			},
		}
		put(t, q, transaction("t1", "a"))
		stop := serve(q, d)
		pass(5 * time.Hour)
		stop()
		if q.Len() != 0 {
			t.Errorf("%d copies wait, want none", q.Len())
		}
		if !slices.Equal(tries, []int{0, 1, 2, 3, 4}) || gaveUp != 5 {
			t.Errorf("tries %v, given up after %d; want five", tries, gaveUp)
		}
		if len(at) != 5 || at[0] != 0 {
			t.Fatalf("tried at %v", at)
		}
		for i, pause := range []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 100 * time.Minute} {
			if got := at[i+1] - at[i]; got < pause*95/100 || got > pause*105/100 {
				t.Errorf("pause %d: %v, want %v", i, got, pause)
			}
		}
		finish(t, q)
	})
}

// TestAttemptsAtOnce checks that there are as many concurrent attempts as
// workers.
func TestAttemptsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), func(c *Config) { c.Workers = 3 })
		for i := range 5 {
			put(t, q, transaction(fmt.Sprint("t", i), "a"))
		}
		d := &countingDeliverer{
			fakeDeliverer: newFake(),
			arrived:       make(chan struct{}, 100),
			proceed:       make(chan struct{}),
		}
		stop := serve(q, d)
		synctest.Wait()
		if d.now != 3 {
			t.Errorf("%d attempts at once, want 3", d.now)
		}
		busy := 0
		q.mu.Lock()
		for _, e := range q.entries {
			for _, c := range e.copies {
				if c.busy {
					busy++
				}
			}
		}
		q.mu.Unlock()
		if busy != 4 { // one is with the hand-out
			t.Errorf("%d copies are marked, want 4", busy)
		}
		close(d.proceed)
		wait(t, "an empty queue", func() bool { return q.Len() == 0 })
		stop()
		finish(t, q)
	})
}

// TestGrace checks that attempts in progress at shutdown have the grace to
// complete, and that those that are cut off are tried again after the next
// start.
func TestGrace(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer Verdict
		takes  time.Duration // 0: until it is cut
		stops  time.Duration
		waits  int
		tries  int
	}{
		{"taken in time", Verdict{Done: true}, 4 * time.Second, 4 * time.Second, 0, 0},
		{"deferred in time", Verdict{Reply: "450 later"}, 4 * time.Second, 4 * time.Second, 1, 1},
		{"cut off", Verdict{Away: true}, 0, 5 * time.Second, 1, 0},
		{"taken when it is cut", Verdict{Done: true}, 0, 5 * time.Second, 0, 0},
		{"refused when it is cut", Verdict{Failed: true}, 0, 5 * time.Second, 0, 0},
	} {
		run(t, c.name, func(t *testing.T) {
			disk := newDisk(t)
			change := func(c *Config) {
				c.Grace = 0 // the default
				c.RetryAfter = []time.Duration{time.Hour}
			}
			q := open(t, disk, change)
			put(t, q, transaction("t1", "a"))
			d := &funcDeliverer{
				deliver: func(ctx context.Context, _ *Transaction, _, _ int) Verdict {
					if c.takes == 0 {
						<-ctx.Done()
					} else {
						time.Sleep(c.takes)
					}
					return c.answer
				},
				giveUp: func(context.Context, *Transaction, int, int, Verdict) []*Transaction { return nil },
			}
			stop := serve(q, d)
			synctest.Wait()
			start := time.Now()
			stop()
			if took := time.Since(start); took != c.stops {
				t.Errorf("stopped after %v, want %v", took, c.stops)
			}
			q.mu.Lock()
			for _, e := range q.entries { // nobody sends any more
				for _, s := range e.copies {
					if s.busy {
						s.busy = false
						q.schedule(s)
					}
				}
			}
			q.mu.Unlock()
			finish(t, q)

			q = open(t, disk, change)
			l := q.List(9)
			if len(l) != c.waits || len(l) > 0 && l[0].Tries != c.tries {
				t.Errorf("after the restart: %+v, want %d copies with %d tries", l, c.waits, c.tries)
			}
			finish(t, q)
		})
	}
}

// TestEndOfAnEmptyQueue checks that shutdown does not wait for the grace then.
func TestEndOfAnEmptyQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), nil)
		stop := serve(q, newFake())
		pass(time.Minute)
		start := time.Now()
		stop()
		if took := time.Since(start); took != 0 {
			t.Errorf("stopped after %v, want at once", took)
		}
		finish(t, q)
	})
}

// TestAttemptEndsInTime checks that an attempt is limited to 15 minutes, and
// that its context ends with it.
func TestAttemptEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), func(c *Config) {
			c.RetryAfter = []time.Duration{time.Hour}
			c.logEvery, c.ProbeEvery = time.Minute, time.Hour
		})
		put(t, q, transaction("t1", "a"))
		var took time.Duration
		var last context.Context
		d := &funcDeliverer{deliver: func(ctx context.Context, _ *Transaction, _, tries int) Verdict {
			if last = ctx; tries > 0 {
				return Verdict{Done: true}
			}
			start := time.Now()
			<-ctx.Done()
			took = time.Since(start)
			return Verdict{Reply: "450 too slow"}
		}}
		stop := serve(q, d)
		pass(20 * time.Minute)
		if took != 15*time.Minute {
			t.Errorf("the attempt was ended after %v, want 15m", took)
		}
		if l := q.List(1); len(l) != 1 || l[0].Tries != 1 {
			t.Errorf("got %+v, want a try that counts", l)
		}
		pass(2 * time.Hour)
		if q.Len() != 0 || last.Err() == nil {
			t.Errorf("%d copies wait, the context of the last attempt: %v", q.Len(), last.Err())
		}
		stop()
		finish(t, q)
	})
}

// TestUpstreamIsAskedFor checks that the upstream is probed only while copies
// wait for it, and that its return makes them due, whether they were tried
// before they were queued or since.
func TestUpstreamIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), func(c *Config) {
			c.RetryAfter = []time.Duration{time.Hour}
			c.ProbeEvery = 0 // the default
			c.logEvery = time.Second
		})
		away, asked := true, 0
		var mu sync.Mutex
		sent := map[string]time.Time{}
		d := &funcDeliverer{
			deliver: func(_ context.Context, tr *Transaction, _, tries int) Verdict {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case tr.ID == "not-away" && tries == 0:
					return Verdict{Reply: "450 later"}
				case away:
					return Verdict{Away: true, Reply: "451 4.4.1 away"}
				}
				sent[tr.ID] = time.Now()
				return Verdict{Done: true}
			},
			reachable: func() error {
				mu.Lock()
				defer mu.Unlock()
				asked++
				if away {
					return errors.New("away")
				}
				return nil
			},
		}
		stop := serve(q, d)
		pass(time.Minute + time.Second) // not when the clock of the probe strikes
		if asked != 0 {
			t.Errorf("asked %d times while nothing waits, want never", asked)
		}

		tried := transaction("tried", "a")
		tried.Copies[0].Tried = &Verdict{Away: true, Reply: "451 4.4.1 away"}
		put(t, q, tried, transaction("since", "b"), transaction("not-away", "c"))
		pass(time.Minute)
		if asked != 12 {
			t.Errorf("asked %d times in a minute, want 12", asked)
		}
		for _, w := range q.List(9) {
			if w.Away != (w.ID != "not-away") || w.Tries != 1 || w.LastTry.IsZero() || w.Reply == "" {
				t.Errorf("got %+v", w)
			}
		}

		mu.Lock()
		away = false
		mu.Unlock()
		back := time.Now()
		pass(6 * time.Second)
		mu.Lock()
		after := maps.Clone(sent)
		mu.Unlock()
		if after["tried"].IsZero() || after["since"].IsZero() || after["tried"].Sub(back) > 5*time.Second {
			t.Errorf("sent %v, want both within 5 s of %v", after, back)
		}
		if q.Len() != 1 || !after["not-away"].IsZero() {
			t.Errorf("%d copies wait, want the one that was deferred", q.Len())
		}
		mu.Lock()
		asked = 0
		mu.Unlock()
		pass(time.Minute)
		if asked != 0 {
			t.Errorf("asked %d times afterwards, want never", asked)
		}
		pass(2 * time.Hour)
		stop()
		finish(t, q)
	})
}

// TestUpstreamBackWhileACopyIsSent checks that the copy is not sent a second
// time.
func TestUpstreamBackWhileACopyIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), func(c *Config) { c.logEvery = time.Second })
		d := &heldDeliverer{began: make(chan struct{}, 9), release: make(chan struct{})}
		tr := transaction("t1", "a")
		tr.Copies[0].Tried = &Verdict{Away: true}
		put(t, q, tr)
		if n, err := q.Retry("t1-a"); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		stop := serve(q, d)
		pass(time.Minute)
		if n := len(d.began); n != 1 {
			t.Errorf("%d attempts at one copy, want 1", n)
		}
		close(d.release)
		synctest.Wait()
		stop()
		finish(t, q)
	})
}

// TestDroppedWhileItIsSent checks that nothing more is recorded of the copy.
func TestDroppedWhileItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, nil)
		put(t, q, transaction("t1", "a"))
		c := q.find(copyKey{"t1", "t1-a"})
		if err := q.Drop("t1-a"); err != nil {
			t.Fatal(err)
		}
		q.finish(c, "sent")
		q.forget(c)
		finish(t, q)
		if got := ends(t, disk); !slices.Equal(got[:1], []string{"t1-a: dropped"}) || slices.Contains(got, "t1-a: sent") {
			t.Errorf("ends %q, want that it was dropped", got)
		}
	})
}

// TestNewCopyIsSentAtOnce checks that a new copy, and one that the operator
// retries, is sent and its end recorded although nothing else is due for long.
func TestNewCopyIsSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, func(c *Config) {
			c.RetryAfter = []time.Duration{time.Hour}
			c.logEvery = 10 * time.Minute
		})
		d := newFake()
		d.answers["later"] = []Verdict{{Reply: "450 later"}, {Done: true}}
		stop := serve(q, d)
		synctest.Wait()
		for i := range 3 {
			put(t, q, transaction(fmt.Sprint("t", i), "a"))
			synctest.Wait()
			if n := d.attempted("a"); n != i+1 || q.unsaved() != 0 {
				t.Errorf("%d copies are sent and %d records unwritten, want %d and none", n, q.unsaved(), i+1)
			}
		}
		if got := disk.names(".seg"); !slices.Equal(got, []string{firstSegment}) {
			t.Errorf("segments %v, want the open one: it is not ended each time", got)
		}
		pass(11 * time.Minute)
		if got := disk.names(".seg"); len(got) != 0 {
			t.Errorf("segments %v, want none after a while", got)
		}

		put(t, q, transaction("later", "later"))
		synctest.Wait()
		if q.unsaved() != 0 {
			t.Errorf("%d records are unwritten, want none", q.unsaved())
		}
		if _, err := q.Retry("later-later"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := d.attempted("later"); n != 2 || q.Len() != 0 {
			t.Errorf("%d attempts and %d copies, want 2 and none", n, q.Len())
		}
		stop()
		finish(t, q)
	})
}

// TestStopWhileCopiesWaitForMemory checks that they are not sent, and that no
// buffer stays lent.
func TestStopWhileCopiesWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), func(c *Config) {
			c.Budget = &testBudget{limit: bufferStep}
			c.Grace = time.Second
		})
		put(t, q, transaction("t1", "a"), transaction("t2", "b"))
		began := 0
		d := &funcDeliverer{deliver: func(ctx context.Context, _ *Transaction, _, _ int) Verdict {
			began++
			<-ctx.Done()
			time.Sleep(time.Second) // the other is to see it first
			return Verdict{Away: true}
		}}
		stop := serve(q, d)
		pass(time.Second)
		stop()
		if began != 1 || q.memory.lent != 0 || q.Len() != 2 {
			t.Errorf("%d attempts, %d buffers lent, %d copies wait; want 1, none and 2", began, q.memory.lent, q.Len())
		}
		q.Close()
	})
}
