package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// requests makes one of each text, and says how they end.
func requests(class Class, texts ...string) (list []*request) {
	for _, text := range texts {
		list = append(list, newRequest(class, [][]byte{[]byte(text)}))
	}

	return list
}

// commit has the writer write a batch, and returns the answers.
func commitAll(t *testing.T, s *Spool, batch []*request) (errs []error) {
	t.Helper()
	s.do(func() { s.commitBatch(slices.Clone(batch)) })
	for i, r := range batch {
		select {
		case err := <-r.done:
			errs = append(errs, err)
		default:
			t.Fatalf("request %d was not answered", i)
		}
	}

	return errs
}

// TestBatchIsSyncedOnce, and each request knows where its records are.
func TestBatchIsSyncedOnce(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	put(t, s, "before")
	fsys.note()
	batch := requests(Ordinary, "a", "bcd", "e")
	if errs := commitAll(t, s, batch); errors.Join(errs...) != nil {
		t.Fatal(errs)
	}
	if got := fsys.noted(); !slices.Equal(got, []string{"write 0000000000000001.seg", "sync 0000000000000001.seg"}) {
		t.Errorf("calls %v, want one write and one fsync", got)
	}
	for i, want := range []int64{16, 27, 40} {
		if at := batch[i].at; at != (Position{1, want}) {
			t.Errorf("request %d is at %v, want %d", i, at, want)
		}
	}
	if n := count(t, s.metrics.syncs); n != 2 {
		t.Errorf("%v fsyncs are counted, want 2", n)
	}
}

func TestGatherBoundsABatch(t *testing.T) {
	const half = maxBatch / 2
	for _, c := range []struct {
		name  string
		sizes []int
		want  []int // requests of each batch
	}{
		{"one", []int{1}, []int{1}},
		{"many", []int{1, 2, 3, 4, 5}, []int{5}},
		{"the last goes beyond", []int{half, half - 1, 5, 1}, []int{3, 1}},
		{"just full", []int{half, half, 1}, []int{2, 1}},
		{"too large alone", []int{maxBatch + 1, 1, maxBatch, 1}, []int{1, 2, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Spool{queue: make(chan *request, 10)}
			for _, n := range c.sizes {
				s.queue <- &request{lines: make([]byte, n)}
			}
			var got []int
			total := 0
			for len(s.queue) > 0 {
				batch := s.gather(<-s.queue)
				for i, r := range batch {
					if len(r.lines) != c.sizes[total+i] {
						t.Errorf("request %d has %d bytes, want %d", total+i, len(r.lines), c.sizes[total+i])
					}
				}
				total += len(batch)
				got = append(got, len(batch))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("batches of %v, want %v", got, c.want)
			}
		})
	}
	if maxBatch != 8<<20 {
		t.Errorf("a batch is bounded to %d bytes, want 8 MiB", maxBatch)
	}
}

func TestJoin(t *testing.T) {
	for _, c := range []struct {
		name      string
		sizes     []int
		classes   []Class
		pieces    int
		essential bool
	}{
		{"one", []int{5}, []Class{Essential}, 1, true},
		{"small ones together", []int{5, 6, 7}, []Class{Essential, Essential, Essential}, 1, true},
		{"not all are essential", []int{5, 6}, []Class{Essential, Internal}, 1, false},
		{"nor the first", []int{5, 6}, []Class{Ordinary, Essential}, 1, false},
		{"just small", []int{maxJoined - 1, 1}, []Class{Ordinary, Ordinary}, 1, false},
		{"large", []int{maxJoined, 1}, []Class{Essential, Essential}, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var batch []*request
			var all []byte
			for i, n := range c.sizes {
				r := &request{class: c.classes[i], lines: bytes.Repeat([]byte{byte('a' + i)}, n)}
				batch = append(batch, r)
				all = append(all, r.lines...)
			}
			got := join(batch)
			if len(got.pieces) != c.pieces || got.size != int64(len(all)) || got.essential != c.essential {
				t.Errorf("%d bytes in %d pieces, essential %v; want %d in %d, %v", got.size, len(got.pieces), got.essential, len(all), c.pieces, c.essential)
			}
			if !bytes.Equal(slices.Concat(got.pieces...), all) {
				t.Error("the pieces are not the lines")
			}
		})
	}
	if maxJoined != 1<<20 {
		t.Errorf("up to %d bytes are copied together, want 1 MiB", maxJoined)
	}
}

