package gateway

import (
	"runtime/debug"
	"testing"

	"postern/cmd/postern/config"
)

func TestHeapBudget(t *testing.T) {
	for _, c := range []struct {
		memory, reports config.Size
		on              bool
		want            int64
	}{
		{100, 20, false, 100},
		{100, 20, true, 120},
		{0, 20, true, 0},
		{1, 0, true, 1},
		{0, 0, false, 0},
	} {
		conf := config.Default()
		conf.MemoryBudget = c.memory
		conf.Reports.MemoryBudget = c.reports
		if c.on {
			conf.Reports.FBLDomains = []string{"f.example"}
		}
		if got := HeapBudget(conf); got != c.want {
			t.Errorf("%+v: got %d, want %d", c, got, c.want)
		}
	}
}

func TestOwnersMemoryLimitComesFirst(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)

	t.Setenv("GOMEMLIMIT", "1GiB")
	BoundHeap(100)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("with GOMEMLIMIT: got %d, want %d as before", got, before)
	}
	t.Setenv("GOMEMLIMIT", "")
	BoundHeap(0)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("without a budget: got %d, want %d as before", got, before)
	}
	BoundHeap(1)
	if got, want := debug.SetMemoryLimit(-1), int64(1+256<<20); got != want {
		t.Errorf("got %d, want %d, the budget and 256 MiB", got, want)
	}
}
