package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/spool"
)

// funcDeliverer delivers by a function.
type funcDeliverer struct {
	deliver   func(ctx context.Context, t *Transaction, copy, tries int) Verdict
	giveUp    func(ctx context.Context, t *Transaction, copy, tries int, v Verdict) []*Transaction
	reachable func() error
}

func (f *funcDeliverer) Deliver(ctx context.Context, t *Transaction, copy, tries int) Verdict {
	return f.deliver(ctx, t, copy, tries)
}

func (f *funcDeliverer) GiveUp(ctx context.Context, t *Transaction, copy, tries int, v Verdict) []*Transaction {
	return f.giveUp(ctx, t, copy, tries, v)
}

func (f *funcDeliverer) Reachable(context.Context) error { return f.reachable() }

// pass lets time go by, and what is due then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestTriesAndPauses: a copy is tried when it is due, with the tries before, until
// its time is over, and then given up.
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

// TestExpiryAtTheMinute: a copy is given up when it is as old as BounceAfter, and
// not before.
func TestExpiryAtTheMinute(t *testing.T) {
	for _, c := range []struct {
		name    string
		age     time.Duration
		answer  Verdict
		expires bool
	}{
		{"as old", time.Hour, Verdict{Reply: "450 later"}, true},
		{"a little younger", time.Hour - time.Nanosecond, Verdict{Reply: "450 later"}, false},
		{"as old, and taken", time.Hour, Verdict{Done: true}, false},
	} {
		run(t, c.name, func(t *testing.T) {
			q := open(t, newDisk(t), func(c *Config) {
				c.BounceAfter = time.Hour
				c.RetryAfter = []time.Duration{time.Hour}
			})
			gaveUp := false
			d := &funcDeliverer{
				deliver: func(context.Context, *Transaction, int, int) Verdict { return c.answer },
				giveUp: func(context.Context, *Transaction, int, int, Verdict) []*Transaction {
					gaveUp = true
					return nil
				},
			}
			tr := transaction("t1", "a")
			tr.Created = time.Now().Add(-c.age)
			put(t, q, tr)
			stop := serve(q, d)
			synctest.Wait()
			if gaveUp != c.expires {
				t.Errorf("given up: %v, want %v", gaveUp, c.expires)
			}
			stop()
			finish(t, q)
		})
	}
}

// TestAttemptsAtOnce are as many as there are workers.
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

// TestGrace: attempts under way at the end have so long to end, and count where
// they do. Those that are cut off are tried again after the next start.
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

// TestEndOfAnEmptyQueue does not wait for the grace.
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

// TestAttemptEndsInTime: a deliverer has 15 minutes, and its context ends with the
// attempt.
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

// TestUpstreamIsAskedFor only while copies wait for it, and its return makes them
// due, whether they were tried before they were put here or since.
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

// TestUpstreamBackWhileACopyIsSent changes nothing for that copy.
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

// TestLargeReportsAreMadeOneAtATime: from 1 MiB on a message is held again for its
// DSN.
func TestLargeReportsAreMadeOneAtATime(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		alone bool
	}{{"1 MiB", 1 << 20, true}, {"a byte less", 1<<20 - 1, false}} {
		run(t, c.name, func(t *testing.T) {
			q := open(t, newDisk(t), nil)
			locked := func() bool {
				if q.largeDSN.TryLock() {
					q.largeDSN.Unlock()
					return false
				}
				return true
			}
			made := 0
			d := &funcDeliverer{
				deliver: func(context.Context, *Transaction, int, int) Verdict { return Verdict{Failed: true} },
				giveUp: func(context.Context, *Transaction, int, int, Verdict) []*Transaction {
					made++
					if locked() != c.alone {
						t.Errorf("others have to wait: %v, want %v", locked(), c.alone)
					}
					return nil
				},
			}
			tr := transaction("t1", "a")
			tr.Shared = [][]byte{make([]byte, c.size-1), make([]byte, 1)}
			put(t, q, tr)
			stop := serve(q, d)
			wait(t, "an empty queue", func() bool { return q.Len() == 0 })
			stop()
			if made != 1 || locked() {
				t.Errorf("%d reports, locked afterwards: %v; want 1 and not", made, locked())
			}
			finish(t, q)
		})
	}
}

// TestReportThatCannotBeQueued: the copy stays, and its DSN is not lost.
func TestReportThatCannotBeQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, func(c *Config) { c.RetryAfter = []time.Duration{time.Minute} })
		d := &dsnDeliverer{fakeDeliverer: newFake()}
		d.answers["a"] = []Verdict{{Failed: true, Reply: "550 no"}}
		put(t, q, transaction("t1", "a"))
		disk.set(noWrites)
		stop := serve(q, d)
		synctest.Wait()
		if l := q.List(9); len(l) != 1 || l[0].Tries != 1 || l[0].Reply != "550 no" {
			t.Errorf("got %+v, want the copy with one try", l)
		}
		disk.set(nil)
		pass(2 * time.Minute)
		if n := d.attempted("sender-of-t1-a"); n != 1 || q.Len() != 0 {
			t.Errorf("%d DSNs are sent and %d copies wait, want 1 and none", n, q.Len())
		}
		stop()
		finish(t, q)
	})
}

