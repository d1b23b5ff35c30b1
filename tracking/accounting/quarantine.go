package accounting

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"

	"postern/tracking/event"
	"postern/tracking/spool/atomicfile"
)

const (
	maxQuarantine     = 64 << 20 // of bad.csv, in bytes; then it becomes bad.csv.old
	maxQuarantineLine = 4 << 10  // of a line in it, in bytes

	// quarantineTries is how many times in a row malformed lines hold up the rest
	// of a file because the quarantine cannot be written.
	quarantineTries = 5
)

// quarantine keeps lines that are not records in a file. It belongs to one
// goroutine.
type quarantine struct {
	name   string
	files  *atomicfile.Appender
	log    *slog.Logger
	failed int // times in a row
}

// malformed is a line of a file that is not a record.
type malformed struct {
	file string
	outcome
}

// put makes lines durable in the quarantine. If that fails, the block that they
// are in has to be read again; after quarantineTries failures in a row they are
// only logged, so that a file that cannot be written stops nothing for long.
func (q *quarantine) put(lines []malformed) error {
	if len(lines) == 0 {
		return nil
	}

	err := q.append(lines)
	if err == nil {
		q.failed = 0
	} else {
		q.failed++
	}
	if err != nil && q.failed < quarantineTries {
		return fmt.Errorf("accounting: quarantine: %w", err)
	}

	for _, l := range lines {
		args := []any{"file", l.file, "line", l.line, "offset", l.place, "err", l.err}
		if err != nil {
			args = append(args, "quarantine_err", err, "raw", event.Clip(string(l.raw), maxQuarantineLine))
		}
		q.log.Error("accounting: malformed record quarantined", args...)
	}

	return nil
}

// append writes lines, each behind a comment that says where it was and why it is
// in quarantine.
func (q *quarantine) append(lines []malformed) error {
	var text bytes.Buffer
	for _, l := range lines {
		raw := bytes.TrimRight(l.raw, "\r\n")
		fmt.Fprintf(&text, "# %s:%d: %v\n%s\n", l.file, l.line, l.err, raw[:min(len(raw), maxQuarantineLine)])
	}

	info, err := os.Stat(q.name)
	if err == nil && info.Size() > maxQuarantine {
		if err := os.Rename(q.name, q.name+".old"); err != nil {
			return err
		}
	}

	return q.files.Append(q.name, text.Bytes())
}
