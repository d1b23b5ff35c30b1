package report

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Bounds on the folder of kept reports.
const (
	maxKeptFiles = 1000
	maxKeptBytes = 64 << 20
)

// keeper holds mail that was not understood, one .eml file each, the oldest
// going where there is too much. A name begins with the time, so that names
// sort by age.
type keeper struct {
	dir      string
	maxFiles int
	maxBytes int64

	mu sync.Mutex
	n  int // of this process, to part names of one instant
}

func newKeeper(dir string) (*keeper, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	return &keeper{dir: dir, maxFiles: maxKeptFiles, maxBytes: maxKeptBytes}, nil
}

func (k *keeper) add(msg []byte, now time.Time) error {
	if int64(len(msg)) > k.maxBytes {
		return fmt.Errorf("%d bytes are more than the folder may hold", len(msg))
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

// room makes place for n more bytes and one more file.
func (k *keeper) room(n int64) error {
	names, err := filepath.Glob(filepath.Join(k.dir, "*.eml"))
	if err != nil {
		return err
	}
	slices.Sort(names)

	sizes, total := make([]int64, len(names)), n
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
