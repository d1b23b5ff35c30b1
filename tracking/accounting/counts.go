package accounting

// counts counts transient failures, in bounded memory: two generations, the
// older of which goes when the newer is full.
type counts struct {
	now, before map[string]int
	undo        []change // since begin
}

// change is what a key was before.
type change struct {
	key string
	n   int // 0: it was not there
}

const maxCounts = 200_000

func newCounts() *counts { return &counts{now: map[string]int{}} }

// begin ends what rollback would undo.
func (c *counts) begin() { c.undo = c.undo[:0] }

// rollback undoes what was counted since begin: those records are read again.
func (c *counts) rollback() {
	for i := len(c.undo) - 1; i >= 0; i-- {
		u := c.undo[i]
		delete(c.now, u.key)
		delete(c.before, u.key)
		if u.n > 0 {
			c.now[u.key] = u.n
		}
	}
}

// add counts one more and returns how many there were before.
func (c *counts) add(key string) int {
	n := c.take(key)
	if len(c.now) >= maxCounts {
		c.now, c.before = map[string]int{}, c.now
	}
	c.now[key] = n + 1

	return n
}

// take returns the count and forgets it.
func (c *counts) take(key string) int {
	n := c.now[key]
	if n == 0 {
		n = c.before[key]
	}
	delete(c.now, key)
	delete(c.before, key)
	c.undo = append(c.undo, change{key, n})

	return n
}
