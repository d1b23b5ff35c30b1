package localsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// asDialer makes the test binary connect to the socket that it names, and exit.
const asDialer = "LOCALSOCKET_TEST_DIAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(asDialer); path != "" {
		if _, err := Dial(context.Background(), path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}

	goleak.VerifyTestMain(m)
}

// ownGroup returns the number of a group that the test may give files to.
func ownGroup() string { return strconv.Itoa(os.Getgid()) }

func TestListenHasModeAndRemovesItsFile(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("folder/", 20))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path string }{
		{"short path", filepath.Join(t.TempDir(), "a.sock")},
		{"path longer than an address", filepath.Join(long, "a.sock")},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Listen(c.path, ownGroup())
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Addr().String(); got != c.path {
				t.Errorf("got address %s, want %s", got, c.path)
			}
			info, err := os.Stat(c.path)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := info.Mode(), fs.ModeSocket|fs.FileMode(Mode); got != want {
				t.Errorf("got mode %v, want %v", got, want)
			}

			conn, err := Dial(t.Context(), c.path)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := Dial(t.Context(), c.path); !NobodyListens(err) {
				t.Errorf("after Close: got %v, want that nobody listens", err)
			}
		})
	}
}

func TestListenRefusesALiveSocketAndReplacesAStaleOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := Dial(t.Context(), path); !errors.Is(err, syscall.ECONNREFUSED) || !NobodyListens(err) {
		t.Fatalf("a stale socket: got %v, want ECONNREFUSED", err)
	}

	first, err := Listen(path, "")
	if err != nil {
		t.Fatalf("in place of a stale socket: %v", err)
	}
	defer first.Close()
	if _, err := Listen(path, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("beside a living one: got %v, want ErrInUse", err)
	}
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatalf("the first one no longer answers: %v", err)
	}
	conn.Close()
}

func TestListenKeepsWhatIsNotASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}

	_, err := Listen(path, "")
	if err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("got %v, want that it is not a socket", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "kept" {
		t.Errorf("got content %q, want it kept", got)
	}
}

func TestListenNamesAMissingGroup(t *testing.T) {
	dir := t.TempDir()
	_, err := Listen(filepath.Join(dir, "a.sock"), "no-such-group-here")
	if err == nil || !strings.Contains(err.Error(), "groupadd --system no-such-group-here") {
		t.Errorf("got %v, want how to make the group", err)
	}

	left, _ := filepath.Glob(filepath.Join(dir, "*.sock*"))
	if len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
		t.Errorf("got %v left behind, want the lock alone", left)
	}
}

func TestAdmitLetsAGroupPass(t *testing.T) {
	own := os.Getgid()
	for _, c := range []struct {
		name      string
		mode      os.FileMode
		want      os.FileMode
		otherGID  bool
		needsRoot bool
	}{
		{name: "private", mode: 0o700, want: 0o710},
		{name: "group may read already", mode: 0o750, want: 0o750},
		{name: "all may pass already", mode: 0o711, want: 0o711},
		{name: "another group passes", mode: 0o710, want: 0o711, otherGID: true, needsRoot: true},
		{name: "private, of another group", mode: 0o700, want: 0o710, otherGID: true, needsRoot: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.needsRoot && os.Getuid() != 0 {
				t.Skip("only root may give a folder to any group")
			}
			dir := filepath.Join(t.TempDir(), "state")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if c.otherGID {
				if err := os.Chown(dir, -1, own+4711); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, c.mode); err != nil {
				t.Fatal(err)
			}

			if err := Admit(dir, ownGroup()); err != nil {
				t.Fatal(err)
			}

			info, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != c.want {
				t.Errorf("got mode %o, want %o", got, c.want)
			}
		})
	}
}

// TestOthersCannotConnect connects as a user that is neither the owner nor in
// the group.
func TestOthersCannotConnect(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may become another user")
	}
	dir := t.TempDir()
	for d := dir; d != "/" && d != "/tmp"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dialer := filepath.Join(dir, "dialer") // which any user may run
	if err := os.WriteFile(dialer, self, 0o755); err != nil {
		t.Fatal(err)
	}

	const group = 4711
	path := filepath.Join(dir, "a.sock")
	l, err := Listen(path, strconv.Itoa(group))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	for _, c := range []struct {
		name string
		gid  uint32
		ok   bool
	}{
		{"a member of the group", group, true},
		{"anybody else", group + 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(dialer)
			cmd.Env = append(os.Environ(), asDialer+"="+path)
			cmd.Dir = dir
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: c.gid}}
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("got %v, want success %v\n%s", err, c.ok, out)
			}
		})
	}
}
