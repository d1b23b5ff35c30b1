package atomicfile_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"postern/integration/faultfs"
	"postern/tracking/spool/atomicfile"
)

// replaceUnder replaces a file's content on a file system with faults.
func replaceUnder(t *testing.T, fail func(int, string) error) (dir string, fsys *faultfs.FS, err error) {
	t.Helper()
	dir = t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte("old content"), 0o600); err != nil {
		t.Fatal(err)
	}
	fsys, err = faultfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	fsys.Fail = fail

	return dir, fsys, atomicfile.Write(name, []byte("new content"), atomicfile.Options{FS: fsys})
}

// writeCalls are those of one Write, in their order: the content before its
// name, the name before the success.
var writeCalls = []string{"remove file.new", "create file.new", "write file.new", "sync file.new", "close file.new", "rename file.new"}

func TestWriteMakesContentDurableBeforeItsName(t *testing.T) {
	dir, fsys, err := replaceUnder(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(writeCalls), "syncdir "+filepath.Base(dir))
	if got := fsys.Calls(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

// TestWriteSurvivesFaults fails each call once, and from then on; the latter is
// a power cut, too, after which the disk may have written more than it was
// asked to.
func TestWriteSurvivesFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(int) func(int, string) error
	}{{"once", faultfs.Once}, {"from then on", faultfs.From}} {
		for nth := 1; nth <= len(writeCalls)+2; nth++ {
			dir, fsys, err := replaceUnder(t, c.fail(nth))
			if failed := nth <= len(writeCalls)+1; (err != nil) != failed {
				t.Errorf("call %d fails %s: got %v", nth, c.name, err)
			}
			if n := fsys.Open(); n != 0 {
				t.Errorf("call %d fails %s: %d files are open", nth, c.name, n)
			}
			if _, serr := os.Stat(filepath.Join(dir, "file.new")); c.name == "once" && serr == nil {
				t.Errorf("call %d fails once: file.new is left", nth)
			}

			for _, loss := range faultfs.Losses {
				after := t.TempDir()
				if err := fsys.PowerLoss(dir, after, loss); err != nil {
					t.Fatal(err)
				}
				got, rerr := os.ReadFile(filepath.Join(after, "file"))
				if s := string(got); rerr != nil || s != "new content" && (s != "old content" || err == nil) {
					t.Errorf("call %d fails %s, loss %d: got %q, %v after Write returned %v", nth, c.name, loss, got, rerr, err)
				}
			}
		}
	}
}

func TestWriteOfANewFileSurvivesAPowerCut(t *testing.T) {
	dir := t.TempDir()
	fsys, err := faultfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "file"), []byte("new"), atomicfile.Options{FS: fsys}); err != nil {
		t.Fatal(err)
	}
	after := t.TempDir()
	if err := fsys.PowerLoss(dir, after, faultfs.Unsynced); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(after, "file")); err != nil || string(got) != "new" {
		t.Errorf("got %q, %v, want new", got, err)
	}
}
