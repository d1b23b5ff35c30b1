package token

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/integration/faultfs"
)

// TestAddKeySurvivesFaults fails each call once, and from then on, which is a
// power cut, too: whatever the disk had written by itself, the keys that sealed
// links are there, and the one that Add returned.
func TestAddKeySurvivesFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(int) func(int, string) error
	}{{"once", faultfs.Once}, {"from then on", faultfs.From}} {
		for nth := 1; ; nth++ {
			old, file := newKeys(t)
			sealed := old.Seal(sample(old))
			dir := filepath.Dir(file)
			fsys, err := faultfs.New(dir)
			if err != nil {
				t.Fatal(err)
			}
			fsys.Fail = c.fail(nth)

			id, err := KeyFile{Path: file, FS: fsys}.Add(time.Now())
			if err != nil && (!errors.Is(err, syscall.EIO) || id != 0) {
				t.Errorf("call %d fails %s: got id %d, %v", nth, c.name, id, err)
			}
			if n := fsys.Open(); n != 0 {
				t.Errorf("call %d fails %s: %d files are open", nth, c.name, n)
			}
			if _, serr := os.Stat(file + ".new"); c.name == "once" && serr == nil {
				t.Errorf("call %d fails once: a copy of the keys is left", nth)
			}

			for _, loss := range faultfs.Losses {
				after := t.TempDir()
				if err := fsys.PowerLoss(dir, after, loss); err != nil {
					t.Fatal(err)
				}
				keys, rerr := ReadKeys(filepath.Join(after, filepath.Base(file)))
				if rerr != nil {
					t.Errorf("call %d fails %s, loss %d: %v", nth, c.name, loss, rerr)
					continue
				}
				if _, err := keys.Open(sealed); err != nil {
					t.Errorf("call %d fails %s, loss %d: an old token: %v", nth, c.name, loss, err)
				}
				if err == nil && keys.newest().id != id {
					t.Errorf("call %d fails %s, loss %d: the newest key is %d, want %d", nth, c.name, loss, keys.newest().id, id)
				}
			}
			if err := addsAgain(file); err != nil {
				t.Errorf("call %d fails %s: and again: %v", nth, c.name, err)
			}
			if len(fsys.Calls()) < nth {
				if nth < 8 {
					t.Errorf("only %d calls", nth-1)
				}
				break
			}
		}
	}
}

func addsAgain(file string) error {
	if _, err := AddKey(file, time.Now()); err != nil {
		return err
	}
	_, err := ReadKeys(file)

	return err
}

// TestFirstKeyIsDurable, with its name.
func TestFirstKeyIsDurable(t *testing.T) {
	dir := t.TempDir()
	fsys, err := faultfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "token.keys")
	id, err := KeyFile{Path: file, FS: fsys}.Add(time.Date(2026, 3, 1, 0, 30, 0, 0, time.FixedZone("", 3600)))
	if err != nil || id != 1 {
		t.Fatalf("got key %d, %v, want 1", id, err)
	}
	after := t.TempDir()
	if err := fsys.PowerLoss(dir, after, faultfs.Unsynced); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(after, "token.keys"))
	if err != nil || !strings.HasPrefix(string(data), keyFileHead+"1 2026-02-28 ") {
		t.Errorf("got %q, %v, want the head and a key of the day in UTC", data, err)
	}
	if _, err := ReadKeys(filepath.Join(after, "token.keys")); err != nil {
		t.Error(err)
	}
}

func TestAddKeyFailures(t *testing.T) {
	dir := t.TempDir()
	if _, err := AddKey(filepath.Join(dir, "missing", "token.keys"), time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: got %v", err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := AddKey(folder, time.Now()); !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), "read keys") {
		t.Errorf("a file that cannot be read: got %v", err)
	}
	if _, err := ReadKeys(folder); !errors.Is(err, syscall.EISDIR) || !strings.HasPrefix(err.Error(), "token: read keys: ") {
		t.Errorf("read: got %v", err)
	}
}

// TestAddKeyTellsOwnerLost passes on whose file it was.
func TestAddKeyTellsOwnerLost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give a file away")
	}
	_, file := newKeys(t)
	if err := os.Chown(file, 1234, 2345); err != nil {
		t.Fatal(err)
	}
	if _, err := (KeyFile{Path: file, OwnerLost: func(int, int, error) { t.Error("lost") }}).Add(time.Now()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 1234 || st.Gid != 2345 {
		t.Errorf("the file is %d:%d's, want 1234:2345", st.Uid, st.Gid)
	}
}

// keyLines are lines of a key file.
func keyLines(ids ...int) (text string) {
	for _, id := range ids {
		raw := bytes.Repeat([]byte{byte(id)}, 64)
		text += fmt.Sprintf("%d 2026-01-01 %s\n", id, base64.StdEncoding.EncodeToString(raw))
	}

	return text
}

