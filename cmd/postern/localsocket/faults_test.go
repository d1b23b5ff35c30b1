package localsocket

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// descriptors returns the number of open file descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// TestFailuresHoldNothing checks that no descriptor stays open, and no lock
// held, if a socket cannot be opened or reached.
func TestFailuresHoldNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, path string) error
	}{
		{"a group that is missing", func(_ *testing.T, path string) error {
			_, err := Listen(path, "no-such-group-here")
			return err
		}},
		{"another process listens", func(t *testing.T, path string) error {
			l, err := Listen(path, "")
			if err != nil {
				t.Fatal(err)
			}
			_, err = Listen(path, "")
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			return err
		}},
		{"a folder where the next one is made", func(t *testing.T, path string) error {
			mkdir(t, path+".new/x")
			_, err := Listen(path, "")
			if err := os.RemoveAll(path + ".new"); err != nil {
				t.Fatal(err)
			}
			return err
		}},
		{"a folder in place of the lock", func(t *testing.T, path string) error {
			mkdir(t, path+".lock")
			_, err := Listen(path, "")
			if err := os.Remove(path + ".lock"); err != nil {
				t.Fatal(err)
			}
			return err
		}},
		{"nobody listens", func(t *testing.T, path string) error {
			_, err := Dial(t.Context(), path)
			return err
		}},
		{"no folder", func(t *testing.T, path string) error {
			_, err := Listen(filepath.Join(filepath.Dir(path), "nowhere", "a.sock"), "")
			_, dialErr := Dial(t.Context(), filepath.Join(filepath.Dir(path), "nowhere", "a.sock"))
			if !NobodyListens(dialErr) {
				t.Errorf("got %v, want that nobody listens", dialErr)
			}
			return err
		}},
		{"a call that was given up", func(_ *testing.T, path string) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_, err := Dial(ctx, path)
			return err
		}},
	} {
		for _, below := range []string{"short", strings.Repeat("folder/", 20)} {
			t.Run(c.name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), below, "a.sock")
				mkdir(t, filepath.Dir(path))
				before := descriptors(t)
				for range 3 {
					if err := c.do(t, path); err == nil {
						t.Fatal("got no error")
					}
				}
				if got := descriptors(t); got != before {
					t.Errorf("got %d descriptors open, want the %d of before", got, before)
				}

				l, err := Listen(path, "")
				if err != nil {
					t.Fatalf("after it: %v", err)
				}
				conn, err := Dial(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(conn.Close(), l.Close()); err != nil {
					t.Error(err)
				}
				if got := descriptors(t); got != before {
					t.Errorf("in the end: got %d descriptors open, want the %d of before", got, before)
				}
			})
		}
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestCloseIsDoneOnce checks that a second Close does nothing, and returns the
// same error.
func TestCloseIsDoneOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want the file removed", err)
	}

	second, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("a second Close removed another one's socket: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := second.Close(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want that the file was gone", err)
		}
	}
}

// TestAStaleNextOneIsReplaced checks that NAME.new, which a process leaves if
// it is killed before the rename, is replaced.
func TestAStaleNextOneIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := os.Lstat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no .new left", err)
	}
}

// TestTheLockIsNotFollowed checks that the lock is not opened through a
// symbolic link, which could lead to another file.
func TestTheLockIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	target := filepath.Join(dir, "target")
	if err := os.Symlink(target, path+".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, ""); !errors.Is(err, syscall.ELOOP) || !strings.HasPrefix(err.Error(), path+": ") {
		t.Errorf("got %v, want that the link is not followed", err)
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("the file that the link leads to was made")
	}
}

// TestTheLockIsPrivate checks the mode of the lock.
func TestTheLockIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path + ".lock")
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want mode 600", info, err)
	}
}

// TestPathsOfEveryLength checks paths around the longest that fits into an
// address.
func TestPathsOfEveryLength(t *testing.T) {
	const dir = "/tmp" // nothing is made there
	for n := 106; n <= 108; n++ {
		path := filepath.Join(dir, strings.Repeat("x", n-len(dir)-1))
		a, release, err := address(path)
		if err != nil {
			t.Fatal(err)
		}
		if short := a.Name != path; short != (n > 107) || a.Net != "unix" {
			t.Errorf("%d bytes: got %s %s, want the path itself up to 107", n, a.Net, a.Name)
		}
		release()
	}
	if _, _, err := address(filepath.Join(dir, "nowhere", strings.Repeat("x", 120))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v, want that there is none", err)
	}
}

func TestGroupsByNameAndNumber(t *testing.T) {
	for group, want := range map[string]int{"root": 0, "0": 0, "4711": 4711} {
		if got, err := GroupID(group); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", group, got, err, want)
		}
	}
	for _, group := range []string{"", "-1", "no-such-group-here", "4711x"} {
		if got, err := GroupID(group); err == nil {
			t.Errorf("%q: got %d, want an error", group, got)
		}
	}
}

// TestGiveAndAdmitSayWhatFailed checks the errors.
func TestGiveAndAdmitSayWhatFailed(t *testing.T) {
	dir := t.TempDir()
	nowhere := filepath.Join(dir, "nowhere")
	if err := Give(nowhere, ownGroup()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "cannot give "+nowhere+" to group "+ownGroup()) {
		t.Errorf("give: got %v, want that there is none", err)
	}
	if err := Give(dir, "no-such-group-here"); err == nil {
		t.Error("give to a group that is missing: got no error")
	}
	if err := Admit(nowhere, ownGroup()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("admit: got %v, want that there is none", err)
	}
	if err := Admit(dir, "no-such-group-here"); err == nil {
		t.Error("admit a group that is missing: got no error")
	}
}

func TestNobodyListens(t *testing.T) {
	for err, want := range map[error]bool{
		fs.ErrNotExist: true, syscall.ECONNREFUSED: true, fs.ErrPermission: false, context.Canceled: false, ErrInUse: false,
	} {
		if got := NobodyListens(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}

// TestAdmitGivesAPrivateFolderToTheGroup checks that the directory gets the
// group, without which its mode would be of no use.
func TestAdmitGivesAPrivateFolderToTheGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give a folder to any group")
	}
	for _, c := range []struct {
		mode, want os.FileMode
		gid        int // before; the group is 4711
		wantGID    int
	}{
		{0o700, 0o710, 0, 4711},
		{0o700, 0o710, 4711, 4711},
		{0o740, 0o750, 4711, 4711},
		{0o750, 0o751, 0, 0},
		{0o740, 0o741, 0, 0},
		{0o710, 0o710, 4711, 4711},
		{0o701, 0o701, 0, 0},
	} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chown(dir, -1, c.gid), os.Chmod(dir, c.mode)); err != nil {
			t.Fatal(err)
		}
		if err := Admit(dir, "4711"); err != nil {
			t.Fatal(err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		if got := os.FileMode(st.Mode & 0o777); got != c.want || int(st.Gid) != c.wantGID {
			t.Errorf("mode %o of group %d: got %o of %d, want %o of %d", c.mode, c.gid, got, st.Gid, c.want, c.wantGID)
		}
	}
}
