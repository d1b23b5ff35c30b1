package admin

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func TestReplayInChunks(t *testing.T) {
	for _, c := range []struct {
		lines, size int
		chunks      int
	}{
		{0, 0, 0},
		{1, 10, 1},
		{10, replayChunk / 2, 5},
		{3, replayChunk + 1, 3},
		{3, replayChunk/2 + 1, 3},
	} {
		t.Run(fmt.Sprintf("%d of %d bytes", c.lines, c.size), func(t *testing.T) {
			var lines [][]byte
			for i := range c.lines {
				lines = append(lines, bytes.Repeat([]byte{byte(i)}, c.size))
			}

			var got [][]byte
			chunks := 0
			n, err := InChunks(lines, func(chunk [][]byte) error {
				chunks++
				got = append(got, chunk...)
				return nil
			})
			if err != nil || n != c.lines || len(got) != c.lines || chunks != c.chunks {
				t.Errorf("%d of %d lines in %d chunks, %v; want %d chunks", n, c.lines, chunks, err, c.chunks)
			}
			for i := range got {
				if !bytes.Equal(got[i], lines[i]) {
					t.Errorf("line %d is another", i)
				}
			}
		})
	}

	full := errors.New("disk full")
	calls := 0
	n, err := InChunks([][]byte{make([]byte, replayChunk), make([]byte, replayChunk)}, func([][]byte) error {
		if calls++; calls > 1 {
			return full
		}
		return nil
	})
	if n != 1 || !errors.Is(err, full) {
		t.Errorf("%d lines, %v; want 1 and %v", n, err, full)
	}
}
