package accounting

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"postern/tracking/event"
)

// badLine is a line that is not a record.
type badLine struct {
	file string
	outcome
}

const (
	maxBad     = 64 << 20 // of bad.csv; then it becomes bad.csv.old
	maxBadLine = 4 << 10  // of a line in it
	badTries   = 5        // times in a row that bad lines hold up the rest where they cannot be written
)

// quarantine makes bad lines durable in bad.csv. Where that fails, the block is
// read again; a file that cannot be written at all stops nothing for long.
func (f *Follower) quarantine(bad []badLine) error {
	if len(bad) == 0 {
		return nil
	}

	var text bytes.Buffer
	for _, b := range bad {
		raw := bytes.TrimRight(b.raw, "\r\n")
		fmt.Fprintf(&text, "# %s:%d: %v\n%s\n", b.file, b.line, b.err, raw[:min(len(raw), maxBadLine)])
	}

	err := f.appendBad(text.Bytes())
	if err != nil {
		f.badFailed++
		if f.badFailed < badTries {
			return fmt.Errorf("accounting: bad lines: %w", err)
		}
	} else {
		f.badFailed = 0
	}

	for _, b := range bad {
		args := []any{"file", b.file, "line", b.line, "offset", b.place, "err", b.err}
		if err != nil {
			args = append(args, "quarantine_err", err, "raw", event.Clip(string(b.raw), maxBadLine))
		}
		f.c.Log.Error("accounting: bad record quarantined", args...)
	}

	return nil
}

func (f *Follower) appendBad(text []byte) error {
	name := filepath.Join(f.c.Dir, "bad.csv")
	if info, err := os.Stat(name); err == nil && info.Size() > maxBad {
		if err := os.Rename(name, name+".old"); err != nil {
			return err
		}
	}

	return f.bad.Append(name, text)
}
