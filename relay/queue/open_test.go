package queue

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/spool"
)

func TestDefaults(t *testing.T) {
	var c Config
	c.setDefaults()
	want := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
	if !slices.Equal(c.RetryAfter, want) {
		t.Errorf("RetryAfter %v, want %v", c.RetryAfter, want)
	}
	if c.BounceAfter != 108*time.Hour || c.Workers != 16 || c.ProbeEvery != 5*time.Second || c.Grace != 5*time.Second {
		t.Errorf("got %+v", c)
	}
	if c.logEvery != 500*time.Millisecond || c.segmentBytes != 64<<20 {
		t.Errorf("the log every %v, segments of %d bytes", c.logEvery, c.segmentBytes)
	}
	if now := c.Now(); time.Since(now).Abs() > time.Minute {
		t.Errorf("now is %v", now)
	}

	epoch := func() time.Time { return time.Unix(0, 0) }
	set := Config{
		RetryAfter:   []time.Duration{1},
		BounceAfter:  2,
		Workers:      3,
		ProbeEvery:   4,
		Grace:        5,
		Now:          epoch,
		logEvery:     6,
		segmentBytes: 7,
	}
	set.setDefaults()
	if len(set.RetryAfter) != 1 || set.BounceAfter != 2 || set.Workers != 3 || set.ProbeEvery != 4 || set.Grace != 5 ||
		set.logEvery != 6 || set.segmentBytes != 7 || !set.Now().Equal(epoch()) {
		t.Errorf("what was set is gone: %+v", set)
	}
}

// TestSegmentsFitTheDisk checks that a segment is one sixteenth of the free
// space, within limits.
func TestSegmentsFitTheDisk(t *testing.T) {
	for _, c := range []struct {
		name       string
		free, want int64
	}{
		{"large", 100 << 30, 64 << 20},
		{"16 segments of the default", 1 << 30, 64 << 20},
		{"a little less", 1<<30 - 16, 64<<20 - 1},
		{"medium", 160 << 20, 10 << 20},
		{"small", 4 << 20, 1 << 20},
		{"full", 1, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			disk.size = c.free
			if got := segmentFor(spool.NewDisk(disk, disk.dir, 0)); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}

	if got := segmentFor(nil); got != 64<<20 {
		t.Errorf("without a disk: got %d, want %d", got, 64<<20)
	}
	if got := segmentFor(spool.NewDisk(nil, "/does/not/exist", 0)); got != 64<<20 {
		t.Errorf("a disk that does not answer: got %d, want %d", got, 64<<20)
	}
}

// TestOpenTwice checks that a second Open of the directory fails until the
// queue is closed.
func TestOpenTwice(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	second, err := Open(Config{Dir: disk.dir, FS: disk, Log: quiet})
	if !errors.Is(err, spool.ErrLocked) || second != nil {
		t.Errorf("got %v, %v, want %v", second, err, spool.ErrLocked)
	}
	finish(t, q)
	finish(t, open(t, disk, nil))

	err = q.Put(t.Context(), transaction("t1", "a"))
	if !errors.Is(err, spool.ErrClosed) || !strings.HasPrefix(err.Error(), "queue: ") {
		t.Errorf("after the end: got %v, want %v", err, spool.ErrClosed)
	}
}

// TestMetrics checks the names of the metrics, which dashboards depend on.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	disk := newDisk(t)
	q := open(t, disk, func(c *Config) { c.Metrics = reg })
	put(t, q, transaction("t1", "later", "done", "failed"), transaction("t2", "b", "c"))
	for _, local := range []string{"b", "c"} {
		if err := q.Drop("t2-" + local); err != nil {
			t.Fatal(err)
		}
	}
	d := newFake()
	d.answers["later"] = []Verdict{{Reply: "450 later"}, {Done: true}}
	d.answers["failed"] = []Verdict{{Failed: true, Reply: "550 no"}}

	before := values(t, reg)
	for name, want := range map[string]float64{
		"postern_queue_copies":               3,
		"postern_queue_unsaved":              2,
		"postern_queue_broken_records_total": 0,
		"postern_queue_records_total":        2,
	} {
		if got, ok := before[name]; !ok || got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}

	stop := serve(q, d)
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	after := values(t, reg)
	for name, want := range map[string]float64{
		"postern_queue_attempts_total done":     2,
		"postern_queue_attempts_total failed":   1,
		"postern_queue_attempts_total deferred": 1,
		"postern_queue_copies":                  0,
		"postern_queue_unsaved":                 0,
	} {
		if got := after[name]; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	finish(t, q)
}

// values returns metrics by name and label. Each must have a help text.
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
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
				name += " " + l.GetValue()
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}

	return out
}

