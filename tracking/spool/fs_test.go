package spool

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// descriptors counts the descriptors that the process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}

	return len(list)
}

// keepsDescriptors fails a test in which f leaves descriptors open.
func keepsDescriptors(t *testing.T, f func()) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close them
	f()
	before := descriptors(t)
	for range 20 {
		f()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

// TestOSSyncDirAsksTheKernel: the file systems of the kernel's own tables refuse
// fsync, so that its error tells that it was made.
func TestOSSyncDirAsksTheKernel(t *testing.T) {
	if err := (OS{}).SyncDir("/proc"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("/proc: got %v, want what fsync answers there, EINVAL", err)
	}
	if err := (OS{}).SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: got %v", err)
	}

	dir := t.TempDir()
	keepsDescriptors(t, func() {
		if err := (OS{}).SyncDir(dir); err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestOSFileAsksTheKernel(t *testing.T) {
	f, err := (OS{}).Open("/proc/self/comm") // a regular file that can neither be synced nor allocated
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("fsync: got %v, want EINVAL", err)
	}
	if err := f.Allocate(0, 1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("fallocate: got %v, want ErrUnsupported", err)
	}
}

func TestOSCreate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	f, err := (OS{}).Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := (OS{}).Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("once more: got %v, want ErrExist", err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}

	for _, text := range []string{"abc", "def"} {
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(1); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "a" {
		t.Errorf("got %q, %v, want a", got, err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "ax" {
		t.Errorf("after a truncation got %q, %v, want ax without a hole", got, err)
	}
}

func TestOSOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if _, err := (OS{}).Open(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: got %v", err)
	}
	if err := os.WriteFile(name, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}

	f, err := (OS{}).Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("X"), 1); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "aXc" {
		t.Errorf("got %q, %v, want aXc", got, err)
	}
}

// TestOSAllocateKeepsTheSize: what is allocated takes room, and the file is not
// longer for it.
func TestOSAllocateKeepsTheSize(t *testing.T) {
	const room = 1 << 20
	name := filepath.Join(t.TempDir(), "file")
	f, err := (OS{}).Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !allocates(t, filepath.Dir(name)) {
		t.Skip("the file system allocates nothing ahead")
	}

	if err := f.Allocate(0, room); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 0 || st.Blocks*512 < room {
		t.Errorf("got %d bytes in %d allocated, want 0 in %d and more", st.Size, st.Blocks*512, room)
	}
}

// allocates reports whether a folder's file system can allocate room ahead.
func allocates(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.CreateTemp(dir, "allocates")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const keepTheSize = 1 // FALLOC_FL_KEEP_SIZE
	err = syscall.Fallocate(int(f.Fd()), keepTheSize, 0, 4096)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}

	return err == nil
}

func TestOSList(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}

	infos, err := (OS{}).List(dir)
	var names []string
	for _, i := range infos {
		names = append(names, i.Name())
	}
	if want := []string{"a", "b", "c"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %v, %v, want %v", names, err, want)
	}
	if _, err := (OS{}).List(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: got %v", err)
	}
}

func TestOSFree(t *testing.T) {
	dir := t.TempDir()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	want := float64(st.Bavail) * float64(st.Bsize)
	got, err := (OS{}).Free(dir)
	if err != nil || float64(got) < want/2 || float64(got) > want*2 {
		t.Errorf("got %d, %v, want about %.0f", got, err, want)
	}
	if _, err := (OS{}).Free(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: got %v", err)
	}
}

func TestOSRenameAndRemove(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(a, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (OS{}).Rename(a, b); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v, want x", got, err)
	}
	if err := (OS{}).Rename(a, b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename of what is missing: got %v", err)
	}
	if err := (OS{}).Remove(b); err != nil {
		t.Fatal(err)
	}
	if err := (OS{}).Remove(b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove of what is missing: got %v", err)
	}
}

