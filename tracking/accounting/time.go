package accounting

import (
	"fmt"
	"strconv"
	"time"
)

// clock parses the times of a column. It remembers the last one, for records that
// follow each other often have the same.
type clock struct {
	text string
	time time.Time
}

// read is parseTime with a memory.
func (c *clock) read(text string) (time.Time, error) {
	if c.text == text && text != "" {
		return c.time, nil
	}

	t, err := parseTime(text)
	if err == nil {
		c.text = text
		c.time = t
	}

	return t, err
}

// endOfTime is the year 10000 in Unix seconds. Larger numbers are not seconds.
const endOfTime = 253402300800

// parseTime parses `YYYY-MM-DD HH:MM:SS+ZZZZ` or Unix seconds.
func parseTime(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 && n < endOfTime {
		return time.Unix(n, 0), nil
	}

	for _, layout := range []string{"2006-01-02 15:04:05-0700", "2006-01-02 15:04:05-07:00"} {
		if t, err := time.Parse(layout, s); err == nil && t.Unix() > 0 {
			return t, nil
		}
	}

	return time.Time{}, fmt.Errorf("%w: %.40q", ErrTime, s)
}
