package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/tracking/spool"
)

// memoryDisk is a file system in memory. Its calls can fail, it can be full, it
// can lose power, and it counts open files. Only the lock of its directory is
// on the real disk.
type memoryDisk struct {
	dir string

	mu    sync.Mutex
	files map[string]*memoryFile // by path
	open  int                    // files that are not closed
	size  int64                  // of the disk; 0: large
	other int64                  // bytes that another program has

	calls int
	fail  func(n int, call, name string) error // asked before each call

	power  bool // keep what a power cut leaves
	synced map[string]*memoryFile
}

type memoryFile struct {
	data      []byte
	allocated int64  // behind the data too
	first     int64  // what was allocated first
	synced    []byte // the content that a power cut leaves
}

var errPower = errors.New("power is gone")

// newDisk returns an empty disk. The test fails if files are open at its end.
func newDisk(t testing.TB) *memoryDisk {
	t.Helper()
	d := &memoryDisk{
		dir:    t.TempDir(),
		files:  map[string]*memoryFile{},
		synced: map[string]*memoryFile{},
	}
	t.Cleanup(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.open != 0 {
			t.Errorf("%d files are still open", d.open)
		}
	})

	return d
}

// set makes calls fail from now on as fail decides; nil ends that.
func (d *memoryDisk) set(fail func(n int, call, name string) error) {
	d.mu.Lock()
	d.fail = fail
	d.mu.Unlock()
}

// names returns the sorted names of the files with a suffix.
func (d *memoryDisk) names(suffix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for path := range d.files {
		if strings.HasSuffix(path, suffix) {
			out = append(out, filepath.Base(path))
		}
	}
	slices.Sort(out)

	return out
}

// read returns the contents of a file.
func (d *memoryDisk) read(t *testing.T, name string) []byte {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[filepath.Join(d.dir, name)]
	if f == nil {
		t.Fatalf("no file %s", name)
	}

	return slices.Clone(f.data)
}

// write replaces a file.
func (d *memoryDisk) write(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[filepath.Join(d.dir, name)] = &memoryFile{data: data}
}

// cutPower leaves of each file what was synced and at most tail bytes more.
func (d *memoryDisk) cutPower(tail int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = map[string]*memoryFile{}
	for path, f := range d.synced {
		left := slices.Clone(f.synced)
		if tail > 0 { // and what was overwritten
			left = slices.Clone(f.data[:min(len(f.data), len(f.synced)+tail)])
		}
		d.files[path] = &memoryFile{data: left, synced: slices.Clone(left)}
	}
	d.synced = map[string]*memoryFile{}
	for path, f := range d.files {
		d.synced[path] = f
	}
	d.fail, d.calls = nil, 0
}

// call counts a call and returns the error with which it fails. d.mu must be
// held; it is released meanwhile.
func (d *memoryDisk) call(call, name string) error {
	d.calls++
	n, fail := d.calls, d.fail
	if fail == nil {
		return nil
	}

	d.mu.Unlock()
	defer d.mu.Lock()

	return fail(n, call, filepath.Base(name))
}

// free returns the free bytes. d.mu must be held.
func (d *memoryDisk) free() int64 {
	if d.size == 0 {
		return 1 << 40
	}
	used := d.other
	for _, f := range d.files {
		used += max(int64(len(f.data)), f.allocated)
	}

	return max(0, d.size-used)
}

// fill has another program use all free space.
func (d *memoryDisk) fill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.other += d.free()
}

// unfill frees what fill used.
func (d *memoryDisk) unfill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.other = 0
}

func (d *memoryDisk) Create(name string) (spool.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call("create", name); err != nil {
		return nil, err
	}
	if d.files[name] != nil {
		return nil, fs.ErrExist
	}
	d.files[name] = &memoryFile{}

	return d.handle(name), nil
}

func (d *memoryDisk) Open(name string) (spool.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call("open", name); err != nil {
		return nil, err
	}
	if d.files[name] == nil {
		return nil, fs.ErrNotExist
	}

	return d.handle(name), nil
}

