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
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern/relay/envelope"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeDeliverer replies by recipient and records what it was given.
type fakeDeliverer struct {
	mu      sync.Mutex
	answers map[string][]Verdict // by local part, one an attempt, the last repeated; none: done
	got     map[string][]string  // messages delivered or tried, by local part
	gaveUp  []string
	away    bool
	// unreachable has Reachable fail, whatever the answers are.
	unreachable bool
	about       []*Transaction
	all         chan struct{} // gets one for each attempt
}

func newFake() *fakeDeliverer {
	return &fakeDeliverer{answers: map[string][]Verdict{}, got: map[string][]string{}, all: make(chan struct{}, 1<<30)}
}

func (f *fakeDeliverer) Deliver(_ context.Context, t *Transaction, i, tries int) Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.all <- struct{}{} }()
	local := t.Copies[i].Recipient.Address.Local
	f.got[local] = append(f.got[local], string(t.Message(i)))
	if f.away {
		return Verdict{Away: true, Reply: "451 4.4.1 away"}
	}
	a := f.answers[local]
	if len(a) == 0 {
		return Verdict{Done: true, Reply: "250 ok"}
	}
	return a[min(tries, len(a)-1)]
}

func (f *fakeDeliverer) GiveUp(_ context.Context, t *Transaction, i, _ int, _ Verdict) []*Transaction {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gaveUp = append(f.gaveUp, t.Copies[i].Recipient.Address.Local)
	return f.about
}

func (f *fakeDeliverer) Reachable(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away || f.unreachable {
		return fmt.Errorf("away")
	}
	return nil
}

func (f *fakeDeliverer) attempts(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-f.all:
		case <-time.After(time.Minute):
			t.Fatal("no further attempt")
		}
	}
}

func open(t *testing.T, disk *memoryDisk, change func(*Config)) *Queue {
	t.Helper()
	c := Config{
		Dir:        disk.dir,
		FS:         disk,
		RetryAfter: []time.Duration{time.Millisecond},
		ProbeEvery: 5 * time.Millisecond,
		Log:        quiet,
		logEvery:   5 * time.Millisecond,
	}
	if change != nil {
		change(&c)
	}
	q, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// serve runs the queue until stop is called.
func serve(q *Queue, d Deliverer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); q.Serve(ctx, d) }()
	return func() { cancel(); <-done }
}

func transaction(id string, to ...string) *Transaction {
	t := &Transaction{
		ID:      id,
		Created: time.Now(),
		From:    envelope.Address{Local: "s", Domain: "example.com"},
		Shared:  [][]byte{[]byte("shared\\\n" + id + "\r\n"), []byte("end\n")},
	}
	for _, local := range to {
		t.Copies = append(t.Copies, Copy{
			MessageID: id + "-" + local,
			Recipient: envelope.Recipient{Address: envelope.Address{Local: local, Domain: "example.net"}},
			Own:       [][]byte{[]byte("head of " + local + "\r\n"), []byte("\nslot\\n"), nil},
		})
	}
	return t
}

func bytesOf(id, local string) string {
	return "head of " + local + "\r\nshared\\\n" + id + "\r\n\nslot\\nend\n"
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		<-time.After(pause)
	}
}

func TestDelivery(t *testing.T) {
	later, no := Verdict{Reply: "450 later"}, Verdict{Failed: true, Reply: "550 no"}
	for _, c := range []struct {
		name    string
		answers []Verdict
		tries   int
		gaveUp  bool
	}{
		{"at once", nil, 1, false},
		{"at the third try", []Verdict{later, later, {Done: true}}, 3, false},
		{"refused", []Verdict{later, no}, 2, true},
	} {
		run(t, c.name, func(t *testing.T) {
			q, d := open(t, newDisk(t), nil), newFake()
			d.answers["a"] = c.answers
			if err := q.Put(context.Background(), transaction("t1", "a", "b")); err != nil {
				t.Fatal(err)
			}
			stop := serve(q, d)
			d.attempts(t, c.tries+1)
			wait(t, "an empty queue", func() bool { return q.Len() == 0 })
			stop()
			finish(t, q)
			if len(d.got["a"]) != c.tries || len(d.got["b"]) != 1 || (len(d.gaveUp) == 1) != c.gaveUp {
				t.Errorf("tried %v, gave up %v", d.got, d.gaveUp)
			}
			for _, local := range []string{"a", "b"} {
				for _, m := range d.got[local] {
					if m != bytesOf("t1", local) {
						t.Errorf("sent %q", m)
					}
				}
			}
		})
	}
}

