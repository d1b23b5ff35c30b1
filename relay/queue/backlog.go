package queue

import "time"

// Backlog returns since when the oldest of the copies waits, the zero time where
// none does, and the bytes of the messages that wait.
func (q *Queue) Backlog() (oldest time.Time, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()

	for _, e := range q.entries {
		if len(e.copies) == 0 {
			continue
		}
		if oldest.IsZero() || e.created.Before(oldest) {
			oldest = e.created
		}
		bytes += int64(e.size)
	}

	return oldest, bytes
}