// TestWhatIsDoneWithGoesAloneOnAFullDisk.
func TestWhatIsDoneWithGoesAloneOnAFullDisk(t *testing.T) {
	for _, c := range []struct {
		name    string
		classes []Class
		writes  int
		ok      []bool
	}{
		{"mixed", []Class{Ordinary, Essential, Internal, Essential}, 2, []bool{false, true, false, true}},
		{"none is essential", []Class{Ordinary, Internal}, 1, []bool{false, false}},
		{"all are", []Class{Essential, Essential}, 1, []bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			cfg := config(t.TempDir())
			cfg.FS = fsys
			s := open(t, cfg)
			put(t, s, "before")
			writes := 0
			fsys.set(func(_ int, call, _ string) error {
				if call != "write" {
					return nil
				}
				if writes++; writes == 1 {
					return syscall.ENOSPC
				}
				return nil
			})
			var batch []*request
			for i, class := range c.classes {
				batch = append(batch, requests(class, fmt.Sprint("record ", i))...)
			}
			refused := 0.0
			for i, err := range commitAll(t, s, batch) {
				if (err == nil) != c.ok[i] || err != nil && (!errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC)) {
					t.Errorf("record %d: got %v, want ok %v", i, err, c.ok[i])
				}
				if err != nil {
					refused++
					continue
				}
				if got, err := s.ReadAt(batch[i].at, 8); err != nil || string(got) != fmt.Sprint("record ", i) {
					t.Errorf("record %d is not at %v: %q, %v", i, batch[i].at, got, err)
				}
			}
			if writes != c.writes {
				t.Errorf("%d writes, want %d", writes, c.writes)
			}
			if n := count(t, s.metrics.refused); n != refused {
				t.Errorf("%v are counted as refused, want %v", n, refused)
			}
			if got := segments(s); len(got) != 1 {
				t.Errorf("segments %v, want no second one for a full disk", got)
			}
		})
	}
}

// TestBytesToBeWrittenCountAsTaken while they are written, and no longer.
func TestBytesToBeWrittenCountAsTaken(t *testing.T) {
	fsys := &faultFS{}
	disk := NewDisk(fsys, t.TempDir(), 1000)
	c := config(t.TempDir())
	c.FS, c.Disk = fsys, disk
	s := open(t, c)
	fsys.set(func(_ int, call, _ string) error {
		if call == "sync" {
			if disk.mu.Lock(); disk.writing != 22 {
				t.Errorf("%d bytes are being written, want 22", disk.writing)
			}
			disk.mu.Unlock()
		}
		return nil
	})
	commitAll(t, s, requests(Ordinary, "a", "b"))
	if disk.writing != 0 {
		t.Errorf("%d bytes are being written afterwards", disk.writing)
	}
}