// TestRestart checks that waiting copies survive a restart with their tries,
// and that ended ones do not come back.
func TestRestart(t *testing.T) { synctest.Test(t, testRestart) }

func testRestart(t *testing.T) {
	disk := newDisk(t)
	q, d := open(t, disk, func(c *Config) { c.RetryAfter = []time.Duration{time.Hour} }), newFake()
	d.answers["a"] = []Verdict{{Reply: "450 later"}}
	if err := q.Put(context.Background(), transaction("t1", "a", "b"), transaction("t2", "c")); err != nil {
		t.Fatal(err)
	}
	stop := serve(q, d)
	d.attempts(t, 3)
	wait(t, "one copy", func() bool { l := q.List(9); return len(l) == 1 && l[0].Tries == 1 })
	stop()
	finish(t, q)
	q = open(t, disk, nil)
	l := q.List(9)
	if len(l) != 1 || l[0].MessageID != "t1-a" || l[0].Tries != 1 || l[0].Reply != "450 later" ||
		time.Until(l[0].Next) < 50*time.Minute {
		t.Fatalf("after the restart: %+v", l)
	}
	if msg, err := q.Show("t1-a"); err != nil || string(msg) != bytesOf("t1", "a") {
		t.Errorf("shows %q, %v", msg, err)
	}
	d = newFake()
	stop = serve(q, d)
	if n, err := q.Retry("t1-a"); n != 1 || err != nil {
		t.Errorf("retry: %d, %v", n, err)
	}
	d.attempts(t, 1)
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
	q = open(t, disk, nil)
	if q.Len() != 0 {
		t.Errorf("done copies came back: %+v", q.List(9))
	}
	finish(t, q)
}

// TestUpstreamBack checks that copies that wait for the upstream are sent when
// it is back, long before they would be due.
func TestUpstreamBack(t *testing.T) { synctest.Test(t, testUpstreamBack) }

func testUpstreamBack(t *testing.T) {
	q, d := open(t, newDisk(t), func(c *Config) { c.RetryAfter = []time.Duration{time.Hour} }), newFake()
	d.away = true
	for i := range 20 {
		if err := q.Put(context.Background(), transaction(fmt.Sprint("t", i), "a")); err != nil {
			t.Fatal(err)
		}
	}
	stop := serve(q, d)
	d.attempts(t, 20)
	wait(t, "all to wait", func() bool { l := q.List(99); return len(l) == 20 && l[0].Away })
	d.mu.Lock()
	d.away = false
	d.mu.Unlock()
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
}

func TestExpiry(t *testing.T) { synctest.Test(t, testExpiry) }

func testExpiry(t *testing.T) {
	q, d := open(t, newDisk(t), func(c *Config) { c.BounceAfter = time.Hour }), newFake()
	d.answers["a"] = []Verdict{{Reply: "450 later"}}
	d.about = []*Transaction{transaction("dsn", "sender")}
	old := transaction("t1", "a")
	old.Created = time.Now().Add(-2 * time.Hour)
	if err := q.Put(context.Background(), old); err != nil {
		t.Fatal(err)
	}
	stop := serve(q, d)
	d.attempts(t, 2)
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
	if len(d.gaveUp) != 1 || len(d.got["sender"]) != 1 {
		t.Errorf("gave up %v, sent %v", d.gaveUp, d.got)
	}
}

// TestBroken checks that a flipped bit costs one transaction, which is
// quarantined, and that the others are sent.
func TestBroken(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	for i := range 3 {
		if err := q.Put(context.Background(), transaction(fmt.Sprint("t", i), "a")); err != nil {
			t.Fatal(err)
		}
	}
	data := disk.read(t, firstSegment)
	data[bytes.Index(data, []byte(`shared\\\nt1`))] ^= 1
	disk.write(firstSegment, data)
	d := newFake()
	stop := serve(q, d)
	d.attempts(t, 2)
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
	if broken := disk.names(".broken"); !slices.Equal(broken, []string{"t1.broken"}) {
		t.Errorf("quarantined: %v", broken)
	}
	if len(d.got["a"]) != 2 {
		t.Errorf("%d of the others went", len(d.got["a"]))
	}
}

