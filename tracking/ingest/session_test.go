package ingest

import (
	"strings"
	"testing"
	"testing/synctest"

	"postern/tracking/event"
)

// TestUploadLeavesOutWhatIsLocal: what stands beside the API's object is ours.
func TestUploadLeavesOutWhatIsLocal(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		for _, hash := range []bool{false, true} {
			r := start(t, t.TempDir(), &sink{}, func(u *Config) { u.Filter.HashRecipients = hash },
				line(t, 1, func(e *event.Event) { e.Local.Session = "abc.1" }),
				line(t, 2, func(e *event.Event) { e.Local = event.Local{Session: "abc.1", User: "app"} }))
			r.settled(t)
			r.stop()

			lines := r.sink.lines()
			if len(lines) != 2 {
				t.Fatalf("hashed %v: %d lines uploaded, want 2", hash, len(lines))
			}
			for _, l := range lines {
				if _, err := event.Decode([]byte(l)); err != nil || strings.Contains(l, "postern") {
					t.Errorf("hashed %v: uploaded %s (%v), want nothing beside msys", hash, l, err)
				}
			}
		}
	})
}
