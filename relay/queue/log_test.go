package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/tracking/spool"
)

// logBook is a log that a test can read.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// count returns the number of lines that contain a text.
func (l *logBook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}

	return n
}

// noWrites fails calls as a disk that is read-only.
func noWrites(_ int, call, _ string) error {
	switch call {
	case "create", "write", "writeat", "sync", "syncdir":
		return syscall.EIO
	}

	return nil
}

// TestEndsSayWhy checks that the end of each copy is recorded with its reason.
func TestEndsSayWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, nil)
		d := newFake()
		d.answers["refused"] = []Verdict{{Failed: true, Reply: "550 5.1.1 no"}}
		d.answers["failed"] = []Verdict{{Failed: true, Reply: "no code"}}
		d.answers["waits"] = []Verdict{{Reply: "450 later"}}
		put(t, q, transaction("t1", "sent", "refused", "failed", "dropped", "waits"))
		if err := q.Drop("t1-dropped"); err != nil {
			t.Fatal(err)
		}
		stop := serve(q, d)
		wait(t, "all but one to end", func() bool { return q.Len() == 1 })
		stop()
		got := ends(t, disk)
		slices.Sort(got)
		want := []string{"t1-dropped: dropped", "t1-failed: failed", "t1-refused: failed 550", "t1-sent: sent"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for _, r := range records(t, disk) {
			if r[0] == kindDone && !strings.Contains(r, `"id":"t1"`) {
				t.Errorf("%s: no id of the transaction", r)
			}
		}
		finish(t, q)
	})
}

func TestWhyFailed(t *testing.T) {
	for _, c := range []struct{ reply, want string }{
		{"550 5.1.1 no", "failed 550"},
		{"421", "failed 421"},
		{"55 no", "failed"},
		{"5500 no", "failed"},
		{"5x0 no", "failed"},
		{"55\u00e4 no", "failed"},
		{"", "failed"},
	} {
		if got := failedWith(c.reply); got != c.want {
			t.Errorf("%q: got %q, want %q", c.reply, got, c.want)
		}
	}
}

// TestGroups checks that records are written in groups of 500, ends first and
// as essential.
func TestGroups(t *testing.T) {
	q := open(t, newDisk(t), nil)
	var to []string
	for i := range 1001 {
		to = append(to, fmt.Sprint(i))
	}
	put(t, q, transaction("t", to...))
	q.mu.Lock()
	for _, c := range q.entries["t"].copies {
		q.markChanged(c)
	}
	for i := range 501 {
		q.ends = append(q.ends, pendingEnd{doneRecord: doneRecord{"x", fmt.Sprint(i), "sent"}, segment: 1})
	}
	q.mu.Unlock()

	b, err := q.takeUnsaved(spool.Internal)
	if err != nil {
		t.Fatal(err)
	}
	type group struct {
		class   spool.Class
		records int
		kind    byte
	}
	var got []group
	for _, g := range b.groups {
		got = append(got, group{g.Class, len(g.Records), g.Records[0][0]})
	}
	want := []group{
		{spool.Essential, 500, kindDone},
		{spool.Essential, 1, kindDone},
		{spool.Internal, 500, kindState},
		{spool.Internal, 500, kindState},
		{spool.Internal, 1, kindState},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if q.unsaved() != 0 {
		t.Errorf("%d records are still to be taken", q.unsaved())
	}

	// What failed is put back, and no more.
	failed := errors.New("failed")
	q.putBack(b, []error{nil, failed, failed, nil, nil})
	if len(q.ends) != 1 || q.ends[0].Copy != "500" || len(q.changed) != 500 {
		t.Errorf("%d ends and %d states are put back, want 1 and 500", len(q.ends), len(q.changed))
	}
	b, err = q.takeUnsaved(noStates)
	if err != nil || len(b.ends) != 1 || len(b.changed) != 0 || len(q.changed) != 500 {
		t.Errorf("without states: %d ends, %d states, %v", len(b.ends), len(b.changed), err)
	}
	q.putBack(b, []error{failed})
	if len(q.ends) != 1 {
		t.Errorf("%d ends are put back, want 1", len(q.ends))
	}
	finish(t, q)
}

// TestTakenAtATime checks the limit of 5000 ends and as many states.
func TestTakenAtATime(t *testing.T) {
	const most = 5000
	q := open(t, newDisk(t), nil)
	var to []string
	for i := range most + 1 {
		to = append(to, fmt.Sprint(i))
	}
	put(t, q, transaction("t", to...))
	q.mu.Lock()
	for _, c := range q.entries["t"].copies {
		q.markChanged(c)
	}
	for i := range most + 1 {
		q.ends = append(q.ends, pendingEnd{doneRecord: doneRecord{"x", fmt.Sprint(i), "sent"}, segment: 1})
	}
	q.mu.Unlock()
	b, err := q.takeUnsaved(spool.Ordinary)
	if err != nil || len(b.ends) != most || len(b.changed) != most || q.unsaved() != 2 {
		t.Errorf("%d ends and %d states are taken and %d left, %v; want %d of each and 2", len(b.ends), len(b.changed),
			q.unsaved(), err, most)
	}
	if q.ends[0].Copy != fmt.Sprint(most) {
		t.Errorf("the end of %s is left, want the last", q.ends[0].Copy)
	}
	q.putBack(b, make([]error, len(b.groups)))
	finish(t, q)
}

// TestStateOfACopyThatEnded checks that such a state is not put back.
func TestStateOfACopyThatEnded(t *testing.T) {
	q := open(t, newDisk(t), nil)
	put(t, q, transaction("t", "a", "b"))
	q.mu.Lock()
	for _, c := range q.entries["t"].copies {
		q.markChanged(c)
	}
	q.mu.Unlock()
	b, err := q.takeUnsaved(spool.Ordinary)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Drop("t-a"); err != nil {
		t.Fatal(err)
	}
	q.putBack(b, []error{errors.New("failed")})
	if len(q.changed) != 1 {
		t.Errorf("%d states are to be written, want 1", len(q.changed))
	}
	finish(t, q)
}

// TestComplaints checks that the log says every 30 s that records cannot be
// written.
func TestComplaints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, book := newDisk(t), &logBook{}
		q := open(t, disk, func(c *Config) {
			c.Log, c.logEvery = book.logger(), 0
			c.RetryAfter = []time.Duration{time.Hour}
		})
		put(t, q, transaction("t1", "a"), transaction("t2", "b"))
		d := newFake()
		d.answers["b"] = []Verdict{{Reply: "450 later"}}
		disk.set(noWrites)
		stop := serve(q, d)
		const text = "ends and states not recorded yet"
		for _, c := range []struct {
			after time.Duration
			want  int
		}{
			{time.Second, 1},
			{28 * time.Second, 1},
			{2500 * time.Millisecond, 2},
			{29 * time.Second, 2},
			{2 * time.Second, 3},
		} {
			pass(c.after)
			if got := book.count(text); got != c.want {
				t.Errorf("%v later: %d complaints, want %d", c.after, got, c.want)
			}
		}
		if n := book.count("records=2"); n == 0 {
			t.Errorf("no complaint tells of 2 records:\n%s", book.buf.String())
		}
		disk.set(nil)
		pass(time.Minute)
		if got := book.count(text); got != 3 {
			t.Errorf("%d complaints, want 3: it was written", got)
		}
		if n := q.unsaved(); n != 0 {
			t.Errorf("%d records are not written", n)
		}
		stop()
		finish(t, q)
	})
}

