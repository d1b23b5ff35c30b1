package token

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAddKeyExtendsAnyFileThatReads(t *testing.T) {
	_, file := newKeys(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, before string
		id           byte
		keys         int
	}{
		{"one key", string(whole), 2, 2},
		{"no line end", strings.TrimSuffix(string(whole), "\n"), 2, 2},
		{"empty", "", 1, 1},
		{"comments alone", "# of ours", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token.keys")
			if err := os.WriteFile(file, []byte(c.before), 0o640); err != nil {
				t.Fatal(err)
			}

			id, err := AddKey(file, time.Now())
			if err != nil {
				t.Fatal(err)
			}

			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := ReadKeys(file)
			if err != nil {
				t.Fatal(err)
			}
			if id != c.id || len(keys.keys) != c.keys || keys.newest().id != id {
				t.Errorf("got key %d of %d, the newest %d, want %d of %d", id, len(keys.keys), keys.newest().id, c.id, c.keys)
			}
			if !strings.HasPrefix(string(got), c.before) {
				t.Errorf("got\n%s\nwant it to begin with\n%s", got, c.before)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("got %v, %v, want mode 640", info, err)
			}
		})
	}
}

func TestAddKeyRefusesWhatIsNoKeyFile(t *testing.T) {
	const pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\n"
	file := filepath.Join(t.TempDir(), "dkim.pem")
	if err := os.WriteFile(file, []byte(pem), 0o600); err != nil {
		t.Fatal(err)
	}

	_, err := AddKey(file, time.Now())

	if err == nil || !strings.Contains(err.Error(), file+":1: ") {
		t.Errorf("got %v, want an error with the file and its line", err)
	}
	if got, err := os.ReadFile(file); string(got) != pem {
		t.Errorf("got\n%s (%v)\nwant it unchanged", got, err)
	}
}

// TestAddKeyLosesNothing adds keys at the same time. The lock is one of open
// files, so that it holds between processes as it does here.
func TestAddKeyLosesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token.keys")
	const n = 8
	var mu sync.Mutex
	var wg sync.WaitGroup
	ids := map[byte]bool{}
	for range n {
		wg.Go(func() {
			id, err := AddKey(file, time.Now())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[id] = true
		})
	}
	wg.Wait()

	keys, err := ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != n || len(keys.keys) != n {
		t.Errorf("got %d ids and %d keys in the file, want %d of each", len(ids), len(keys.keys), n)
	}
}

func TestAddKeyKeepsLink(t *testing.T) {
	_, file := newKeys(t)
	link := filepath.Join(t.TempDir(), "token.keys")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}

	if _, err := AddKey(link, time.Now()); err != nil {
		t.Fatal(err)
	}

	if got, err := os.Readlink(link); got != file {
		t.Errorf("got a link to %q (%v), want %q", got, err, file)
	}
	keys, err := ReadKeys(file)
	if err != nil || len(keys.keys) != 2 {
		t.Errorf("got %v, want 2 keys where the link leads to", err)
	}
}