func TestDrop(t *testing.T) {
	q := open(t, newDisk(t), nil)
	if err := q.Put(context.Background(), transaction("t1", "a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := q.Drop("t1-a"); err != nil {
		t.Error(err)
	}
	if err := q.Drop("t1-a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("twice: %v", err)
	}
	d := newFake()
	stop := serve(q, d)
	d.attempts(t, 1)
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
	if len(d.got["a"]) != 0 {
		t.Error("the dropped copy was sent")
	}
}

// TestSpaceComesBack checks that segments are removed when nothing in them
// waits, and that the few transactions that wait for long are moved.
func TestSpaceComesBack(t *testing.T) { synctest.Test(t, testSpaceComesBack) }

func testSpaceComesBack(t *testing.T) {
	disk := newDisk(t)
	q, d := open(t, disk, func(c *Config) { c.segmentBytes = 1 << 16 }), newFake()
	d.answers["stays"] = []Verdict{{Reply: "450 later"}}
	big := strings.Repeat("x", 1<<15)
	put := func(id, to string) {
		tr := transaction(id, to)
		tr.Shared[1] = []byte(big)
		if err := q.Put(context.Background(), tr); err != nil {
			t.Fatal(err)
		}
	}
	put("long", "stays")
	stop := serve(q, d)
	for i := range 2 * (8 + 4) {
		put(fmt.Sprint("t", i), "goes")
	}
	segments := func() int { return len(disk.names(".seg")) }
	wait(t, "the old segments to go", func() bool { return q.Len() == 1 && segments() <= 8+1 })
	stop()
	finish(t, q)
	q = open(t, disk, nil)
	if l := q.List(9); len(l) != 1 || l[0].MessageID != "long-stays" || l[0].Tries == 0 {
		t.Errorf("after the restart: %+v", l)
	}
	finish(t, q)
}

func FuzzRecord(f *testing.F) {
	r, _ := encodeTransaction(transaction("t", "a", "b"))
	f.Add(r)
	f.Add([]byte(`T 0000000048 {"id":"x","copies":[{"own":[1]}]}\nabc`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		tr, err := decodeInPlace(bytes.Clone(b))
		if err != nil {
			return
		}
		again, err := encodeTransaction(tr)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeInPlace(again)
		if err != nil {
			t.Fatal(err)
		}
		for i := range tr.Copies {
			if !bytes.Equal(tr.Message(i), back.Message(i)) {
				t.Fatal("a copy changed")
			}
		}
	})
}

func BenchmarkPut(b *testing.B) {
	q, err := Open(Config{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	body := []byte(strings.Repeat("0123456789 0123456789 0123456789 0123456789 0123456789\r\n", 550))
	b.SetBytes(int64(len(body)))
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		n := 0
		for pb.Next() {
			n++
			t := transaction(fmt.Sprintf("%p-%d", pb, n), "a")
			t.Shared[1] = body
			if err := q.Put(context.Background(), t); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen starts with 100,000 messages waiting.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{2 << 10, 30 << 10} {
		b.Run(fmt.Sprintf("%d_bytes", size), func(b *testing.B) {
			dir := b.TempDir()
			c := Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}
			q, err := Open(c)
			if err != nil {
				b.Fatal(err)
			}
			body := []byte(strings.Repeat("0123456789 0123456789 0123456789\r\n", size/34))
			for i := range 1000 {
				ts := make([]*Transaction, 100)
				for j := range ts {
					ts[j] = transaction(fmt.Sprint(i, "-", j), "a")
					ts[j].Shared[1] = body
				}
				if err := q.Put(context.Background(), ts...); err != nil {
					b.Fatal(err)
				}
			}
			q.Close()
			for b.Loop() {
				q, err := Open(c)
				if err != nil {
					b.Fatal(err)
				}
				if q.Len() != 100_000 {
					b.Fatal(q.Len())
				}
				b.StopTimer()
				q.Close()
				b.StartTimer()
			}
		})
	}
}
