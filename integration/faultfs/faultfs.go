// Package faultfs is a file system for the tests of what replaces files in one
// step: each call can fail, and the power can be lost.
//
// It is the machine's file system underneath, so that whoever reads the files
// by other means sees them too. It remembers what was fsynced: the bytes of a
// file as far as its fsync, its name as far as that of its folder.
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
	// Fail is asked before each call; n counts them from 1. A call that fails
	// does nothing, a write half of itself. It is set before the first call.
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

// Once fails the nth call.
func Once(nth int) func(int, string) error {
	return func(n int, _ string) error {
		if n == nth {
			return syscall.EIO
		}
		return nil
	}
}

// From fails the nth call and all behind it, as when the power is lost.
func From(nth int) func(int, string) error {
	return func(n int, _ string) error {
		if n >= nth {
			return syscall.EIO
		}
		return nil
	}
}

// Calls returns the calls that were made, each "call name".
func (f *FS) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Clone(f.calls)
}

// Open returns how many files are open.
func (f *FS) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.open
}

// A Loss says what the disk had written by itself when the power was lost,
// beyond what it was asked to.
type Loss int

// The losses, from the worst.
const (
	Unsynced  Loss = iota // nothing
	Names                 // the names, with the content that was fsynced
	Truncated             // the names, and half of the content
)

// Losses are all of them.
var Losses = []Loss{Unsynced, Names, Truncated}

// PowerLoss writes into the folder to what is left of the files of from.
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

// call notes a call; under mu.
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
