// Package faultfs is a file system for tests of code that replaces files
// atomically: each call can fail, and the power can be lost.
//
// Files are stored in the file system of the machine, where other code can read
// them. A power cut leaves what was fsynced: the bytes of a file up to its fsync,
// and its name up to the fsync of its directory.
package faultfs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"postern/tracking/spool/atomicfile"
)

// FS implements atomicfile.FS.
type FS struct {
	// Fail is called before each call; n counts calls from 1. A call that fails
	// does nothing, but a write writes half of its bytes. It must be set before
	// the first call.
	Fail func(n int, call string) error

	mu     sync.Mutex
	calls  []string
	open   int
	names  map[string]*node // as a process sees them
	synced map[string]*node // those that survive a power cut
}

// node is the content of a file.
type node struct{ data, synced []byte }

// New returns a file system in which the files of dir are durable.
func New(dir string) (*FS, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}

	names := map[string]*node{}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		names[name] = &node{data: data, synced: data}
	}

	return &FS{names: names, synced: maps.Clone(names)}, nil
}

// Once returns a Fail that fails the nth call.
func Once(nth int) func(int, string) error {
	return func(n int, _ string) error {
		if n == nth {
			return syscall.EIO
		}
		return nil
	}
}

// From returns a Fail that fails the nth call and all later ones, as when the power
// is lost.
func From(nth int) func(int, string) error {
	return func(n int, _ string) error {
		if n >= nth {
			return syscall.EIO
		}
		return nil
	}
}

// Calls returns the calls that were made, in the form "call name".
func (f *FS) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Clone(f.calls)
}

// Open returns the number of open files.
func (f *FS) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.open
}

// Loss says what the disk had written of its own accord when the power was lost,
// in addition to what was fsynced.
type Loss int

// The losses, the worst first.
const (
	Unsynced  Loss = iota // nothing
	Names                 // the names, with the contents that were fsynced
	Truncated             // the names, with half of the contents
)

// Losses are all losses.
var Losses = []Loss{Unsynced, Names, Truncated}

// PowerLoss writes what is left of the files of directory from to directory to.
func (f *FS) PowerLoss(from, to string, loss Loss) error {
	f.mu.Lock()
	defer f.mu.Unlock()

	names := f.synced
	if loss != Unsynced {
		names = f.names
	}
	for name, n := range names {
		if filepath.Dir(name) != from {
			continue
		}
		data := n.synced
		if loss == Truncated && len(n.synced) < len(n.data) {
			data = n.data[:max(len(n.synced), len(n.data)/2)]
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(name)), data, 0o600); err != nil {
			return err
		}
	}

	return nil
}

// call records a call, and returns the error with which it fails. f.mu must be held.
func (f *FS) call(call, name string) error {
	f.calls = append(f.calls, call+" "+filepath.Base(name))
	if f.Fail == nil {
		return nil
	}

	return f.Fail(len(f.calls), call)
}

// Create implements atomicfile.FS.
func (f *FS) Create(name string) (atomicfile.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("create", name); err != nil {
		return nil, err
	}

	under, err := atomicfile.OS{}.Create(name)
	if err != nil {
		return nil, err
	}
	n := &node{}
	f.names[name] = n
	f.open++

	return &file{File: under, fs: f, node: n, name: name}, nil
}

// Rename implements atomicfile.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("rename", from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	f.names[to] = f.names[from]
	delete(f.names, from)

	return nil
}

// Remove implements atomicfile.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("remove", name); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil {
		return err
	}
	delete(f.names, name)

	return nil
}

// SyncDir implements atomicfile.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("syncdir", dir); err != nil {
		return err
	}
	f.synced = maps.Clone(f.names)

	return nil
}

type file struct {
	atomicfile.File
	fs   *FS
	node *node
	name string
}

func (f *file) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.call("write", f.name)
	if err != nil {
		b = b[:len(b)/2]
	}
	f.node.data = append(f.node.data, b...)
	n, werr := f.File.Write(b)
	if err == nil {
		err = werr
	}

	return n, err
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.call("sync", f.name); err != nil {
		return err
	}
	f.node.synced = slices.Clone(f.node.data)

	return nil
}

// Close closes the file, even where the call fails, as Linux does.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.call("close", f.name)
	if cerr := f.File.Close(); cerr == nil {
		f.fs.open--
	}

	return err
}
