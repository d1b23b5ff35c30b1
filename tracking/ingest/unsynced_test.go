package ingest

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"

	"postern/tracking/spool"
	"postern/tracking/spool/atomicfile"
)

// unsyncedFS is the machine's file system without its fsyncs, which take most
// of the time of tests that do not look at what a crash leaves.
type unsyncedFS struct{ spool.OS }

func (u unsyncedFS) Create(name string) (spool.File, error) {
	f, err := u.OS.Create(name)
	if err != nil {
		return nil, err
	}

	return unsyncedFile{f}, nil
}

func (u unsyncedFS) Open(name string) (spool.File, error) {
	f, err := u.OS.Open(name)
	if err != nil {
		return nil, err
	}

	return unsyncedFile{f}, nil
}

func (unsyncedFS) SyncDir(string) error { return nil }

type unsyncedFile struct{ spool.File }

func (unsyncedFile) Sync() error { return nil }

// unsyncedAppendFS is the same for the quarantine.
type unsyncedAppendFS struct{ atomicfile.OS }

func (u unsyncedAppendFS) OpenAppend(name string) (atomicfile.AppendFile, error) {
	f, err := u.OS.OpenAppend(name)
	if err != nil {
		return nil, err
	}

	return unsyncedAppendFile{f}, nil
}

func (unsyncedAppendFS) SyncDir(string) error { return nil }

type unsyncedAppendFile struct{ atomicfile.AppendFile }

func (unsyncedAppendFile) Sync() error { return nil }

// inBubble runs a subtest whose clock goes on when everything waits: back-offs
// of hours take no time.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()

	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// logged is a log that is written and read at once.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
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

func (l *logged) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.text.Reset()
}