// TestFoldersOfTheSpoolAreDurable: each folder that was made, and one that a
// previous run may have made just before it ended.
func TestFoldersOfTheSpoolAreDurable(t *testing.T) {
	base := t.TempDir()
	for _, c := range []struct {
		name, dir string
		want      []string
	}{
		{"three are missing", "a/b/c", []string{".", "a", "a/b"}},
		{"one is missing", "d", []string{"."}},
		{"none is missing", "d", []string{"."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var synced []string
			fsys := &syncedFS{names: &synced}
			dir := filepath.Join(base, c.dir)
			if err := makeDir(fsys, dir); err != nil {
				t.Fatal(err)
			}
			for i, name := range synced {
				synced[i], _ = filepath.Rel(base, name)
			}
			slices.Sort(synced)
			if !slices.Equal(synced, c.want) {
				t.Errorf("synced %v, want %v", synced, c.want)
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("got %v, %v, want mode 0700", info, err)
			}
		})
	}
}

// TestOpenFailsWhereTheFolderCannotBeDurable, since nothing in it would be; a
// moment's failure is none.
func TestOpenFailsWhereTheFolderCannotBeDurable(t *testing.T) {
	for _, c := range []struct {
		name  string
		times int
		ok    bool
	}{{"for a moment", len(briefPauses), true}, {"for good", len(briefPauses) + 1, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no pause takes its time
				cfg := config(filepath.Join(t.TempDir(), "new"))
				n := 0
				cfg.FS = &faultFS{fail: func(_ int, call, _ string) error {
					if call != "syncdir" {
						return nil
					}
					if n++; n > c.times {
						return nil
					}
					return syscall.EIO
				}}
				s, err := Open(cfg)
				if (err == nil) != c.ok || err != nil && !errors.Is(err, syscall.EIO) {
					t.Errorf("got %v, want it open: %v", err, c.ok)
				}
				if err == nil {
					s.Close()
				}
			})
		})
	}
}

func TestOpenFails(t *testing.T) {
	t.Run("where a file stands in the way", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(config(filepath.Join(file, "spool"))); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("got %v, want ENOTDIR", err)
		}
	})
	t.Run("where the lock cannot be opened", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "lock"), 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := Open(config(dir))
		if !errors.Is(err, syscall.EISDIR) || errors.Is(err, ErrLocked) {
			t.Errorf("got %v, want EISDIR", err)
		}
	})
	t.Run("where another has it, which goes on", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, config(dir))
		keepsDescriptors(t, func() {
			_, err := Open(config(dir))
			if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want ErrLocked and the folder", err)
			}
		})
		put(t, s, "a")
	})
}

// TestOpenThatFailsLeavesNothing open or locked, and shows no metrics: it can be
// tried again.
func TestOpenThatFailsLeavesNothing(t *testing.T) {
	for _, c := range []struct{ name, call, file string }{
		{"the folder cannot be listed", "list", ""},
		{"the second cursor cannot be read", "read", "cursor-second"},
		{"the second cursor cannot be opened", "open", "cursor-second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no pause takes its time
				fsys := &faultFS{}
				cfg := config(t.TempDir())
				cfg.FS, cfg.Metrics = fsys, prometheus.NewRegistry()
				cfg.Readers = []string{"first", "second"}
				open(t, cfg).Close()
				cfg.Metrics = prometheus.NewRegistry()

				fsys.set(func(_ int, call, name string) error {
					if call == c.call && strings.Contains(name, c.file) {
						return syscall.EIO
					}
					return nil
				})
				tries := fsys.calls
				if _, err := Open(cfg); !errors.Is(err, syscall.EIO) {
					t.Fatalf("got %v, want EIO", err)
				}
				if n := fsys.opened(cfg.Dir); n != 0 {
					t.Errorf("%d files are open", n)
				}
				if tries = fsys.calls - tries; tries < len(briefPauses)+1 {
					t.Errorf("%d calls, want it tried %d times", tries, len(briefPauses)+1)
				}

				fsys.set(nil)
				open(t, cfg)
			})
		})
	}
}