// TestBatchOnANearlyFullDisk: each request finds less than the one before.
func TestBatchOnANearlyFullDisk(t *testing.T) {
	const headroom, floor = 4000, 1000 // which internal records leave
	const line = 100
	for _, c := range []struct {
		name    string
		free    int64
		classes []Class
		ok      []bool
	}{
		{"room for one of two", headroom + line, []Class{Ordinary, Ordinary}, []bool{true, false}},
		{"a byte less", headroom + line - 1, []Class{Ordinary, Ordinary}, []bool{false, false}},
		{"room for both", headroom + 2*line, []Class{Ordinary, Ordinary}, []bool{true, true}},
		{"internal ones below the headroom", floor + 2*line, []Class{Internal, Internal, Internal}, []bool{true, true, false}},
		{"a byte less for internal ones", floor + 2*line - 1, []Class{Internal, Internal, Internal}, []bool{true, false, false}},
		{"essential ones take from the others", floor + 2*line, []Class{Essential, Internal, Internal}, []bool{true, true, false}},
		{"what is refused takes nothing", floor + line, []Class{Ordinary, Internal, Ordinary}, []bool{false, true, false}},
		{"essential ones always", 1, []Class{Essential, Essential}, []bool{true, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			cfg := config(t.TempDir())
			cfg.FS, cfg.Disk = fsys, NewDisk(fsys, t.TempDir(), headroom)
			s := open(t, cfg)
			fsys.free.Store(c.free)
			var batch []*request
			for _, class := range c.classes {
				batch = append(batch, requests(class, strings.Repeat("x", line-lineExtra))...)
			}
			for i, err := range commitAll(t, s, batch) {
				if (err == nil) != c.ok[i] || err != nil && !errors.Is(err, ErrNoSpace) {
					t.Errorf("request %d: got %v, want ok %v", i, err, c.ok[i])
				}
			}
		})
	}
}

// TestWithoutADiskNothingIsRefused before the write: a separate spool goes as
// far as the file system does. Nor where the free space cannot be told.
func TestWithoutADiskNothingIsRefused(t *testing.T) {
	fsys := &noFree{}
	for _, c := range []struct {
		name string
		disk bool
		err  error
	}{{"full", false, nil}, {"full, and it cannot be told", true, syscall.EIO}} {
		t.Run(c.name, func(t *testing.T) {
			fsys.err = c.err
			cfg := config(t.TempDir())
			cfg.FS = fsys
			if c.disk {
				cfg.Disk = NewDisk(fsys, cfg.Dir, 0)
			}
			put(t, open(t, cfg), "a")
		})
	}
}

// noFree is a file system without free bytes, or one that does not tell.
type noFree struct {
	OS
	err error
}

func (n *noFree) Free(string) (uint64, error) { return 0, n.err }

// TestSecondFailureIsTold: one new segment is tried, not one after the other.
func TestSecondFailureIsTold(t *testing.T) {
	for _, failed := range []string{"write", "sync", "create", "syncdir"} {
		t.Run(failed, func(t *testing.T) {
			fsys := &faultFS{}
			c, log := logged(t, fsys)
			c.Readers = nil
			s := open(t, c)
			calls := 0
			fsys.set(func(_ int, call, name string) error {
				if call == failed {
					calls++
					return syscall.EIO
				}
				return nil
			})
			if err := s.Append(context.Background(), []byte("a")); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrNoSpace) {
				t.Errorf("got %v, want EIO", err)
			}
			if calls != 2 {
				t.Errorf("%d calls failed, want 2", calls)
			}
			if n := strings.Count(log.String(), "trying a new segment"); n != 1 || strings.Contains(log.String(), "cannot remove") {
				t.Errorf("the log says\n%s", log)
			}
			if n := count(t, s.metrics.appended) + count(t, s.metrics.refused); n != 0 {
				t.Errorf("%v records are counted", n)
			}
			fsys.set(nil)
			put(t, s, "b")
			var got []string
			if err := ReadDir(c.Dir, func(r Record) bool {
				got = append(got, string(r.Data))
				return true
			}); err != nil {
				t.Error(err)
			}
			want(t, got, "b")
			if failed == "create" || failed == "syncdir" {
				if list := files(t, c.Dir, "*.seg"); len(list) != 1 || list[0] != segmentName(3) {
					t.Errorf("segments %v, want the third alone: no empty one, no number twice", list)
				}
			}
		})
	}
}

