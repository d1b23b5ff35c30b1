package dsn

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"postern/relay/envelope"
)

var errNoRoom = errors.New("no room")

// limited is a writer with room for some bytes.
type limited struct{ room int }

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.room)
	l.room -= n
	if n < len(b) {
		return n, errNoRoom
	}

	return n, nil
}

func report() *Report {
	return &Report{
		To: envelope.Address{Local: "sender", Domain: "example.com"},
		Failed: []Recipient{{
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "r", Domain: "example.net"}},
			Reply:     "550 5.1.1 no such \x01user",
		}},
	}
}

func options() Options {
	return Options{
		ID:       "id",
		Hostname: "mail.example.com",
		Date:     time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
	}
}

// TestWriteReportsFailures: wherever the room ends, the notification is not
// taken for written.
func TestWriteReportsFailures(t *testing.T) {
	var whole bytes.Buffer
	if err := newWriter(report(), options()).write(&whole); err != nil {
		t.Fatal(err)
	}

	for room := range whole.Len() {
		if err := newWriter(report(), options()).write(&limited{room}); !errors.Is(err, errNoRoom) {
			t.Fatalf("room for %d of %d bytes: got %v, want %v", room, whole.Len(), err, errNoRoom)
		}
	}
	if err := newWriter(report(), options()).write(&limited{whole.Len()}); err != nil {
		t.Errorf("room for all: %v", err)
	}
}

func TestEncodeLeavesTheReport(t *testing.T) {
	r := report()
	if _, err := r.Encode(options()); err != nil {
		t.Fatal(err)
	}

	if want := report().Failed[0].Reply; r.Failed[0].Reply != want {
		t.Errorf("got the reply %q, want it as it was, %q", r.Failed[0].Reply, want)
	}
}
