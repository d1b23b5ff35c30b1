package accounting

import (
	"context"
	"errors"
	"io"
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

// peers are the two ends of a Unix socket.
func peers(t *testing.T) (gateway, pipe *net.UnixConn) {
	t.Helper()

	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		g.Close()
	})

	return g.(*net.UnixConn), c.(*net.UnixConn)
}

// TestReceiveFromAStrangeGateway: one that is silent, ends, refuses at length,
// or sends something else than a file.
func TestReceiveFromAStrangeGateway(t *testing.T) {
	files := func(n int) []byte {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		fds := make([]int, n)
		for i := range fds {
			fds[i] = int(f.Fd())
		}
		return syscall.UnixRights(fds...)
	}
	for _, c := range []struct {
		name string
		act  func(*net.UnixConn)
		want string
	}{
		{"silent", func(*net.UnixConn) {}, "i/o timeout"},
		{"gone", func(g *net.UnixConn) { g.Close() }, "EOF"},
		{"refuses", func(g *net.UnixConn) { g.Write([]byte("no space")) }, "the gateway has no file for records: no space"},
		{"sends credentials", func(g *net.UnixConn) {
			g.WriteMsgUnix([]byte("\n"), syscall.UnixCredentials(&syscall.Ucred{Pid: int32(os.Getpid()), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}), nil)
		}, ""},
		{"sends two files", func(g *net.UnixConn) { g.WriteMsgUnix([]byte("\n"), files(2), nil) }, "something other than a file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gateway, pipe := peers(t)
			c.act(gateway)
			before := len(openIn(t, "/dev"))
			defer func() {
				if after := len(openIn(t, "/dev")); after != before {
					t.Errorf("%d descriptors were received and stay open", after-before)
				}
			}()
			f, err := receive(pipe, 50*time.Millisecond)
			if err == nil {
				f.Close()
				t.Fatal("got a file")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}

	gateway, pipe := peers(t)
	gateway.Write([]byte(strings.Repeat("x", 2000)))
	if _, err := receive(pipe, time.Second); err == nil || strings.Count(err.Error(), "x") != 1000 {
		t.Errorf("a long refusal: got %v, want 1000 bytes of it", err)
	}
	pipe.Close()
	if _, err := receive(pipe, time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed socket: got %v", err)
	}
}

// TestReceivedFileIsNotInherited by what the process starts.
func TestReceivedFileIsNotInherited(t *testing.T) {
	gateway, pipe := peers(t)
	dir := t.TempDir()
	if err := handOver(gateway, dir); err != nil {
		t.Fatal(err)
	}
	if got := openIn(t, dir); len(got) > 1 {
		t.Errorf("the gateway has %v open still", got)
	}
	f, err := Receive(pipe)
	if err != nil {
		t.Fatal(err)
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_GETFD, 0)
	if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
		t.Errorf("got flags %x, %v, want close-on-exec", flags, errno)
	}
	f.Close()
	if got := openIn(t, dir); len(got) != 0 {
		t.Errorf("%v is open at the end", got)
	}
}

// deadlined is a connection that keeps its deadline and takes nothing.
type deadlined struct {
	net.Conn
	err  error
	till time.Time
}

func (d *deadlined) SetDeadline(till time.Time) error {
	d.till = till
	return d.err
}

func TestHandOverToSomethingElse(t *testing.T) {
	dir := t.TempDir()
	c := &deadlined{}
	if err := handOver(c, dir); err == nil || !strings.Contains(err.Error(), "is not a Unix socket") {
		t.Errorf("got %v, want what it is", err)
	}
	if left := time.Until(c.till); left < 9*time.Second || left > 10*time.Second {
		t.Errorf("it has %s, want 10s", left)
	}
	if err := handOver(&deadlined{err: errDisk}, dir); !errors.Is(err, errDisk) {
		t.Errorf("no deadline: got %v", err)
	}

	gateway, pipe := peers(t)
	pipe.Close()
	if err := handOver(gateway, dir); err == nil || !strings.Contains(err.Error(), "pipe-") {
		t.Errorf("a process that went away: got %v, want the file's name in it", err)
	}
	gateway, _ = peers(t)
	gateway.CloseWrite()
	if err := handOver(gateway, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) ||
		!errors.Is(err, syscall.EPIPE) {
		t.Errorf("no folder, and a process that hears nothing: got %v, want both", err)
	}
	if got := openIn(t, dir); len(got) != 0 {
		t.Errorf("%v is open at the end", got)
	}
}

// flaky is a listener whose first connections fail.
type flaky struct {
	net.Listener
	errs   []error
	closed int
}

func (f *flaky) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return f.Listener.Accept()
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func (f *flaky) Close() error {
	f.closed++
	return f.Listener.Close()
}

// TestHandOverGoesOn while sockets fail, and ends where its own is closed.
func TestHandOverGoesOn(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	appendTo(t, file, "x")
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}

	l := &flaky{Listener: listen("a")}
	if err := HandOver(t.Context(), l, filepath.Join(file, "pipe"), silent); err == nil ||
		!strings.HasPrefix(err.Error(), "accounting: mkdir") {
		t.Errorf("no folder: got %v", err)
	}
	if l.closed == 0 {
		t.Error("no folder: the socket is open at the end")
	}

	l = &flaky{Listener: listen("b"), errs: []error{net.ErrClosed}}
	if err := HandOver(t.Context(), l, dir, silent); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed by another: got %v", err)
	}

	var log logged
	l = &flaky{Listener: listen("c"), errs: []error{syscall.EMFILE}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- HandOver(ctx, l, filepath.Join(dir, "pipe"), textLog(&log)) }()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Receive(c)
	if err != nil {
		t.Fatalf("after an error: %v", err)
	}
	f.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the gateway to close the connection", err)
	}
	c.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("at its end: got %v", err)
	}
	if !strings.Contains(log.String(), syscall.EMFILE.Error()) {
		t.Errorf("no word of the error: %s", log.String())
	}
	info, err := os.Stat(filepath.Join(dir, "pipe"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want a folder of mode 0700", info, err)
	}
}