func TestPatiently(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		fails int // so often
		tries int
		ok    bool
	}{
		{"at once", syscall.EMFILE, 0, 1, true},
		{"after a moment", syscall.EMFILE, 1, 2, true},
		{"at last", syscall.EMFILE, 4, 5, true},
		{"never", syscall.EMFILE, 100, 5, false},
		{"missing", fs.ErrNotExist, 100, 1, false},
		{"full", syscall.ENOSPC, 100, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, tries := time.Now(), 0
				err := retryBriefly(func() error {
					if tries++; tries > c.fails {
						return nil
					}
					return c.err
				})
				if (err == nil) != c.ok || err != nil && !errors.Is(err, c.err) || tries != c.tries {
					t.Errorf("got %v after %d tries, want ok %v after %d", err, tries, c.ok, c.tries)
				}
				want := 10 * time.Millisecond * (1<<(tries-1) - 1) // each pause twice the one before
				if took := time.Since(began); took != want {
					t.Errorf("took %s, want %s", took, want)
				}
			})
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	var c Config
	c.setDefaults()
	if c.SegmentBytes != 16<<20 || c.SegmentAge != time.Minute || c.FS != (OS{}) || c.Name != "spool" {
		t.Errorf("got %d bytes, %s, %T, %q", c.SegmentBytes, c.SegmentAge, c.FS, c.Name)
	}

	fsys := &faultFS{}
	c = Config{SegmentBytes: 1, SegmentAge: 2, FS: fsys, Name: "x"}
	c.setDefaults()
	if c.SegmentBytes != 1 || c.SegmentAge != 2 || c.FS != FS(fsys) || c.Name != "x" {
		t.Errorf("what was set became %d bytes, %s, %T, %q", c.SegmentBytes, c.SegmentAge, c.FS, c.Name)
	}
}

// TestMetrics holds the names and what they count.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.Metrics, c.Name, c.FS = reg, "queue", fsys
	s := open(t, c)
	put(t, s, "a", "bc")

	got := map[string]float64{}
	gather := func() {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if f.GetHelp() == "" {
				t.Errorf("%s has no help", f.GetName())
			}
		}
	}
	gather()
	want := map[string]float64{
		"postern_queue_records_total":             2,
		"postern_queue_syncs_total":               2,
		"postern_queue_sacrificed_segments_total": 0,
		"postern_queue_corrupt_records_total":     0,
		"postern_queue_refused_records_total":     0,
		"postern_queue_read_errors_total":         0,
		"postern_queue_gone_segments_total":       0,
		"postern_queue_quarantined_total":         0,
		"postern_queue_bytes":                     2*lineExtra + 3,
		"postern_queue_full":                      0,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	fsys.free.Store(1)
	gather()
	if got["postern_queue_full"] != 1 {
		t.Error("a full disk is not shown")
	}
}

// goneEntry is an entry of a folder about which nothing can be told.
type goneEntry struct {
	os.DirEntry
	err error
}

func (g goneEntry) Info() (os.FileInfo, error) { return nil, g.err }

// TestFilesThatGoWhileTheyAreListed are left out; any other error is told, or a
// segment would be.
func TestFilesThatGoWhileTheyAreListed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	infos, err := regularFiles([]os.DirEntry{goneEntry{err: fs.ErrNotExist}, entries[0]})
	if err != nil || len(infos) != 1 || infos[0].Name() != "a" {
		t.Errorf("got %v, %v, want a", infos, err)
	}
	if infos, err := regularFiles([]os.DirEntry{entries[0], goneEntry{err: syscall.EIO}}); !errors.Is(err, syscall.EIO) || infos != nil {
		t.Errorf("got %v, %v, want EIO", infos, err)
	}
}
