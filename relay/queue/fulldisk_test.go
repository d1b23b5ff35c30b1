package queue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/tracking/spool"
)

// smallDisk mounts a small file system, which the test can fill.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })

	return dir
}

// TestFullDiskDrains lets the queue fill a disk, and another program take the
// rest. Every copy must be sent once, over an orderly restart too, and mail
// must be accepted again although some copies are still waiting.
func TestFullDiskDrains(t *testing.T) {
	const size, headroom = 3 << 20, 1 << 20
	for _, others := range []bool{false, true} {
		name := "queue alone"
		if others {
			name = "another program too"
		}
		t.Run(name+", in memory", func(t *testing.T) {
			disk := newDisk(t)
			disk.size = size
			c := Config{Dir: disk.dir, FS: disk, Disk: spool.NewDisk(disk, disk.dir, headroom)}
			var fill, free func()
			if others {
				fill, free = disk.fill, disk.unfill
			}
			synctest.Test(t, func(t *testing.T) { fullDiskDrains(t, c, fill, free) })
		})
	}
}

// TestFullFileSystemDrains is TestFullDiskDrains on a real file system.
func TestFullFileSystemDrains(t *testing.T) {
	const size, headroom = 3 << 20, 1 << 20
	t.Parallel()
	root := smallDisk(t, size)
	filler := filepath.Join(root, "filler")
	fill := func() {
		f, err := os.Create(filler)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		f.Close()
	}
	c := Config{Dir: filepath.Join(root, "queue"), Disk: spool.NewDisk(nil, root, headroom)}
	fullDiskDrains(t, c, fill, func() { os.Remove(filler) })
}

func fullDiskDrains(t *testing.T, c Config, fill, free func()) {
	c.Log = quiet
	c.logEvery = 20 * time.Millisecond
	c.segmentBytes = 256 << 10
	c.RetryAfter = []time.Duration{50 * time.Millisecond}
	c.ProbeEvery = 5 * time.Millisecond
	q, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	d := newFake()
	d.away = true
	stop := serve(q, d)
	body := []byte(strings.Repeat("0123456789 0123456789 0123456789\r\n", 60))
	count := 0
	one := func() error {
		tr := transaction(fmt.Sprint("t", count), fmt.Sprint("to", count))
		tr.Shared[1] = body
		release, err := q.Reserve(Room(Escaped(body), 4096))
		if err != nil {
			return err
		}
		defer release()
		if err := q.Put(context.Background(), tr); err != nil {
			return err
		}
		count++

		return nil
	}
	for one() == nil {
	}
	if count < 300 {
		t.Fatalf("only %d copies fitted", count)
	}
	wait(t, "attempts at a full disk", func() bool { return d.attempted("to0") > 5 })
	if fill != nil {
		fill()
	}

	d.mu.Lock()
	d.away = false
	d.answers["to7"] = []Verdict{{Reply: "450 later"}}
	d.got = map[string][]string{}
	half := count / 2
	for i := half; i < count; i++ {
		d.answers[fmt.Sprint("to", i)] = []Verdict{{Reply: "450 later"}}
	}
	d.mu.Unlock()
	wait(t, "half of the copies", func() bool { return q.Len() <= count-half+1 })
	stop()
	q.Close()
	if n := q.unsaved(); fill == nil && n > 0 {
		t.Errorf("%d records are not written at the end", n)
	}
	if free != nil {
		free()
	}

	if q, err = Open(c); err != nil {
		t.Fatal(err)
	}
	if n := q.Len(); n != count-half+1 {
		t.Errorf("%d copies wait after the restart, want %d", n, count-half+1)
	}
	d.mu.Lock()
	for i := half; i < count; i++ {
		delete(d.answers, fmt.Sprint("to", i))
	}
	d.mu.Unlock()
	stop = serve(q, d)
	wait(t, "all but one", func() bool { return q.Len() == 1 })
	wait(t, "room for mail", func() bool { return q.Err() == nil && q.spool.Size() < 1<<20 })
	if err := one(); err != nil {
		t.Errorf("new mail: %v", err)
	}
	stop()
	q.Close()
	for i := range half {
		if n := d.attempted(fmt.Sprint("to", i)); n != 1 && i != 7 {
			t.Errorf("copy %d was sent %d times", i, n)
		}
	}
}

// TestRefusedCopiesLeaveAFullDisk checks that DSNs for which there is no room
// are sent all the same, once each.
func TestRefusedCopiesLeaveAFullDisk(t *testing.T) { synctest.Test(t, testRefusedCopiesLeaveAFullDisk) }

func testRefusedCopiesLeaveAFullDisk(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	d := &dsnDeliverer{fakeDeliverer: newFake()}
	const copies = 20
	for i := range copies {
		local := fmt.Sprint("a", i)
		d.answers[local] = []Verdict{{Failed: true, Reply: "550 no"}}
		put(t, q, transaction(local, local))
	}
	d.answers["sender-of-a7-a7"] = []Verdict{{Reply: "450 later"}}
	disk.set(full)
	stop := serve(q, d)
	wait(t, "all but one to leave", func() bool { return q.Len() == 1 && d.attempted("sender-of-a7-a7") > 1 })
	d.mu.Lock()
	delete(d.answers, "sender-of-a7-a7")
	d.mu.Unlock()
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	disk.set(nil)
	stop()
	finish(t, q)
	for i := range copies {
		to := fmt.Sprintf("sender-of-a%d-a%d", i, i)
		if n := d.attempted(to); n != 1 && i != 7 {
			t.Errorf("%d DSNs for %s, want 1", n, to)
		}
	}
}

// dsnDeliverer returns a DSN for each copy that is given up.
type dsnDeliverer struct{ *fakeDeliverer }

func (d *dsnDeliverer) GiveUp(_ context.Context, t *Transaction, i, _ int, _ Verdict) []*Transaction {
	id := t.Copies[i].MessageID
	return []*Transaction{transaction("dsn-"+id, "sender-of-"+id)}
}