// TestReportsOnAFullDisk are sent at once. One that is refused has no report of its
// own, and one that is deferred keeps the copy.
func TestReportsOnAFullDisk(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []Verdict // to the two copies of the DSN
		stays   bool
		gaveUp  []string
	}{
		{"taken", []Verdict{{Done: true}, {Done: true}}, false, []string{"a"}},
		{"refused", []Verdict{{Failed: true}, {Done: true}}, false, []string{"a", "s1"}},
		{"both refused", []Verdict{{Failed: true}, {Failed: true}}, false, []string{"a", "s1", "s2"}},
		{"the first deferred", []Verdict{{Reply: "450 later"}, {Done: true}}, true, []string{"a"}},
		{"the second deferred", []Verdict{{Done: true}, {Reply: "450 later"}}, true, []string{"a"}},
	} {
		run(t, c.name, func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, func(c *Config) { c.RetryAfter = []time.Duration{time.Hour} })
			var contexts []context.Context
			var gaveUp []string
			d := &funcDeliverer{
				deliver: func(ctx context.Context, tr *Transaction, i, tries int) Verdict {
					if tr.ID != "dsn" {
						return Verdict{Failed: true, Reply: "550 no"}
					}
					if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != 15*time.Minute || tries != 0 {
						t.Errorf("until %v after %d tries, want 15m and none", deadline, tries)
					}
					contexts = append(contexts, ctx)
					return c.answers[i]
				},
				giveUp: func(_ context.Context, tr *Transaction, i, tries int, _ Verdict) []*Transaction {
					gaveUp = append(gaveUp, tr.Copies[i].Recipient.Address.Local)
					if tries != 1 {
						t.Errorf("given up after %d tries, want 1", tries)
					}
					if tr.ID == "dsn" {
						return nil
					}
					return []*Transaction{transaction("dsn", "s1", "s2")}
				},
			}
			put(t, q, transaction("t1", "a"))
			disk.set(full)
			stop := serve(q, d)
			synctest.Wait()
			if stays := q.Len() == 1; stays != c.stays || !slices.Equal(gaveUp, c.gaveUp) {
				t.Errorf("stays: %v, gave up %v; want %v, %v", stays, gaveUp, c.stays, c.gaveUp)
			}
			for _, ctx := range contexts {
				if ctx.Err() == nil {
					t.Error("a context has not ended")
				}
			}
			disk.set(nil)
			stop()
			finish(t, q)
		})
	}
}

// TestSegmentOfACopyIsGone: others go on, the copy is told of and forgotten.
func TestSegmentOfACopyIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, book := newDisk(t), &logBook{}
		q := open(t, disk, func(c *Config) { c.Log, c.segmentBytes = book.logger(), 1 })
		put(t, q, transaction("t1", "a"))
		put(t, q, transaction("t2", "b"))
		if err := disk.Remove(disk.dir + "/" + firstSegment); err != nil {
			t.Fatal(err)
		}
		d := newFake()
		stop := serve(q, d)
		wait(t, "an empty queue", func() bool { return q.Len() == 0 })
		stop()
		if d.attempted("a") != 0 || d.attempted("b") != 1 {
			t.Errorf("sent %v, want b", d.got)
		}
		if kept := disk.names(".broken"); len(kept) != 0 {
			t.Errorf("quarantined %v, want nothing", kept)
		}
		if book.count("message_id=t1-a") == 0 {
			t.Errorf("the log does not name the copy:\n%s", book.buf.String())
		}
		finish(t, q)
	})
}

// TestCopyThatCannotBeReadNow is tried again after 10 s, without a try; so is one
// that is broken and cannot be quarantined now.
func TestCopyThatCannotBeReadNow(t *testing.T) {
	for _, broken := range []bool{false, true} {
		run(t, fmt.Sprint("broken ", broken), func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, nil)
			put(t, q, transaction("t1", "a"))
			if broken {
				data := disk.read(t, firstSegment)
				data[100] ^= 1
				disk.write(firstSegment, data)
			}
			var reads []time.Duration
			start := time.Now()
			disk.set(func(_ int, call, name string) error {
				if call != "read" || name != firstSegment {
					return nil
				}
				reads = append(reads, time.Since(start))
				if broken && len(reads)%2 == 1 { // the attempt reads it, the quarantine cannot
					return nil
				}
				return syscall.EIO
			})
			stop := serve(q, newFake())
			pass(25 * time.Second)
			want := []time.Duration{0, 10 * time.Second, 20 * time.Second}
			if !slices.Equal(slices.Compact(reads), want) {
				t.Errorf("read at %v, want at %v", reads, want)
			}
			if l := q.List(9); len(l) != 1 || l[0].Tries != 0 {
				t.Errorf("got %+v, want the copy without a try", l)
			}
			disk.set(nil)
			pass(10 * time.Second)
			if q.Len() != 0 {
				t.Errorf("%d copies wait, want none", q.Len())
			}
			if kept := disk.names(".broken"); (len(kept) == 1) != broken {
				t.Errorf("quarantined %v", kept)
			}
			stop()
			finish(t, q)
		})
	}
}

