package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"postern/tracking/spool/atomicfile"
)

// quarantine keeps events that will never be taken, a file a day. It is safe
// for concurrent use.
type quarantine struct {
	dir   string
	files *atomicfile.Appender
	now   func() time.Time
}

// rejected is an event and why it is in quarantine.
type rejected struct {
	reason string // refused, expired, unreadable
	status int
	words  string
	line   []byte
}

// rejectedLine is a line of a quarantine file.
type rejectedLine struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Status int             `json:"status,omitempty"`
	Words  string          `json:"words"`
	Event  json.RawMessage `json:"event,omitempty"`
	Raw    string          `json:"raw,omitempty"` // where it is not JSON
}

func newQuarantine(dir string, fsys atomicfile.AppendFS, now func() time.Time) *quarantine {
	return &quarantine{
		dir:   dir,
		files: atomicfile.NewAppender(fsys),
		now:   now,
	}
}

// put makes events durable in today's file. After an error it may be called
// again with the same events.
func (q *quarantine) put(events ...rejected) error {
	var text bytes.Buffer

	now := q.now().UTC()
	for _, e := range events {
		l := rejectedLine{
			At:     now,
			Reason: e.reason,
			Status: e.status,
			Words:  e.words,
			Event:  slices.Clone(e.line),
		}
		if !json.Valid(e.line) {
			l.Event, l.Raw = nil, string(e.line)
		}

		b, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("ingest: quarantine: %w", err)
		}
		text.Write(b)
		text.WriteByte('\n')
	}

	name := filepath.Join(q.dir, now.Format(time.DateOnly)+".ndjson")
	if err := q.files.Append(name, text.Bytes()); err != nil {
		return fmt.Errorf("ingest: quarantine: %w", err)
	}

	return nil
}
