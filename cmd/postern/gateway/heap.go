package gateway

import (
	"os"
	"runtime/debug"

	"postern/cmd/postern/config"
)

// besidesMessages is room for what is not a message in flight: thousands of idle
// sessions, the key sets, batches of events, the runtime itself.
const besidesMessages = 256 << 20

// BoundHeap has the collector run before garbage grows the process past what
// memory_budget speaks of; without it large messages leave as much garbage as
// they take. The operator's own GOMEMLIMIT comes first. 0 is no limit.
func BoundHeap(budget int64) {
	if budget > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(budget + besidesMessages)
	}
}

// HeapBudget is the memory of all messages in flight; 0 is no limit.
func HeapBudget(c *config.Config) int64 {
	total := int64(c.MemoryBudget)
	if total > 0 && c.Reports.On() {
		total += int64(c.Reports.MemoryBudget)
	}

	return total
}