// atTheEnd is a listener that has one more connection when its context ends.
type atTheEnd struct {
	net.Listener
	end  context.CancelFunc
	conn net.Conn
}

func (a *atTheEnd) Accept() (net.Conn, error) {
	a.end()
	return a.conn, nil
}

// TestHandOverAtItsEnd closes the connection that came too late.
func TestHandOverAtItsEnd(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	if err := HandOver(ctx, &atTheEnd{l, cancel, ours}, dir, silent); err != nil {
		t.Error(err)
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the connection closed", err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("made %v for it", names)
	}
}

// TestDropFolderIsOthers: what stands in it as a link is not followed, by
// whatever name the folder goes; a file of ours may be a link.
func TestDropFolderIsOthers(t *testing.T) {
	drop, own := t.TempDir(), t.TempDir()
	appendTo(t, filepath.Join(own, "target"), header+clean(1))
	for _, dir := range []string{drop, own} {
		if err := os.Symlink(filepath.Join(own, "target"), filepath.Join(dir, "pipe-link.csv")); err != nil {
			t.Fatal(err)
		}
	}
	appendTo(t, filepath.Join(drop, "pipe-file.csv"), header+clean(2))
	m := &memory{}
	f, err := New(Config{Dir: t.TempDir(), DropDir: drop + "/", PipeDir: own, Events: m, Log: silent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.closeAll)
	for _, c := range []struct {
		name string
		want error
	}{
		{filepath.Join(drop, "pipe-link.csv"), os.ErrNotExist},
		{filepath.Join(drop, "none"), os.ErrNotExist},
		{filepath.Join(drop, "pipe-file.csv"), nil},
		{filepath.Join(own, "pipe-link.csv"), nil},
		{drop, nil}, // a folder, but not in it
	} {
		file, err := f.openFound(c.name, os.O_RDONLY)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err == nil {
			file.Close()
		}
	}
	if err := os.Mkdir(filepath.Join(drop, "pipe-folder.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := f.openFound(filepath.Join(drop, "pipe-folder.csv"), os.O_RDONLY); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder in it: got %v", err)
	}
	if _, err := f.openFound(filepath.Join(drop, "pipe-file.csv", "x"), os.O_RDONLY); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("another error: got %v, want it", err)
	}
	if got := openIn(t, drop); len(got) != 0 {
		t.Errorf("%v is open", got)
	}
}
