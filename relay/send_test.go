package relay

import (
	"testing"
)

// TestCopiesInFlight: as many as are allowed, as there are, and as 64 MiB hold.
func TestCopiesInFlight(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ allowed, n, size, want int }{
		{8, 20, 1000, 8},
		{8, 8, 1000, 8},
		{8, 3, 1000, 3},
		{100, 100, mib - 1, 65},
		{100, 100, 16*mib - 1, 5},
		{100, 100, 64*mib - 1, 2},
		{100, 100, 64 * mib, 1},
		{100, 100, 1000 * mib, 1},
		{100, 100, 0, 100},
	} {
		if got := copiesInFlight(c.allowed, c.n, c.size); got != c.want {
			t.Errorf("%d allowed, %d copies of %d bytes: %d at once, want %d", c.allowed, c.n, c.size, got, c.want)
		}
	}
}

// TestBuffersAreNotLarge: what waits for the next copy is at most 1 MiB.
func TestBuffersAreNotLarge(t *testing.T) {
	for size, kept := range map[int]bool{1 << 20: true, 1<<20 + 1: false} {
		found := false
		for range 50 { // a pool may drop what it is given
			var p bufferPool
			p.put(&copyBuffer{b: make([]byte, size)})
			buf := p.get()
			if buf == nil {
				t.Fatal("no buffer")
			}
			found = found || cap(buf.b) == size
		}
		if found != kept {
			t.Errorf("buffer of %d bytes kept: %v, want %v", size, found, kept)
		}
	}
}
