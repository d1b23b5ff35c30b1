package accounting

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/tracking/spool/atomicfile"
)

var errDisk = errors.New("input/output error")

// disk is the machine's file system without its fsyncs, with calls that fail
// and a power that can be cut: then only what was synced is left, the bytes of
// a file as far as its fsync, its name as far as that of its folder.
type disk struct {
	mu    sync.Mutex
	calls int
	fail  func(n int) bool // nil: none
	which string           // the call that failed first
	open  int              // descriptors

	keeps   bool             // what power leaves
	files   map[string]*node // by the names that the process sees
	durable map[string]*node // by the names that survive
}

type node struct{ synced []byte }

// once fails one call, from fails it and all behind it, during some of them.
func once(at int) func(int) bool          { return func(n int) bool { return n == at } }
func from(at int) func(int) bool          { return func(n int) bool { return n >= at } }
func during(at, times int) func(int) bool { return func(n int) bool { return n >= at && n < at+times } }

// powerless is a disk whose power is cut at a call.
func powerless(at int) *disk {
	return &disk{
		fail:    from(at),
		keeps:   true,
		files:   map[string]*node{},
		durable: map[string]*node{},
	}
}

func (d *disk) call(what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.calls++
	if d.fail == nil || !d.fail(d.calls) {
		return nil
	}
	if d.which == "" {
		d.which = what
	}

	return errDisk
}

// held fails the test where a descriptor is still open.
func (d *disk) held(t *testing.T) {
	t.Helper()

	if d.open != 0 {
		t.Errorf("call %q fails: %d files are open at the end", d.which, d.open)
	}
}

// left puts the folders into the state that the power's loss leaves, with so
// many bytes of what was not synced.
func (d *disk) left(t *testing.T, tail int) {
	t.Helper()

	unsynced := map[*node][]byte{}
	for name, n := range d.files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		unsynced[n] = b[min(len(b), len(n.synced)):]
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range d.durable {
		more := unsynced[n][:min(tail, len(unsynced[n]))]
		if err := os.WriteFile(name, append(n.synced[:len(n.synced):len(n.synced)], more...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// note tells how the names changed; it holds the lock.
func (d *disk) note(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.keeps {
		change()
	}
}

func (d *disk) opened(f diskInner, name string) *diskFile {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.open++
	out := &diskFile{diskInner: f, d: d}
	if d.keeps {
		if d.files[name] == nil {
			d.files[name] = &node{}
		}
		out.node = d.files[name]
	}

	return out
}

func (d *disk) MkdirAll(dir string) error {
	if err := d.call("mkdir"); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o700)
}

func (d *disk) CreateTemp(dir, pattern string) (PipeFile, error) {
	if err := d.call("create"); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	return d.opened(f, f.Name()), nil
}

func (d *disk) Create(name string) (atomicfile.File, error) {
	if err := d.call("create"); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return d.opened(f, name), nil
}

func (d *disk) OpenAppend(name string) (atomicfile.AppendFile, error) {
	if err := d.call("open"); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return d.opened(f, name), nil
}

func (d *disk) Rename(from, to string) error {
	if err := d.call("rename"); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if err == nil {
		d.note(func() {
			d.files[to] = d.files[from]
			delete(d.files, from)
		})
	}
	return err
}

// Remove is durable at once: the worst case.
func (d *disk) Remove(name string) error {
	if err := d.call("remove"); err != nil {
		return err
	}
	err := os.Remove(name)
	if err == nil {
		d.note(func() {
			delete(d.files, name)
			delete(d.durable, name)
		})
	}
	return err
}

func (d *disk) SyncDir(dir string) error {
	if err := d.call("sync folder"); err != nil {
		return err
	}
	d.note(func() {
		for name := range d.durable {
			if filepath.Dir(name) == dir {
				delete(d.durable, name)
			}
		}
		for name, n := range d.files {
			if filepath.Dir(name) == dir {
				d.durable[name] = n
			}
		}
	})
	return nil
}

type diskInner = *os.File

type diskFile struct {
	diskInner
	d    *disk
	node *node
}

func (f *diskFile) Write(b []byte) (int, error) {
	if err := f.d.call("write"); err != nil {
		n, _ := f.diskInner.Write(b[:len(b)/2])
		return n, err
	}
	return f.diskInner.Write(b)
}

func (f *diskFile) Sync() error {
	if err := f.d.call("sync"); err != nil {
		return err
	}
	if f.node == nil {
		return nil
	}

	b, err := os.ReadFile(f.now())
	f.d.note(func() { f.node.synced = b })
	return err
}

// now is the name that the file has now.
func (f *diskFile) now() string {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()

	for name, n := range f.d.files {
		if n == f.node {
			return name
		}
	}
	return f.Name()
}

func (f *diskFile) Truncate(size int64) error {
	if err := f.d.call("truncate"); err != nil {
		return err
	}
	f.d.note(func() { f.node.synced = f.node.synced[:min(len(f.node.synced), int(size))] })
	return f.diskInner.Truncate(size)
}

func (f *diskFile) Chmod(mode os.FileMode) error {
	if err := f.d.call("chmod"); err != nil {
		return err
	}
	return f.diskInner.Chmod(mode)
}

func (f *diskFile) Lock() error {
	if err := f.d.call("lock"); err != nil {
		return err
	}
	return flock(f.diskInner)
}

func (f *diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Close closes the file, whatever it says.
func (f *diskFile) Close() error {
	f.d.mu.Lock()
	f.d.open--
	f.d.mu.Unlock()

	return errors.Join(f.d.call("close"), f.diskInner.Close())
}

// unfinished are the names of files in a folder that are not yet what they are to
// become.
func unfinished(t *testing.T, dir string) []string {
	t.Helper()

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".new") {
			out = append(out, e.Name())
		}
	}

	return out
}

// logged keeps a log that is written from other goroutines.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.String()
}

// newBad is what bad lines are kept with on a disk.
func newQuarantine(d *disk) *atomicfile.Appender { return atomicfile.NewAppender(d) }
