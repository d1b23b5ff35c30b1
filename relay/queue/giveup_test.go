package queue

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestExpiryAtTheMinute checks that a copy is given up when its age is
// BounceAfter, and not before.
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

// TestLargeReportsAreMadeOneAtATime checks that DSNs about messages of 1 MiB
// and more are serialised.
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

// TestReportThatCannotBeQueued checks that the copy stays until its DSN is
// queued.
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

// TestReportsOnAFullDisk checks that DSNs are then sent at once. One that is
// refused has no DSN of its own; one that is deferred keeps the copy in the
// queue.
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