// TestPauses checks the pauses between attempts, and their jitter of 5 % either
// way.
func TestPauses(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	q := &Queue{cfg: Config{RetryAfter: []time.Duration{time.Minute, time.Hour}, Now: func() time.Time { return now }}}
	for _, c := range []struct {
		tries int
		want  time.Duration
	}{{1, time.Minute}, {2, time.Hour}, {3, time.Hour}, {100, time.Hour}} {
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 20_000 {
			pause := q.nextTry(c.tries).Sub(now)
			least, most = min(least, pause), max(most, pause)
		}
		from, to := c.want*95/100, c.want*105/100
		slack := c.want / 500
		if least < from || least > from+slack || most > to || most < to-slack {
			t.Errorf("after try %d: from %v to %v, want from %v to %v", c.tries, least, most, from, to)
		}
	}

	q.cfg.RetryAfter = []time.Duration{1}
	if pause := q.nextTry(1).Sub(now); pause != 1 {
		t.Errorf("a pause of 1ns: got %v", pause)
	}
}

// TestReservations checks that reserved bytes are taken from the free space,
// and returned.
func TestReservations(t *testing.T) {
	disk := newDisk(t)
	disk.size = 8 << 20
	q := open(t, disk, func(c *Config) { c.Disk = spool.NewDisk(disk, disk.dir, 1<<20) })
	for range 3 {
		release, err := q.Reserve(5 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := q.Reserve(5 << 20); !errors.Is(err, spool.ErrNoSpace) || again != nil {
			t.Errorf("reserved twice: %v", err)
		}
		release()
		release()
	}
	if err := q.Err(); err != nil {
		t.Errorf("got %v, want room", err)
	}
	disk.fill()
	if err := q.Err(); !errors.Is(err, spool.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, spool.ErrNoSpace)
	}
	if err := q.Flush(); err != nil {
		t.Errorf("nothing is to be written, and a flush says %v", err)
	}
	disk.unfill()
	finish(t, q)
}

// TestAnIDThatIsThereAlready checks that the transaction moves, and that its
// copies wait once.
func TestAnIDThatIsThereAlready(t *testing.T) {
	q := open(t, newDisk(t), nil)
	tr := transaction("t1", "a", "b")
	q.mu.Lock()
	q.add(tr, spool.Position{Segment: 1, Offset: 5}, 100)
	q.mu.Unlock()
	if q.Len() != 2 {
		t.Errorf("%d copies wait, want 2", q.Len())
	}
	q.mu.Lock()
	q.add(tr, spool.Position{Segment: 2, Offset: 7}, 90)
	if e := q.entries["t1"]; e.at != (spool.Position{Segment: 2, Offset: 7}) || e.size != 90 || q.live != 90 {
		t.Errorf("got %+v and %d bytes, want it in segment 2 with 90 bytes", e, q.live)
	}
	if q.copies != 2 || len(q.segments) != 1 {
		t.Errorf("%d copies in %d segments, want 2 in 1", q.copies, len(q.segments))
	}
	for _, c := range q.entries["t1"].copies {
		q.forget(c)
	}
	q.mu.Unlock()
	finish(t, q)
}

// TestSegmentsLastForADay checks that a segment that does not fill is closed
// after a day.
func TestSegmentsLastForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, newDisk(t), nil)
		for i, c := range []struct {
			after   time.Duration
			segment uint64
		}{{0, 1}, {24*time.Hour - 2*time.Second, 1}, {4 * time.Second, 2}} {
			time.Sleep(c.after)
			id := fmt.Sprint("t", i)
			put(t, q, transaction(id, "a"))
			if got := q.entries[id].at.Segment; got != c.segment {
				t.Errorf("%v later: in segment %d, want %d", c.after, got, c.segment)
			}
		}
		finish(t, q)
	})
}

// TestForgottenCopyIsNowhere checks that forget removes a copy from every part
// of the index.
func TestForgottenCopyIsNowhere(t *testing.T) {
	q := open(t, newDisk(t), nil)
	tr := transaction("t1", "a", "b")
	tr.Copies[0].Tried = &Verdict{Away: true}
	put(t, q, tr)
	q.mu.Lock()
	for _, c := range q.entries["t1"].copies {
		q.markChanged(c)
	}
	q.mu.Unlock()
	if err := q.Drop("t1-a"); err != nil {
		t.Fatal(err)
	}
	checkIndex(t, q)
	if len(q.away) != 0 || len(q.changed) != 1 {
		t.Errorf("%d copies are away and %d changed, want none and 1", len(q.away), len(q.changed))
	}

	// Its end is needed as long as its segment is.
	q.dropEnds(q.entries["t1"].at.Segment)
	if len(q.ends) != 1 {
		t.Errorf("%d ends are to be written, want 1", len(q.ends))
	}
	finish(t, q)
}