func (d *memoryDisk) handle(name string) spool.File {
	d.open++
	return &memoryHandle{d: d, f: d.files[name], name: name}
}

func (d *memoryDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call("rename", from); err != nil {
		return err
	}
	if d.files[from] == nil {
		return fs.ErrNotExist
	}
	d.files[to] = d.files[from]
	delete(d.files, from)

	return nil
}

func (d *memoryDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call("remove", name); err != nil {
		return err
	}
	if d.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.files, name)
	delete(d.synced, name) // the worst case: it is gone at once

	return nil
}

type memoryInfo struct {
	fs.FileInfo
	name string
	size int64
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return i.size }
func (i memoryInfo) ModTime() time.Time { return time.Now() }
func (i memoryInfo) Mode() fs.FileMode  { return 0o600 }
func (i memoryInfo) Sys() any           { return nil }

func (d *memoryDisk) List(dir string) ([]os.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call("list", dir); err != nil {
		return nil, err
	}
	var out []os.FileInfo
	for path, f := range d.files {
		if filepath.Dir(path) == dir {
			out = append(out, memoryInfo{name: filepath.Base(path), size: int64(len(f.data))})
		}
	}
	slices.SortFunc(out, func(a, b os.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })

	return out, nil
}

func (d *memoryDisk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call("syncdir", dir); err != nil {
		return err
	}
	for path := range d.synced {
		if filepath.Dir(path) == dir {
			delete(d.synced, path)
		}
	}
	for path, f := range d.files {
		if filepath.Dir(path) == dir {
			d.synced[path] = f
		}
	}

	return nil
}

func (d *memoryDisk) Free(string) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	return uint64(d.free()), nil
}

type memoryHandle struct {
	d      *memoryDisk
	f      *memoryFile
	name   string
	closed bool
}

// extend returns how many of n bytes fit behind the data. d.mu must be held.
func (h *memoryHandle) extend(n int) int {
	allocated := max(0, h.f.allocated-int64(len(h.f.data)))

	return int(min(int64(n), allocated+h.d.free()))
}

func (h *memoryHandle) Write(b []byte) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	err := h.d.call("write", h.name)
	n := h.extend(len(b))
	switch {
	case err != nil:
		n = min(n, len(b)/2)
	case n < len(b):
		err = syscall.ENOSPC
	}
	h.f.data = append(h.f.data, b[:n]...)

	return n, err
}

func (h *memoryHandle) WriteAt(b []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.call("writeat", h.name); err != nil {
		return 0, err
	}
	for int64(len(h.f.data)) < off+int64(len(b)) {
		h.f.data = append(h.f.data, 0)
	}

	return copy(h.f.data[off:], b), nil
}

func (h *memoryHandle) ReadAt(b []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.call("read", h.name); err != nil {
		return 0, err
	}
	if off >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}

	return n, nil
}

func (h *memoryHandle) Sync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.call("sync", h.name); err != nil {
		return err
	}
	if h.d.power {
		h.f.synced = slices.Clone(h.f.data)
	}

	return nil
}

func (h *memoryHandle) Truncate(size int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.call("truncate", h.name); err != nil {
		return err
	}
	h.f.data = h.f.data[:size]
	h.f.synced = h.f.synced[:min(len(h.f.synced), int(size))]
	h.f.allocated = size

	return nil
}

func (h *memoryHandle) Allocate(offset, n int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.call("allocate", h.name); err != nil {
		return err
	}
	have := max(int64(len(h.f.data)), h.f.allocated)
	if offset+n-have > h.d.free() {
		return syscall.ENOSPC
	}
	h.f.allocated = max(have, offset+n)
	if h.f.first == 0 {
		h.f.first = h.f.allocated
	}

	return nil
}

func (h *memoryHandle) Close() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.closed {
		panic(fmt.Sprintf("%s is closed twice", h.name))
	}
	h.closed = true
	h.d.open--

	return nil
}

// full fails calls as a disk without free space does.
func full(_ int, call, _ string) error {
	switch call {
	case "create", "write", "allocate":
		return syscall.ENOSPC
	}

	return nil
}