// TestLastRecordsAreTriedThreeTimes checks that the log says if they could not
// be written.
func TestLastRecordsAreTriedThreeTimes(t *testing.T) {
	for _, c := range []struct {
		name     string
		mendedIn time.Duration // 0: never
		took     time.Duration
		unsaved  int
		told     int
	}{
		{"at once", time.Nanosecond, 0, 0, 0},
		{"at the second try", 100 * time.Millisecond, 200 * time.Millisecond, 0, 0},
		{"at the third", 300 * time.Millisecond, 400 * time.Millisecond, 0, 0},
		{"never", 0, 400 * time.Millisecond, 1, 1},
	} {
		run(t, c.name, func(t *testing.T) {
			disk, book := newDisk(t), &logBook{}
			q := open(t, disk, func(c *Config) { c.Log = book.logger() })
			put(t, q, transaction("t1", "a"))
			if err := q.Drop("t1-a"); err != nil {
				t.Fatal(err)
			}
			if c.mendedIn != time.Nanosecond {
				disk.set(noWrites)
			}
			start := time.Now()
			if c.mendedIn > 0 {
				time.AfterFunc(c.mendedIn, func() { disk.set(nil) })
			}
			q.flushLast()
			if took := time.Since(start); took != c.took {
				t.Errorf("took %v, want %v", took, c.took)
			}
			if n := q.unsaved(); n != c.unsaved {
				t.Errorf("%d records are not written, want %d", n, c.unsaved)
			}
			if n := book.count("mail may be duplicated"); n != c.told {
				t.Errorf("it is told %d times, want %d", n, c.told)
			}
			disk.set(nil)
			finish(t, q)
		})
	}
}

// TestCloseWritesWhatIsLeft checks that Close records ends and states.
func TestCloseWritesWhatIsLeft(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	put(t, q, transaction("t1", "a"))
	if err := q.Drop("t1-a"); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if got := ends(t, disk); !slices.Equal(got, []string{"t1-a: dropped"}) {
		t.Errorf("got %q, want the end", got)
	}
}