// TestFailedFsyncEndsTheSegment, cut at what was durable: its pages may be gone.
func TestFailedFsyncEndsTheSegment(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	put(t, s, "a")
	failed := false
	fsys.set(func(_ int, call, _ string) error {
		if call == "sync" && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	put(t, s, "b")
	if info, err := os.Stat(s.path(1)); err != nil || info.Size() != lineExtra+1 {
		t.Errorf("the first segment: %v, %v, want one record", info, err)
	}
	if got := s.Newest(); got != (Position{2, lineExtra + 1}) {
		t.Errorf("newest %v, want one record in segment 2", got)
	}
	if n := fsys.opened(c.Dir); n != 2 {
		t.Errorf("%d files are open, want the cursor and the new segment", n)
	}
}

// TestFullDiskDoesNotEndTheSegment: what was written in part is cut off, and the
// next record follows. Where it cannot be cut off, the segment ends.
func TestFullDiskDoesNotEndTheSegment(t *testing.T) {
	for _, c := range []struct {
		name     string
		write    error
		truncate error
		segment  uint64 // of the next record
	}{
		{"full", syscall.ENOSPC, nil, 1},
		{"quota", syscall.EDQUOT, nil, 1},
		{"full and not cut", syscall.ENOSPC, syscall.EIO, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			cfg := config(t.TempDir())
			cfg.FS = fsys
			s := open(t, cfg)
			put(t, s, "a")
			fsys.set(func(_ int, call, _ string) error {
				switch call {
				case "write":
					return c.write
				case "truncate":
					return c.truncate
				}
				return nil
			})
			if err := s.Append(context.Background(), []byte("refused")); !errors.Is(err, ErrNoSpace) || !errors.Is(err, c.write) {
				t.Errorf("got %v, want ErrNoSpace", err)
			}
			fsys.set(nil)
			put(t, s, "b")
			if got := s.Newest().Segment; got != c.segment {
				t.Errorf("the next record is in segment %d, want %d", got, c.segment)
			}
			s.Close()
			s = open(t, cfg)
			got, _, _ := rest(t, s)
			want(t, got, "a", "b")
		})
	}
}

// TestSegmentEndsBySize at the limit, not below it.
func TestSegmentEndsBySize(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes = 3 * (lineExtra + 1)
	s := open(t, c)
	for i, want := range []uint64{1, 1, 2, 2} {
		put(t, s, "a")
		if got := s.Tail(); got != want {
			t.Errorf("after %d records: the next is in segment %d, want %d", i+1, got, want)
		}
	}
}

// TestSegmentEndsByAge, so that what waits nowhere goes.
func TestSegmentEndsByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t.TempDir())
		s := open(t, c)
		put(t, s, "a")
		time.Sleep(time.Minute - time.Millisecond)
		synctest.Wait()
		if got := s.Tail(); got != 1 {
			t.Errorf("before a minute is over the next record is in segment %d", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := s.Tail(); got != 2 {
			t.Errorf("after a minute the next record is in segment %d, want 2", got)
		}
		put(t, s, "b")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := s.Tail(); got != 2 {
			t.Errorf("the age counts from the segment's first record; the next is in segment %d", got)
		}
	})
}

// TestWriterShowsItLives every second, or as often as segments end.
func TestWriterShowsItLives(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{time.Hour: time.Second, time.Millisecond: time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			c := config(t.TempDir())
			c.SegmentAge = age
			s := open(t, c)
			for range 5 {
				before := s.Alive()
				time.Sleep(want)
				synctest.Wait()
				if got := s.Alive().Sub(before); got != want {
					t.Errorf("age %s: seen %s later, want %s", age, got, want)
				}
			}
		})
	}
}

// TestEmptySegmentThatStays because it cannot be removed is said.
func TestEmptySegmentThatStays(t *testing.T) {
	fsys := &faultFS{}
	c, log := logged(t, fsys)
	c.Readers = nil
	s := open(t, c)
	failed := false
	fsys.set(func(_ int, call, _ string) error {
		if call == "syncdir" && !failed {
			failed = true
			return syscall.EIO
		}
		if call == "remove" {
			return syscall.EIO
		}
		return nil
	})
	put(t, s, "a")
	if !strings.Contains(log.String(), "cannot remove empty segment") {
		t.Errorf("the log says\n%s", log)
	}
}
