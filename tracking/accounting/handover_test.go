package accounting

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// handing serves HandOver on a socket, and returns what asks it for a file.
func handing(t *testing.T, dir string) (ask func() (*os.File, error), stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "pipe.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- HandOver(ctx, l, dir, silent) }()

	ask = func() (*os.File, error) {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return Receive(c)
	}
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}

	return ask, stop
}

func TestHandedFileOutlivesTheGateway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pipe")
	ask, stop := handing(t, dir)
	f, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := ask(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a gateway: got %v, want fs.ErrNotExist", err)
	}

	if _, err := f.WriteString("a record\n"); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, pipeGlob))
	if len(files) != 1 {
		t.Fatalf("got files %v, want one", files)
	}
	if got, _ := os.ReadFile(files[0]); string(got) != "a record\n" {
		t.Errorf("got %q, want what was written", got)
	}

	// The lock lives as long as the writer has the file open, and no longer.
	other, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	lock := func() error { return syscall.Flock(int(other.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	if err := lock(); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("while the writer lives: got %v, want EWOULDBLOCK", err)
	}
	f.Close()
	if err := lock(); err != nil {
		t.Errorf("after the writer: got %v, want nil", err)
	}
}

func TestReceiveTellsWhyThereIsNoFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pipe")
	ask, stop := handing(t, dir)
	defer stop()
	f, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}

	_, err = ask()
	if err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("got %v, want the gateway's reason", err)
	}
}

// TestPipeTakesWhatIsThere: the gateway's file is used while there is one, and
// the folder where there is none; each record makes one event.
func TestPipeTakesWhatIsThere(t *testing.T) {
	gateway, drop := filepath.Join(t.TempDir(), "pipe"), filepath.Join(t.TempDir(), "drop")
	ask, stop := handing(t, gateway)

	for _, c := range []struct {
		name            string
		handed, dropped int
	}{
		{"a gateway", 1, 0},
		{"no gateway", 1, 1},
	} {
		to := PipeTarget{Gateway: ask, Dir: drop}
		if err := Pipe(t.Context(), strings.NewReader(header+delivered), to, silent); err != nil {
			t.Fatal(err)
		}
		handed, _ := filepath.Glob(filepath.Join(gateway, pipeGlob))
		dropped, _ := filepath.Glob(filepath.Join(drop, pipeGlob))
		if len(handed) != c.handed || len(dropped) != c.dropped {
			t.Errorf("%s: got %d files handed over and %d in the folder, want %d and %d",
				c.name, len(handed), len(dropped), c.handed, c.dropped)
		}
		if c.dropped == 0 {
			stop()
		}
	}
}

func TestPipeKeepsItsFileWhileThereIsNoOther(t *testing.T) {
	first, err := os.Create(filepath.Join(t.TempDir(), "first"))
	if err != nil {
		t.Fatal(err)
	}
	files := []*os.File{first}
	p := newPipe(PipeTarget{Gateway: func() (*os.File, error) {
		if len(files) == 0 {
			return nil, errors.New("no gateway")
		}
		f := files[0]
		files = nil
		return f, nil
	}}, silent)
	defer p.close()

	if err := p.put([]byte(header)); err != nil {
		t.Fatal(err)
	}
	p.size = maxPipeBytes + 1
	if err := p.put([]byte(delivered)); err != nil {
		t.Fatalf("with a full file and no other: %v", err)
	}

	if got, _ := os.ReadFile(first.Name()); string(got) != header+delivered {
		t.Errorf("got %q, want both in the file before", got)
	}
}

// TestDropFolderIsNotFollowed: what others put into the folder may be a link to
// a file that they may not read.
func TestDropFolderIsNotFollowed(t *testing.T) {
	drop := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(drop, "pipe-link.csv")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(drop, "pipe-fifo.csv"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f, err := New(Config{Dir: dir, DropDir: drop, Log: silent, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer f.closeAll()

	if err := f.Poll(t.Context()); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bad.csv")); err == nil {
		t.Error("the linked file was read")
	}
	if len(f.offsets) != 0 {
		t.Errorf("got %d files remembered, want none", len(f.offsets))
	}
}

func TestFilesOfASharedFolderAreItsGroups(t *testing.T) {
	for _, c := range []struct {
		name      string
		dir, want os.FileMode
	}{
		{"private", 0o700, 0o600},
		{"shared", os.ModeSetgid | 0o770, 0o660},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, c.dir); err != nil {
				t.Fatal(err)
			}
			f, err := createPipeFile(osPipes{}, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()

			info, err := os.Stat(strings.TrimSuffix(f.Name(), pending))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != c.want {
				t.Errorf("got mode %o, want %o", got, c.want)
			}
		})
	}
}
