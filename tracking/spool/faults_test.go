package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestOneFailureOfEachCall fails each file call of a spool's life once, in
// turn. The spool goes on without a restart, and what was acknowledged is there,
// at the time and after a restart.
func TestOneFailureOfEachCall(t *testing.T) {
	seen := map[string]int{}
	for n := 1; ; n++ {
		failed := ""
		fs := &faultFS{fail: func(i int, call, name string) error {
			if i != n {
				return nil
			}
			failed = call + " " + name
			seen[call]++
			return syscall.EIO
		}}
		c := config(t.TempDir())
		c.FS, c.SegmentBytes = fs, 60
		oneFailure(t, c)
		if failed == "" {
			break
		}
		if t.Failed() {
			t.Fatalf("failed call %d: %s", n, failed)
		}
	}
	for _, call := range strings.Fields("create open remove list syncdir write writeat read sync truncate allocate") {
		if seen[call] == 0 {
			t.Errorf("no %s was failed", call)
		}
	}
}

// oneFailure is a spool's life in which at most one call may fail.
func oneFailure(t *testing.T, c Config) {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		s = open(t, c)
	}
	s.Hold(100)

	errs, passed := 0, 0
	var acked []string
	r := reader(t, s)
	for i := range 12 {
		record := fmt.Sprintf("record %d", i)
		if err := s.Append(context.Background(), []byte(record)); err != nil {
			errs++
			continue
		}
		acked = append(acked, record)
		if i%4 == 3 {
			var rec Record
			for rec = next(t, r); string(rec.Data) != record; {
				rec = next(t, r)
			}
			passed = len(acked) // a commit that failed may have been made
			if err := r.Commit(rec.Next); err != nil {
				errs++
			}
		}
	}
	if errs > 1 {
		t.Errorf("%d errors of one failure", errs)
	}
	s.Rotate()
	if err := s.Close(); err != nil {
		t.Error(err)
	}

	s, err = Open(c)
	if err != nil {
		s = open(t, c)
	}
	if err := s.Append(context.Background(), []byte("last")); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	r = reader(t, s)
	have := map[string]bool{}
	for {
		record := string(next(t, r).Data)
		have[record] = true
		if record == "last" {
			break
		}
	}
	for _, record := range acked[passed:] {
		if !have[record] {
			t.Errorf("%q is gone", record)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestReaderWaitsWhileASegmentCannotBeRead: what the machine cannot do just now
// says nothing of the records.
func TestReaderWaitsWhileASegmentCannotBeRead(t *testing.T) {
	for _, tc := range []struct {
		call string
		err  error
	}{{"open", syscall.EMFILE}, {"open", syscall.EACCES}, {"open", syscall.ENOMEM}, {"read", syscall.EIO}} {
		t.Run(tc.call+" "+tc.err.Error(), func(t *testing.T) {
			tries := make(chan struct{}, 1000)
			fs := &faultFS{}
			c := config(t.TempDir())
			c.FS, c.Metrics = fs, prometheus.NewRegistry()
			s := open(t, c)
			put(t, s, "a", "b")
			fs.set(func(_ int, call, name string) error {
				if call != tc.call || !strings.HasSuffix(name, suffix) {
					return nil
				}
				tries <- struct{}{}
				return tc.err
			})

			ctx, cancel := context.WithCancel(context.Background())
			r := reader(t, s)
			ended := make(chan error, 1)
			go func() {
				_, err := r.Next(ctx)
				ended <- err
			}()
			for range 3 {
				<-tries
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's end", err)
			}
			if n := count(t, s.metrics.readErrors); n < 3 {
				t.Errorf("%v errors counted, want 3 and more", n)
			}

			fs.set(nil)
			for _, want := range []string{"a", "b"} {
				if got := string(next(t, r).Data); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// TestReaderKeepsItsSegmentOpen: reading on needs no new descriptor.
func TestReaderKeepsItsSegmentOpen(t *testing.T) {
	fs := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.SegmentBytes = fs, 64<<20
	s := open(t, c)
	big := strings.Repeat("x", readAhead)
	put(t, s, "a", big, big)
	r := reader(t, s)
	next(t, r)
	fs.set(func(_ int, call, _ string) error {
		if call == "open" {
			t.Error("opened anew")
		}
		return nil
	})
	next(t, r)
	next(t, r)
}

// TestSegmentThatIsGoneIsPassedOver, counted; the rest is read.
func TestSegmentThatIsGoneIsPassedOver(t *testing.T) {
	for _, how := range []string{"removed", "cut"} {
		t.Run(how, func(t *testing.T) {
			c := config(t.TempDir())
			c.SegmentBytes = 1
			s := open(t, c)
			put(t, s, "a", "b", "c")
			second := s.path(2)
			var err error
			if how == "removed" {
				err = os.Remove(second)
			} else {
				err = os.Truncate(second, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ := rest(t, s)
			want(t, got, "a", "c")
			if n := count(t, s.metrics.gone); n != 1 {
				t.Errorf("%v counted as gone, want 1", n)
			}
		})
	}
}

// TestSegmentNotReadableAtTheStart stays, and is read when it can be.
func TestSegmentNotReadableAtTheStart(t *testing.T) {
	for _, times := range []int{1, 1000} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			c := config(t.TempDir())
			s := open(t, c)
			put(t, s, "a")
			s.Close()
			fs := &faultFS{}
			fs.set(func(_ int, call, name string) error {
				if call == "open" && strings.HasSuffix(name, suffix) && times > 0 {
					times--
					return syscall.EMFILE
				}
				return nil
			})
			c.FS = fs
			s = open(t, c)
			put(t, s, "b")
			fs.set(nil)
			got, _, _ := rest(t, s)
			want(t, got, "a", "b")
			if kept := files(t, c.Dir, "*.broken"); len(kept) > 0 {
				t.Errorf("quarantined: %v", kept)
			}
		})
	}
}

// TestNumberIsUsedOnce: what stands in the way of a new segment is gone round.
func TestNumberIsUsedOnce(t *testing.T) {
	c := config(t.TempDir())
	if err := os.MkdirAll(filepath.Join(c.Dir, "0000000000000001.seg"), 0o700); err != nil { // not a file
		t.Fatal(err)
	}
	s := open(t, c)
	put(t, s, "a")
	got, _, _ := rest(t, s)
	want(t, got, "a")
	if s.Newest().Segment != 2 {
		t.Errorf("segment %d, want 2", s.Newest().Segment)
	}
}

// TestSegmentWithTheHighestNumber does not make the next one 0.
func TestSegmentWithTheHighestNumber(t *testing.T) {
	for _, name := range []string{"ffffffffffffffff.seg", "7fffffffffffffff.seg"} {
		t.Run(name, func(t *testing.T) {
			c := config(t.TempDir())
			s := open(t, c)
			put(t, s, "a")
			s.Close()
			if err := os.Rename(filepath.Join(c.Dir, "0000000000000001.seg"), filepath.Join(c.Dir, name)); err != nil {
				t.Fatal(err)
			}
			s = open(t, c)
			put(t, s, "b", "c")
			got, _, _ := rest(t, s)
			want(t, got, "b", "c")
			if kept := files(t, c.Dir, "*.broken"); len(kept) != 1 || kept[0] != name+brokenSuffix {
				t.Errorf("quarantined: %v, want %s", kept, name+brokenSuffix)
			}
		})
	}
}

// TestSegmentOfAnotherName: a file that looks like a segment and is not named
// like one is not read, and not left there without a word.
func TestSegmentOfAnotherName(t *testing.T) {
	for _, name := range []string{"00000000000000AA.seg", "copy of 0000000000000001.seg", "1.seg"} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			c := config(t.TempDir())
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
			content := appendLine(nil, []byte("renamed"))
			if err := os.WriteFile(filepath.Join(c.Dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}

			s := open(t, c)
			put(t, s, "new")
			got, _, _ := rest(t, s)
			want(t, got, "new")
			kept, err := os.ReadFile(filepath.Join(c.Dir, name+brokenSuffix))
			if err != nil || !bytes.Equal(kept, content) {
				t.Errorf("quarantined %q, %v, want %q", kept, err, content)
			}
			if !strings.Contains(log.String(), name+brokenSuffix) {
				t.Errorf("the log does not name %s:\n%s", name, log.String())
			}
		})
	}
}

// TestRemovedOpenSegmentIsLeft: a program that removes the segment that is being
// written costs what is in it, not what comes after.
func TestRemovedOpenSegmentIsLeft(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	put(t, s, "removed")
	if err := os.Remove(s.path(1)); err != nil {
		t.Fatal(err)
	}
	s.do(func() { s.w.guarded = time.Time{} }) // as if some time had passed

	put(t, s, "later")
	s.Close()
	got, _, _ := rest(t, open(t, c))
	want(t, got, "later")
}

// TestReadDirPassesFolders over, whatever their names.
func TestReadDirPassesFolders(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	put(t, s, "a")
	if err := os.Mkdir(s.path(9), 0o700); err != nil {
		t.Fatal(err)
	}

	var got []string
	err := ReadDir(c.Dir, func(r Record) bool {
		got = append(got, string(r.Data))
		return true
	})
	if err != nil {
		t.Error(err)
	}
	want(t, got, "a")
}

// TestCheckFindsDamage where no reader comes by.
func TestCheckFindsDamage(t *testing.T) {
	var log strings.Builder
	c := config(t.TempDir())
	c.Log, c.Readers = slog.New(slog.NewTextHandler(&log, nil)), nil
	s := open(t, c)
	put(t, s, "a", "damaged", strings.Repeat("long", 64<<10))
	flip(t, s.path(1), lineExtra+1+lineExtra)

	for range 2 {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
	kept := files(t, c.Dir, "*.broken")
	if len(kept) != 1 || !strings.Contains(log.String(), kept[0]) {
		t.Errorf("quarantined %v, want one file, and its name in\n%s", kept, log.String())
	}
}

// TestAlive: a write that hangs is seen from outside.
func TestAlive(t *testing.T) {
	hang, hanging := make(chan struct{}), make(chan struct{})
	fs := &faultFS{}
	c := config(t.TempDir())
	c.FS = fs
	c.SegmentAge = time.Millisecond // the writer looks around as often
	s := open(t, c)
	first := s.Alive()
	for !s.Alive().After(first) {
		runtime.Gosched()
	}

	fs.set(func(_ int, call, _ string) error {
		if call == "write" { // there is one
			close(hanging)
			<-hang
		}
		return nil
	})
	done := make(chan error)
	go func() { done <- s.Append(context.Background(), []byte("a")) }()
	<-hanging
	before := s.Alive()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	<-tick.C
	<-tick.C
	if now := s.Alive(); now != before {
		t.Errorf("a hanging writer was seen at %s, after %s", now, before)
	}
	close(hang)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
