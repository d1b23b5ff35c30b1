package web

import (
	"hash/maphash"
	"sync"
	"time"
)

// flood lets one event a second through for each link or pixel: somebody who
// fetches one of them over and over is served, and makes no more of it.
type flood struct {
	mu     sync.Mutex
	second int64
	seed   maphash.Seed
	seen   map[uint64]struct{}
}

// maxFlood bounds what is remembered of one second; beyond it all pass.
const maxFlood = 1 << 20

func (f *flood) repeated(path string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := now.Unix(); s != f.second || f.seen == nil {
		if f.seen == nil {
			f.seed = maphash.MakeSeed()
		}
		f.second, f.seen = s, map[uint64]struct{}{}
	}
	key := maphash.String(f.seed, path)
	if _, ok := f.seen[key]; ok {
		return true
	}
	if len(f.seen) < maxFlood {
		f.seen[key] = struct{}{}
	}
	return false
}
