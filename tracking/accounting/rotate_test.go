package accounting

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/tracking/event"
)

// TestMovedOutOfSight: what was written between the last look and the move
// (PowerMTA's move-to) is read all the same.
func TestMovedOutOfSight(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	file := filepath.Join(dir, "acct.csv")
	appendTo(t, file, header+delivered)
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)
	appendTo(t, file, delivered)
	if err := os.Mkdir(filepath.Join(dir, "done"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file, filepath.Join(dir, "done", "acct.csv")); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, "done", "acct.csv"), delivered)
	poll(t, f)
	if len(m.events) != 3 {
		t.Errorf("%d events, want 3", len(m.events))
	}
}

// TestAnotherFileInTheSameInode: a file that was truncated, or made anew with a
// freed inode, and has grown past the offset since.
func TestAnotherFileInTheSameInode(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	file := filepath.Join(dir, "acct.csv")
	appendTo(t, file, header+delivered)
	f := follower(t, dir, m)
	poll(t, f)
	f.closeAll()
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, file, header+strings.Repeat(bounced("good-3", "bad-mailbox", "5.1.1", "smtp;550 no"), 5))
	f = follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)
	if len(m.events) != 1+5 {
		t.Errorf("%d events, want 6", len(m.events))
	}
}

// TestServeHearsOfChanges: with a timer that would come too late.
func TestServeHearsOfChanges(t *testing.T) {
	t.Parallel()

	dir, got := t.TempDir(), make(chan int, 16)
	f, err := New(Config{Globs: []string{filepath.Join(dir, "acct*.csv")}, Dir: filepath.Join(dir, "state"), Settings: Settings{Verify: good}, Events: counting(got), Every: time.Hour, Log: silent})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	appendTo(t, filepath.Join(dir, "acct.csv"), header+delivered)
	go func() { done <- f.Serve(ctx) }()
	wait := func() {
		t.Helper()
		select {
		case <-got:
		case <-time.After(20 * time.Second):
			t.Fatal("nobody looked")
		}
	}
	wait()
	appendTo(t, filepath.Join(dir, "acct.csv"), delivered)
	wait()
	appendTo(t, filepath.Join(dir, "acct-2.csv"), header+delivered)
	wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// counting tells of each batch of events.
type counting chan int

func (c counting) Record(_ context.Context, es ...*event.Event) error {
	c <- len(es)
	return nil
}

// TestBadLineIsNamed by its number, also where it is not in the first block.
func TestBadLineIsNamed(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	file := filepath.Join(dir, "acct.csv")
	appendTo(t, file, header+delivered+bounced("good-2", "other", "5.0.0", "smtp;550 one\ntwo")) // lines 1 to 4
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)
	appendTo(t, file, delivered+"zz,no such type\r\n"+delivered)
	poll(t, f)
	bad, err := os.ReadFile(filepath.Join(dir, "state", "bad.csv"))
	if err != nil || !strings.HasPrefix(string(bad), "# "+file+":6: ") || len(m.events) != 4 {
		t.Errorf("%q %v, %d events", bad, err, len(m.events))
	}
}

// TestHeldFiles: old files are not kept open; one that is out of sight and could
// not be recorded is, for as long as that takes.
func TestHeldFiles(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	old := time.Now().Add(-24 * time.Hour)
	for _, name := range []string{"acct-1.csv", "acct-2.csv"} {
		appendTo(t, filepath.Join(dir, name), header+delivered)
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)
	if len(m.events) != 2 || len(f.held) != 0 {
		t.Errorf("%d events, %d files open", len(m.events), len(f.held))
	}
	m.broken = true
	file := filepath.Join(dir, "acct-3.csv")
	appendTo(t, file, header+delivered)
	if err := f.Poll(context.Background()); err == nil {
		t.Error("no word of the failure")
	}
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file, filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	for _, h := range f.held {
		h.grown = old
	}
	if err := f.Poll(context.Background()); err == nil || len(f.held) != 1 {
		t.Errorf("%v, %d files open", err, len(f.held))
	}
	m.broken = false
	poll(t, f)
	if len(m.events) != 3 {
		t.Errorf("%d events", len(m.events))
	}
}

// failsFirst tells of each batch of events but the first, which fails.
type failsFirst struct {
	counting
	calls *int
}

func (f failsFirst) Record(ctx context.Context, es ...*event.Event) error {
	if *f.calls++; *f.calls == 1 {
		return errDisk
	}
	return f.counting.Record(ctx, es...)
}
