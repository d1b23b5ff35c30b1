package spool

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// faultFS is the machine's file system with calls that fail. fail is asked
// before each, by the call's name and the file's. It counts the files that are
// open, so that open can hold a spool to close them. It syncs nothing: no test
// that uses it loses power, and most of their time would go there.
type faultFS struct {
	OS
	mu    sync.Mutex
	calls int
	made  []string       // the calls since watch, each "call name"
	watch bool           // whether they are noted
	held  map[string]int // open files, by folder
	fail  func(n int, call, name string) error
	free  atomic.Int64 // bytes to report, 0: many
}

func (f *faultFS) call(call, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.watch {
		f.made = append(f.made, call+" "+filepath.Base(name))
	}
	if f.fail == nil {
		return nil
	}

	return f.fail(f.calls, call, filepath.Base(name))
}

func (f *faultFS) set(fail func(n int, call, name string) error) {
	f.mu.Lock()
	f.fail = fail
	f.mu.Unlock()
}

// note begins to note the calls that are made, anew.
func (f *faultFS) note() {
	f.mu.Lock()
	f.watch, f.made = true, nil
	f.mu.Unlock()
}

// noted returns the calls that were made since note.
func (f *faultFS) noted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Clone(f.made)
}

// hold counts an open file, or one that is closed.
func (f *faultFS) hold(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held == nil {
		f.held = map[string]int{}
	}
	f.held[filepath.Dir(name)] += n
}

// opened returns how many files of a folder are open.
func (f *faultFS) opened(dir string) int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.held[dir]
}

func (f *faultFS) Create(name string) (File, error) {
	if err := f.call("create", name); err != nil {
		return nil, err
	}
	file, err := f.OS.Create(name)
	if err != nil {
		return nil, err
	}
	f.hold(name, 1)

	return &faultFile{file, f, name}, nil
}

func (f *faultFS) Open(name string) (File, error) {
	if err := f.call("open", name); err != nil {
		return nil, err
	}
	file, err := f.OS.Open(name)
	if err != nil {
		return nil, err
	}
	f.hold(name, 1)

	return &faultFile{file, f, name}, nil
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.call("rename", from); err != nil {
		return err
	}

	return f.OS.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.call("remove", name); err != nil {
		return err
	}

	return f.OS.Remove(name)
}

func (f *faultFS) List(dir string) ([]os.FileInfo, error) {
	if err := f.call("list", dir); err != nil {
		return nil, err
	}

	return f.OS.List(dir)
}

func (f *faultFS) SyncDir(dir string) error {
	return f.call("syncdir", dir)
}

func (f *faultFS) Free(string) (uint64, error) {
	if n := f.free.Load(); n > 0 {
		return uint64(n), nil
	}

	return 1 << 40, nil
}

type faultFile struct {
	File
	fs   *faultFS
	name string
}

func (f *faultFile) Write(b []byte) (int, error) {
	if err := f.fs.call("write", f.name); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}

	return f.File.Write(b)
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.call("writeat", f.name); err != nil {
		n, _ := f.File.WriteAt(b[:min(20, len(b)/2)], off)
		return n, err
	}

	return f.File.WriteAt(b, off)
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.call("read", f.name); err != nil {
		return 0, err
	}

	return f.File.ReadAt(b, off)
}

func (f *faultFile) Close() error {
	err := f.File.Close()
	if err == nil {
		f.fs.hold(f.name, -1)
	}

	return err
}

func (f *faultFile) Sync() error {
	return f.fs.call("sync", f.name)
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.call("truncate", f.name); err != nil {
		return err
	}

	return f.File.Truncate(size)
}

func (f *faultFile) Allocate(offset, n int64) error {
	if err := f.fs.call("allocate", f.name); err != nil {
		return err
	}

	return f.File.Allocate(offset, n)
}

// next reads a record, which must come.
func next(t *testing.T, r *Reader) Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rec, err := r.Next(ctx)
	if err != nil {
		t.Fatalf("no record: %v", err)
	}

	return rec
}

func reader(t *testing.T, s *Spool) *Reader {
	t.Helper()
	r, err := s.Reader("r")
	if err != nil {
		t.Fatal(err)
	}

	return r
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i] = filepath.Base(list[i])
	}

	return list
}

// flip changes a bit of a file.
func flip(t *testing.T, name string, at int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// count reads a counter.
func count(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	metrics, err := reg.Gather()
	if err != nil || len(metrics) != 1 {
		t.Fatalf("%d metrics, %v", len(metrics), err)
	}

	return metrics[0].GetMetric()[0].GetCounter().GetValue()
}
