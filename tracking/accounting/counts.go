package accounting

// counts counts transient failures in bounded memory: in two generations, the
// older of which is forgotten when the newer is full.
type counts struct {
	now    map[string]int
	before map[string]int
	undo   []change // since begin
}

// change is the count of a key before a change.
type change struct {
	key string
	n   int // 0 if there was none
}

// maxCounts is how many keys a generation has at most.
const maxCounts = 200_000

// newCounts returns counts without any key.
func newCounts() *counts { return &counts{now: map[string]int{}} }

// begin makes rollback undo only what follows.
func (c *counts) begin() { c.undo = c.undo[:0] }

// rollback undoes all changes since begin, for records that will be read again.
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

// add increments the count of a key and returns what it was before.
func (c *counts) add(key string) int {
	n := c.take(key)
	if len(c.now) >= maxCounts {
		c.before = c.now
		c.now = map[string]int{}
	}
	c.now[key] = n + 1

	return n
}

// take returns the count of a key and removes it.
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
