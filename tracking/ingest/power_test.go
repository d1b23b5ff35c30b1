package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
	"postern/tracking/spool/atomicfile"
)

// power is the machine's file system whose power can be cut: from the call cutAt
// on every one fails, and left then leaves only what was synced, the bytes of a
// file as far as its fsync, its name as far as that of its folder. It also sees
// what stays open.
type power struct {
	spool.OS
	mu    sync.Mutex
	calls int
	cutAt int // 0: never
	open  int

	files   map[string]*powerNode // by the names that the process sees
	durable map[string]*powerNode // by the names that survive
}

type powerNode struct{ synced []byte }

var errPower = errors.New("power is gone")

func newPower(cutAt int) *power {
	return &power{cutAt: cutAt, files: map[string]*powerNode{}, durable: map[string]*powerNode{}}
}

func (p *power) call() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.calls++; p.cutAt > 0 && p.calls >= p.cutAt {
		return errPower
	}

	return nil
}

// left leaves what survives, with so many bytes of what was not synced.
func (p *power) left(t *testing.T, tail int) {
	t.Helper()

	unsynced := map[*powerNode][]byte{}
	for name, n := range p.files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		unsynced[n] = b[min(len(b), len(n.synced)):]
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range p.durable {
		more := unsynced[n][:min(tail, len(unsynced[n]))]
		if err := os.WriteFile(name, append(n.synced[:len(n.synced):len(n.synced)], more...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *power) opened(name string) *powerNode {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.open++
	if p.files[name] == nil {
		p.files[name] = &powerNode{}
	}

	return p.files[name]
}

func (p *power) Create(name string) (spool.File, error) {
	if err := p.call(); err != nil {
		return nil, err
	}
	f, err := p.OS.Create(name)
	if err != nil {
		return nil, err
	}
	return &powerFile{f, p, name, p.opened(name)}, nil
}

func (p *power) Open(name string) (spool.File, error) {
	f, err := p.OS.Open(name)
	if err != nil {
		return nil, err
	}
	return &powerFile{f, p, name, p.opened(name)}, nil
}

func (p *power) OpenAppend(name string) (atomicfile.AppendFile, error) {
	if err := p.call(); err != nil {
		return nil, err
	}
	f, err := atomicfile.OS{}.OpenAppend(name)
	if err != nil {
		return nil, err
	}
	return &powerAppend{powerFile{nil, p, name, p.opened(name)}, f}, nil
}

func (p *power) MkdirAll(dir string) error {
	if err := p.call(); err != nil {
		return err
	}
	return atomicfile.OS{}.MkdirAll(dir)
}

func (p *power) Rename(from, to string) error {
	if err := p.call(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[to] = p.files[from]
	delete(p.files, from)
	return p.OS.Rename(from, to)
}

// Remove is durable at once: the worst case.
func (p *power) Remove(name string) error {
	if err := p.call(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.files, name)
	delete(p.durable, name)
	return p.OS.Remove(name)
}

func (p *power) SyncDir(dir string) error {
	if err := p.call(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, n := range p.files {
		if filepath.Dir(name) == dir {
			p.durable[name] = n
		}
	}
	return nil
}

type powerFile struct {
	spool.File
	p    *power
	name string
	node *powerNode
}

func (f *powerFile) Write(b []byte) (int, error) { return f.write(f.File.Write, b) }

func (f *powerFile) write(write func([]byte) (int, error), b []byte) (int, error) {
	if err := f.p.call(); err != nil {
		n, _ := write(b[:len(b)/2])
		return n, err
	}
	return write(b)
}

func (f *powerFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.p.call(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

func (f *powerFile) Truncate(size int64) error { return f.truncate(f.File.Truncate, size) }

func (f *powerFile) truncate(truncate func(int64) error, size int64) error {
	if err := f.p.call(); err != nil {
		return err
	}
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.node.synced = f.node.synced[:min(len(f.node.synced), int(size))]
	return truncate(size)
}

func (f *powerFile) Sync() error {
	if err := f.p.call(); err != nil {
		return err
	}
	b, err := os.ReadFile(f.name)
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.node.synced = b
	return err
}

func (f *powerFile) Close() error { return f.close(f.File.Close) }

func (f *powerFile) close(closeFile func() error) error {
	f.p.mu.Lock()
	f.p.open--
	f.p.mu.Unlock()
	return closeFile()
}

// powerAppend is a file of the quarantine's.
type powerAppend struct {
	powerFile
	file atomicfile.AppendFile
}

func (f *powerAppend) Write(b []byte) (int, error)            { return f.write(f.file.Write, b) }
func (f *powerAppend) ReadAt(b []byte, at int64) (int, error) { return f.file.ReadAt(b, at) }
func (f *powerAppend) Size() (int64, error)                   { return f.file.Size() }
func (f *powerAppend) Truncate(size int64) error              { return f.truncate(f.file.Truncate, size) }
func (f *powerAppend) Close() error                           { return f.close(f.file.Close) }

// TestPowerLoss cuts the power at each call for the ledger and the quarantine.
// Every event was taken, is in the quarantine, or goes at the next start; the
// cursor passed none that is not; no line of the quarantine is torn.
func TestPowerLoss(t *testing.T) {
	t.Parallel()

	const n = 12
	bad := func(ndjson string) error {
		if has(ndjson, 3) || has(ndjson, 8) {
			return refusal(400, "no")
		}
		return nil
	}
	change := func(p *power) func(*Config) {
		return func(c *Config) {
			c.Batch.Bytes = 1000
			c.Uploads.MinBackoff = time.Second
			c.Uploads.MaxBackoff = time.Second
			if p != nil {
				c.Ledger.FS, c.Quarantine.FS = p, p
			}
		}
	}

	for _, tail := range []int{0, 1000} {
		for cut := 1; ; cut++ {
			p := newPower(cut)
			synctest.Test(t, func(t *testing.T) { powerLoss(t, p, cut, tail, n, bad, change) })
			if p.calls < cut {
				if cut < 20 {
					t.Errorf("only %d calls were cut", cut)
				}
				break
			}
		}
	}
}

func powerLoss(t *testing.T, p *power, cut, tail, n int, bad func(string) error, change func(*power) func(*Config)) {
	dir := t.TempDir()
	first := &sink{answer: func(_ int, ndjson string) error { return bad(ndjson) }}
	sp, up, serve := lives(t, dir, first, change(p), of(t, event.Open, "m%", 1, n)...)
	if up != nil {
		serve(10 * time.Second)
	}
	if err := sp.Close(); err != nil {
		t.Error(err)
	}
	if p.open != 0 {
		t.Errorf("cut at %d: %d files are open at the end", cut, p.open)
	}
	p.left(t, tail)

	second := &sink{answer: func(_ int, ndjson string) error { return bad(ndjson) }}
	sp, up, serve = lives(t, dir, second, change(nil))
	if up == nil {
		t.Fatalf("cut at %d, tail %d: no start", cut, tail)
	}
	serve(10 * time.Second)
	if got := spool.Cursor(filepath.Join(dir, "events"), "r"); got != sp.Newest() {
		t.Errorf("cut at %d, tail %d: the cursor is at %+v, want %+v", cut, tail, got, sp.Newest())
	}
	if err := sp.Close(); err != nil {
		t.Error(err)
	}

	taken, again, aside := first.ids(), second.ids(), quarantined(t, filepath.Join(dir, "events"))
	for i := 1; i <= n; i++ {
		id := fmt.Sprint(i)
		refused := i == 3 || i == 8
		if refused && aside[id] == 0 || !refused && taken[id]+again[id] == 0 {
			t.Errorf("cut at %d, tail %d: event %s is lost", cut, tail, id)
		}
	}
}

// lives opens a log and an uploader, nil where that fails, and returns what has
// it serve for a while and end.
func lives(
	t *testing.T, dir string, s *sink, change func(*Config), lines ...[]byte,
) (sp *spool.Spool, up *Uploader, serve func(time.Duration)) {
	t.Helper()

	c := Config{
		Dir:        filepath.Join(dir, "events"),
		Sink:       s,
		Batch:      BatchConfig{Age: time.Second},
		Ledger:     LedgerConfig{FS: unsyncedFS{}},
		Quarantine: QuarantineConfig{FS: unsyncedAppendFS{}},
		Log:        quiet,
	}
	change(&c)
	sp, err := spool.Open(spool.Config{Dir: c.Dir, Readers: []string{"r"}, Keep: time.Hour, FS: unsyncedFS{}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) > 0 {
		if err := sp.Append(t.Context(), lines...); err != nil {
			t.Fatal(err)
		}
	}
	up, err = New(c)
	if err != nil {
		return sp, nil, nil
	}
	src, err := sp.Reader("r")
	if err != nil {
		t.Fatal(err)
	}

	return sp, up, func(d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if err := up.Serve(ctx, src); err != nil {
			t.Error(err)
		}
		_ = up.Close() // power may be gone
	}
}