// TestAddKeyFindsAnID that no key has, behind the newest's.
func TestAddKeyFindsAnID(t *testing.T) {
	all := make([]int, 255)
	for i := range all {
		all[i] = i + 1
	}
	for _, c := range []struct {
		name string
		ids  []int
		want byte // 0: none is free
	}{
		{"the next", []int{1, 2}, 3},
		{"behind the newest, not the highest", []int{9, 2}, 3},
		{"past one that is taken", []int{4, 3}, 5},
		{"the last", all[:254], 255},
		{"around", []int{255}, 1},
		{"around, past one that is taken", []int{1, 255}, 2},
		{"the one that is left", append(slices.Clone(all[:99]), all[100:]...), 100},
		{"none", all, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token.keys")
			if err := os.WriteFile(file, []byte(keyLines(c.ids...)), 0o600); err != nil {
				t.Fatal(err)
			}
			id, err := AddKey(file, time.Now())
			if id != c.want || (err == nil) != (c.want != 0) {
				t.Errorf("got key %d, %v, want %d", id, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), file+":1: the file holds 255 keys") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestKeyFileLines: what is a key line and what is said of one that is none, by
// file and line.
func TestKeyFileLines(t *testing.T) {
	good := keyLines(1)
	key := strings.Fields(good)[2]
	for _, c := range []struct{ name, text, want string }{
		{"spaces around", " \t" + strings.ReplaceAll(strings.TrimSpace(good), " ", "  ") + " \r\n", ""},
		{"comments and empty lines", "#x\n\n  # y\n" + good, ""},
		{"no line end", strings.TrimSpace(good), ""},
		{"two fields", "1 2026-01-01", ":1: a key line has three fields"},
		{"four fields", "1 2026-01-01 " + key + " x", ":1: a key line has three fields"},
		{"id of letters", good + "x 2026-01-01 " + key, ":2: the key id is a number from 1 to 255"},
		{"id 256", "256 2026-01-01 " + key, ":1: the key id is a number from 1 to 255"},
		{"id 0", "0 2026-01-01 " + key, ":1: the key id is a number from 1 to 255"},
		{"id 255", "255 2026-01-01 " + key, ""},
		{"not base64", "1 2026-01-01 ?" + key[1:], ":1: the key is 64 bytes"},
		{"base64 of 63 bytes", "1 2026-01-01 " + base64.StdEncoding.EncodeToString(make([]byte, 63)), ":1: the key is 64 bytes"},
		{"base64 of 65 bytes", "1 2026-01-01 " + base64.StdEncoding.EncodeToString(make([]byte, 65)), ":1: the key is 64 bytes"},
		{"twice", good + "# c\n" + good, ":3: key id 1 appears twice"},
		{"a line that does not end", strings.Repeat("x", 1<<17), ":1: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			k, err := ReadKeys(file)
			if c.want == "" && (err != nil || len(k.keys) != 1) {
				t.Errorf("got %v, want one key", err)
			}
			if c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "token: "+file+c.want)) {
				t.Errorf("got %v, want %s%s", err, file, c.want)
			}
			if data, id, err := appendKey([]byte(c.text), time.Now()); err != nil && (id != 0 || data != nil) {
				t.Errorf("got key %d and %d bytes with %v", id, len(data), err)
			}
			before := c.text
			if _, err := AddKey(file, time.Now()); (err == nil) != (c.want == "") {
				t.Errorf("a key more: got %v", err)
			}
			if after, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(after), before) || c.want != "" && string(after) != before {
				t.Errorf("the file was changed to %q, %v", after, err)
			}
		})
	}
}

// TestKeysAreDrawn: no two are the same, and each line is as it is written down.
func TestKeysAreDrawn(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var data []byte
	seen := map[string]bool{}
	for i := range 5 {
		var id byte
		var err error
		data, id, err = appendKey(data, at)
		if err != nil || int(id) != i+1 {
			t.Fatalf("got key %d, %v, want %d", id, err, i+1)
		}
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		f := strings.Split(line, " ")
		if len(f) != 3 || f[0] != fmt.Sprint(i+1) || f[1] != "2026-01-02" || seen[f[2]] {
			t.Errorf("line %d is %q", i+1, line)
		}
		seen[f[2]] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d keys, want 5", len(seen))
	}
}

func TestExtends(t *testing.T) {
	parse := func(ids ...int) *Keys {
		k, err := parseKeys([]byte(keyLines(ids...)))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, c := range []struct {
		name     string
		old, now *Keys
		id       int
		want     bool
	}{
		{"one more", parse(1), parse(1, 2), 2, true},
		{"the first", nil, parse(7), 7, true},
		{"another is the newest", parse(1), parse(2, 1), 2, false},
		{"none more", parse(1, 2), parse(1, 2), 2, false},
		{"two more", parse(1), parse(1, 3, 2), 2, false},
		{"two at first", nil, parse(1, 2), 2, false},
	} {
		if got := c.now.extends(c.old, c.id); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