// TestCopyThatMovedIsReadAgain, at once and where it is now.
func TestCopyThatMovedIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, nil)
		put(t, q, transaction("t1", "a"))
		old := spool.Position{Segment: 1, Offset: 12345}
		c := q.find(copyKey{"t1", "t1-a"})
		taken, _ := q.takeDue()
		if taken != c || !c.busy {
			t.Fatalf("took %+v, want the copy", taken)
		}
		q.unreadable(c, old, 10, spool.ErrCorrupt)
		if c.busy || c.next.After(time.Now()) || q.Len() != 1 {
			t.Errorf("busy %v, due at %v, want it due now", c.busy, c.next)
		}
		if kept := disk.names(".broken"); len(kept) != 0 {
			t.Errorf("quarantined %v", kept)
		}
		finish(t, q)
	})
}

// TestRecordOfAnother in the place of a copy's is quarantined.
func TestRecordOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, reg := newDisk(t), prometheus.NewRegistry()
		q := open(t, disk, func(c *Config) { c.Metrics = reg })
		put(t, q, transaction("t1", "a"))
		put(t, q, transaction("t2", "b"))
		q.entries["t1"].at = q.entries["t2"].at
		d := newFake()
		stop := serve(q, d)
		wait(t, "an empty queue", func() bool { return q.Len() == 0 })
		stop()
		metrics := values(t, reg)
		if metrics["postern_queue_broken_records_total"] != 1 || metrics["postern_queue_attempts_total unreadable"] != 1 {
			t.Errorf("counted %v, want a broken record", metrics)
		}
		if d.attempted("a") != 0 || d.attempted("b") != 1 || !slices.Equal(disk.names(".broken"), []string{"t1.broken"}) {
			t.Errorf("sent %v, quarantined %v; want b sent and t1 quarantined", d.got, disk.names(".broken"))
		}
		finish(t, q)
	})
}

// TestDroppedWhileItIsSent: nothing more is written of a copy.
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

// TestAppendHoldsItsSegment: it is not removed while a Put into it is under way.
func TestAppendHoldsItsSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, nil)
		put(t, q, transaction("t1", "a"))
		release := make(chan struct{})
		disk.set(func(_ int, call, _ string) error {
			if call == "sync" {
				<-release
			}
			return nil
		})
		done := make(chan error)
		go func() { done <- q.Put(context.Background(), transaction("t2", "b")) }()
		go func() { done <- q.Put(context.Background(), transaction("t3", "c")) }()
		synctest.Wait()
		q.mu.Lock()
		segment, empty := q.needed()
		if segment != 1 || empty || q.floors[1] != 2 {
			t.Errorf("needed from %d, empty %v, floors %v; want segment 1, held twice", segment, empty, q.floors)
		}
		q.mu.Unlock()
		disk.set(nil)
		close(release)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if len(q.floors) != 0 {
			t.Errorf("floors %v, want none", q.floors)
		}
		drop(t, q, "t1-a", "t2-b", "t3-c")
		q.mu.Lock()
		if _, empty := q.needed(); !empty {
			t.Error("something is needed where nothing waits")
		}
		q.mu.Unlock()
		finish(t, q)
	})
}

// TestNewCopyIsSentAtOnce, and its end recorded, though nothing else is due for
// long; so is one that an operator retries.
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

// TestStopWhileCopiesWaitForMemory: they are not sent, and nothing stays lent.
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

// TestNeeded is the first segment that anything needs.
func TestNeeded(t *testing.T) {
	for _, c := range []struct {
		name                   string
		waits, putting, unread uint64 // segments; 0: none
		want                   uint64
		empty                  bool
	}{
		{"nothing", 0, 0, 0, 10, true},
		{"a copy waits", 3, 0, 0, 3, false},
		{"a Put is under way", 0, 4, 0, 4, false},
		{"a segment is unread", 0, 0, 5, 5, false},
		{"the copy is first", 3, 4, 5, 3, false},
		{"the Put is first", 5, 3, 4, 3, false},
		{"the unread segment is first", 5, 4, 3, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, func(c *Config) { c.segmentBytes = 1 })
			for i := range 9 {
				put(t, q, transaction(fmt.Sprint("t", i), "a"))
			}
			q.mu.Lock()
			q.segments = map[uint64]*usage{}
			if c.waits != 0 {
				q.segments[c.waits] = &usage{}
			}
			if c.putting != 0 {
				q.floors[c.putting] = 1
			}
			if c.unread != 0 {
				q.late.unread = []spool.Position{{Segment: c.unread}}
			}
			segment, empty := q.needed()
			q.mu.Unlock()
			if segment != c.want || empty != c.empty {
				t.Errorf("got %d, empty %v; want %d, %v", segment, empty, c.want, c.empty)
			}
			q.Close()
		})
	}
}
