package report

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Limits on the directory of kept mail.
const (
	maxKeptFiles = 1000
	maxKeptBytes = 64 << 20
)

// keeper stores mail that was not understood, each in a file of its own. The oldest
// is removed if there is too much. File names begin with the time, so that they sort
// by age.
type keeper struct {
	dir      string
	maxFiles int
	maxBytes int64

	mu sync.Mutex
	n  int // makes names different that have the same time
}

// newKeeper returns a keeper and creates its directory.
func newKeeper(dir string) (*keeper, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	return &keeper{dir: dir, maxFiles: maxKeptFiles, maxBytes: maxKeptBytes}, nil
}

// add stores a mail.
func (k *keeper) add(msg []byte, now time.Time) error {
	if int64(len(msg)) > k.maxBytes {
		return fmt.Errorf("%d bytes are more than the directory may hold", len(msg))
	}

	k.mu.Lock()
	defer k.mu.Unlock()

	if err := k.room(int64(len(msg))); err != nil {
		return err
	}

	k.n++
	name := fmt.Sprintf("%s-%d-%06d.eml", now.UTC().Format("20060102T150405.000000"), os.Getpid(), k.n)

	return os.WriteFile(filepath.Join(k.dir, name), msg, 0o600)
}

// room removes the oldest files until there is room for one more of n bytes.
func (k *keeper) room(n int64) error {
	names, err := filepath.Glob(filepath.Join(k.dir, "*.eml"))
	if err != nil {
		return err
	}
	slices.Sort(names)

	sizes := make([]int64, len(names))
	total := n
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			sizes[i] = info.Size()
			total += sizes[i]
		}
	}

	for i := 0; i < len(names) && (total > k.maxBytes || len(names)-i >= k.maxFiles); i++ {
		if err := os.Remove(names[i]); err != nil {
			return err
		}
		total -= sizes[i]
	}

	return nil
}
