package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestPowerLoss cuts the power at each file call in the life of a queue in
// turn, and keeps what was synced and some of what was not. A copy that was
// accepted must have been sent, or be sent after the restart; one whose end was
// synced must not be sent again.
func TestPowerLoss(t *testing.T) {
	for _, tail := range []int{0, 1, 100, 100_000} {
		t.Run(fmt.Sprint(tail, " bytes of tails left"), func(t *testing.T) {
			for cut := 1; ; cut++ {
				calls := 0
				synctest.Test(t, func(t *testing.T) { calls = lifeUntilPowerLoss(t, cut, tail) })
				if calls < cut {
					if cut < 40 {
						t.Errorf("only %d calls were cut", cut)
					}
					return
				}
				if t.Failed() {
					t.Fatalf("cut at call %d", cut)
				}
			}
		})
	}
}

// lifeUntilPowerLoss runs a queue and returns the number of file calls.
func lifeUntilPowerLoss(t *testing.T, cut, tail int) (calls int) {
	disk := newDisk(t)
	disk.power = true
	disk.set(func(n int, _, _ string) error {
		if n >= cut {
			return errPower
		}
		return nil
	})
	c := Config{
		Dir:          disk.dir,
		FS:           disk,
		RetryAfter:   []time.Duration{time.Second},
		Log:          quiet,
		segmentBytes: 700,
		logEvery:     time.Second,
	}
	d := newFake()
	d.answers["twice"] = []Verdict{{Reply: "450 later"}, {Done: true}}

	var accepted []string
	if q, err := Open(c); err == nil {
		stop := serve(q, d)
		for i := range 4 {
			id := fmt.Sprint("t", i)
			if q.Put(context.Background(), transaction(id, id, "twice")) == nil {
				accepted = append(accepted, id)
			}
		}
		pass(4 * time.Second)
		stop()
		q.Close()
	}
	disk.mu.Lock()
	calls = disk.calls
	disk.mu.Unlock()
	disk.cutPower(tail)

	before := len(d.got["twice"])
	q, err := Open(c)
	if err != nil {
		t.Fatalf("after the cut: %v", err)
	}
	if calls < cut && q.Len() != 0 { // it ended in order
		t.Errorf("%d copies come back after an orderly end", q.Len())
	}
	waiting := map[string]int{}
	for _, w := range q.List(99) {
		waiting[w.ID]++
	}
	stop := serve(q, d)
	_, _ = q.Retry("")
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)

	for _, id := range accepted {
		if len(d.got[id]) == 0 {
			t.Errorf("the copy for %s was accepted and not sent", id)
		}
	}
	if n := len(d.got["twice"]); n < len(accepted) || before < len(accepted) && n-before < len(waiting) {
		t.Errorf("%d copies for the other, want at least %d", n, len(accepted))
	}
	for local, messages := range d.got {
		for _, m := range messages {
			if local != "twice" && m != bytesOf(local, local) {
				t.Errorf("%s: sent %q", local, m)
			}
		}
	}

	return calls
}
