package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// powerFS is a file system that loses power: every call is counted, the one
// that is to fail and all later ones do, and afterwards only what was synced is
// left: the bytes of a file as far as its fsync, its name as far as that of
// its directory. A write that power cuts may leave any part of itself.
type powerFS struct {
	mu     sync.Mutex
	files  map[string]*powerNode // as the process sees them
	synced map[string]*powerNode // names that survive
	calls  int
	cutAt  int // 0: never
}

type powerNode struct {
	data   []byte
	synced []byte // the content that survives
}

var errPower = errors.New("power is gone")

func newPowerFS() *powerFS {
	return &powerFS{files: map[string]*powerNode{}, synced: map[string]*powerNode{}}
}

// call counts under mu; a cut call does nothing.
func (p *powerFS) call() error {
	p.calls++
	if p.cutAt > 0 && p.calls >= p.cutAt {
		return errPower
	}
	return nil
}

// restart gives what is left, and how much of unsynced tails survives.
func (p *powerFS) restart(tail int) *powerFS {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := newPowerFS()
	for name, n := range p.synced {
		left := append([]byte(nil), n.data[:min(len(n.data), len(n.synced)+tail)]...)
		if tail == 0 { // nor does what was overwritten
			left = append([]byte(nil), n.synced...)
		}
		node := &powerNode{data: left, synced: append([]byte(nil), left...)}
		next.files[name], next.synced[name] = node, node
	}
	return next
}

func (p *powerFS) Create(name string) (File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(); err != nil {
		return nil, err
	}
	if p.files[name] != nil {
		return nil, fs.ErrExist
	}
	p.files[name] = &powerNode{}
	return &powerFile{p, p.files[name]}, nil
}

func (p *powerFS) Open(name string) (File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.files[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return &powerFile{p, n}, nil
}

func (p *powerFS) Rename(from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(); err != nil {
		return err
	}
	if p.files[from] == nil {
		return fs.ErrNotExist
	}
	p.files[to] = p.files[from]
	delete(p.files, from)
	return nil
}

func (p *powerFS) Remove(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(); err != nil {
		return err
	}
	if p.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(p.files, name)
	delete(p.synced, name) // the worst case: it is gone at once
	return nil
}

type powerInfo struct {
	fs.FileInfo
	name string
	size int64
}

func (i powerInfo) Name() string       { return i.name }
func (i powerInfo) Size() int64        { return i.size }
func (i powerInfo) ModTime() time.Time { return time.Time{} }
func (i powerInfo) Sys() any           { return nil }

func (p *powerFS) List(dir string) (out []os.FileInfo, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for seq := uint64(0); seq < 1000; seq++ { // in the order of their names
		name := fmt.Sprintf("%016x%s", seq, suffix)
		if n := p.files[filepath.Join(dir, name)]; n != nil {
			out = append(out, powerInfo{name: name, size: int64(len(n.data))})
		}
	}
	return out, nil
}

func (p *powerFS) SyncDir(dir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(); err != nil {
		return err
	}
	p.synced = map[string]*powerNode{}
	for name, n := range p.files {
		p.synced[name] = n
	}
	return nil
}

func (p *powerFS) Free(string) (uint64, error) { return 1 << 40, nil }

type powerFile struct {
	p *powerFS
	n *powerNode
}

func (f *powerFile) Write(b []byte) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if err := f.p.call(); err != nil {
		f.n.data = append(f.n.data, b[:len(b)/2]...)
		return len(b) / 2, err
	}
	f.n.data = append(f.n.data, b...)
	return len(b), nil
}

// WriteAt of a cut call leaves half of itself, durable or not.
func (f *powerFile) WriteAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	n := len(b)
	err := f.p.call()
	if err != nil {
		n /= 2
	}
	for int64(len(f.n.data)) < off+int64(n) {
		f.n.data = append(f.n.data, 0)
	}
	copy(f.n.data[off:], b[:n])

	return n, err
}

func (f *powerFile) Allocate(int64, int64) error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	return f.p.call()
}

func (f *powerFile) ReadAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *powerFile) Sync() error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if err := f.p.call(); err != nil {
		return err
	}
	f.n.synced = append([]byte(nil), f.n.data...)
	return nil
}

func (f *powerFile) Truncate(size int64) error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if err := f.p.call(); err != nil {
		return err
	}
	f.n.data = f.n.data[:size]
	f.n.synced = f.n.synced[:min(len(f.n.synced), int(size))]
	return nil
}

func (f *powerFile) Close() error { return nil }

// TestPowerLoss cuts the power at each file call of a spool's life in turn,
// keeping only what was synced and some of what was not. Whatever Append or
// Commit acknowledged is there afterwards (promises, Reliability 5).
func TestPowerLoss(t *testing.T) {
	lastCalls := 0
	for cut := 1; ; cut++ {
		done := false
		for _, tail := range []int{0, 1, 7, 1000} {
			p := newPowerFS()
			p.cutAt = cut
			acked, passed := life(t, p)
			done = p.calls < cut
			lastCalls = p.calls
			after := p.restart(tail)
			c := powerConfig(t, after)
			c.Readers = append(c.Readers, "unread")
			s, err := Open(c)
			if err != nil {
				t.Fatalf("cut at %d, tail %d: %v", cut, tail, err)
			}
			got, _, _ := rest(t, s)
			have := map[string]bool{}
			for _, r := range got {
				have[r] = true
				if !strings.HasPrefix(r, "record ") {
					t.Errorf("cut at %d, tail %d: read %q", cut, tail, r)
				}
			}
			for i, r := range acked {
				if i >= passed && !have[r] {
					t.Errorf("cut at %d, tail %d: %q was acknowledged and is gone; left: %q", cut, tail, r, got)
				}
			}
			put(t, s, "record after")
			s.Close()
		}
		if done {
			break
		}
	}
	if lastCalls < 30 {
		t.Errorf("only %d calls were cut", lastCalls)
	}
}

func powerConfig(t *testing.T, p *powerFS) Config {
	return Config{Dir: t.TempDir(), FS: &movedFS{p, ""}, SegmentBytes: 60, Readers: []string{"r"}, Log: slog.New(slog.DiscardHandler)}
}

// movedFS lets each life have a directory of its own for its lock.
type movedFS struct {
	*powerFS
	_ string
}

func (m *movedFS) base(name string) string            { return filepath.Base(name) }
func (m *movedFS) Create(name string) (File, error)   { return m.powerFS.Create(m.base(name)) }
func (m *movedFS) Open(name string) (File, error)     { return m.powerFS.Open(m.base(name)) }
func (m *movedFS) Rename(from, to string) error       { return m.powerFS.Rename(m.base(from), m.base(to)) }
func (m *movedFS) Remove(name string) error           { return m.powerFS.Remove(m.base(name)) }
func (m *movedFS) List(string) ([]os.FileInfo, error) { return m.powerFS.List("") }

// life appends, reads and commits until power is gone. It returns what was
// acknowledged and how many of those a commit may have passed.
func life(t *testing.T, p *powerFS) (acked []string, passed int) {
	s, err := Open(powerConfig(t, p))
	if err != nil {
		return nil, 0
	}
	defer s.Close()
	for i := range 12 {
		r := fmt.Sprintf("record %d", i)
		if s.Append(context.Background(), []byte(r)) == nil {
			acked = append(acked, r)
		}
		if i%4 == 3 {
			got, end, reader := rest(t, s)
			if len(got) > 0 {
				passed = len(acked) // a commit that power cuts may have been made
				if reader.Commit(end) != nil {
					return acked, passed
				}
			}
		}
	}
	return acked, passed
}