// TestSignsOfLife checks Alive: the current time while Serve is not running, at
// most one turn ago while it is, and longer ago when it hangs.
func TestSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, func(c *Config) { c.logEvery = time.Second })
		pass(time.Hour)
		if since := time.Since(q.Alive()); since != 0 {
			t.Errorf("not served: %v old, want none", since)
		}

		stop := serve(q, newFake())
		pass(time.Minute)
		if since := time.Since(q.Alive()); since > time.Second {
			t.Errorf("served: %v old, want at most a second", since)
		}

		release := make(chan struct{})
		disk.set(func(_ int, call, _ string) error {
			if call == "sync" {
				<-release
			}
			return nil
		})
		go func() { _ = q.Put(context.Background(), transaction("t1", "a")) }()
		q.mu.Lock()
		q.ends = append(q.ends, pendingEnd{doneRecord: doneRecord{"x", "y", "sent"}, segment: 1})
		q.mu.Unlock()
		pass(time.Minute)
		if since := time.Since(q.Alive()); since < 58*time.Second {
			t.Errorf("hanging: %v old, want about a minute", since)
		}
		disk.set(nil)
		close(release)
		stop()
		pass(time.Hour)
		if since := time.Since(q.Alive()); since != 0 {
			t.Errorf("stopped: %v old, want none", since)
		}
		q.Close()
	})
}

// TestStopWritesEndsAndReleasesSegments stops a queue whose log was not woken,
// or waits after a failure.
func TestStopWritesEndsAndReleasesSegments(t *testing.T) {
	for _, failed := range []bool{false, true} {
		run(t, fmt.Sprint("after a failure ", failed), func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, func(c *Config) { c.logEvery, c.segmentBytes = time.Hour, 1 })
			put(t, q, transaction("t1", "a"))
			put(t, q, transaction("t2", "b"))
			d := newFake()
			d.answers["a"] = []Verdict{{Reply: "450 later"}}
			d.answers["b"] = []Verdict{{Reply: "450 later"}}
			q.cfg.RetryAfter = []time.Duration{time.Hour}
			stop := serve(q, d)
			synctest.Wait()
			if failed {
				disk.set(noWrites)
			}
			wakeLog := q.wakeLog
			if !failed { // nobody wakes the log
				q.wakeLog = nil
			}
			q.mu.Lock()
			q.endCopy(q.entries["t1"].copies["t1-a"], "sent")
			q.endCopy(q.entries["t2"].copies["t2-b"], "sent")
			q.mu.Unlock()
			q.wakeLog = wakeLog
			synctest.Wait()
			if n := q.unsaved(); n != 2 {
				t.Fatalf("%d records are not written before the stop, want 2", n)
			}
			disk.set(nil)
			stop()
			if n := q.unsaved(); n != 0 {
				t.Errorf("%d records are not written at the stop", n)
			}
			for _, name := range []string{firstSegment, "0000000000000002.seg"} {
				if slices.Contains(disk.names(".seg"), name) {
					t.Errorf("%s is left", name)
				}
			}
			finish(t, q)
		})
	}
}

// TestSegmentsThatCannotBeReleased checks that the failure is logged and tried
// again.
func TestSegmentsThatCannotBeReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, book := newDisk(t), &logBook{}
		q := open(t, disk, func(c *Config) { c.Log, c.segmentBytes = book.logger(), 1 })
		put(t, q, transaction("t1", "a"))
		put(t, q, transaction("t2", "b"))
		disk.set(func(_ int, call, name string) error {
			if strings.HasPrefix(name, "cursor") && call != "read" {
				return syscall.EIO
			}
			return nil
		})
		if err := q.Drop("t1-a"); err != nil {
			t.Fatal(err)
		}
		if q.freeSegments() {
			t.Error("there is more to do, said after a failure")
		}
		if n := book.count("cannot release segments"); n != 1 {
			t.Errorf("it is told %d times, want once", n)
		}
		if n := len(q.ends); n != 1 {
			t.Errorf("%d ends are to be written, want 1", n)
		}
		disk.set(nil)
		q.freeSegments()
		if names := disk.names(".seg"); len(q.ends) != 0 || slices.Contains(names, firstSegment) {
			t.Errorf("%d ends are to be written and segments %v left, want none and not the first", len(q.ends), names)
		}
		finish(t, q)
	})
}

// TestEndsOfRemovedSegments checks that such ends are dropped, and others are
// not.
func TestEndsOfRemovedSegments(t *testing.T) {
	q := open(t, newDisk(t), nil)
	put(t, q, transaction("t1", "a"))
	q.mu.Lock()
	for _, segment := range []uint64{1, 2, 3} {
		q.spool.Hold(100)
		q.ends = append(q.ends, pendingEnd{doneRecord: doneRecord{"x", fmt.Sprint(segment), "sent"}, segment: segment, room: 100})
	}
	q.mu.Unlock()
	q.dropEnds(2)
	if len(q.ends) != 2 || q.ends[0].segment != 2 || q.ends[1].segment != 3 {
		t.Errorf("left are %+v, want those of segments 2 and 3", q.ends)
	}
	checkHeld(t, q)
	finish(t, q)
}
