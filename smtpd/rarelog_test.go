package smtpd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestRareLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	r := newRareLog(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	for range 5 {
		r.log(slog.LevelWarn, "too many", "n", 1)
	}
	r.log(slog.LevelWarn, "something else")
	now = now.Add(rareEvery)
	r.log(slog.LevelWarn, "too many", "n", 2)

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	wants := []string{`msg="too many" n=1`, `msg="something else"`, `msg="too many" n=2 more_since_last_line=4`}
	if len(lines) != len(wants) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(wants), &out)
	}
	for i, want := range wants {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %d: %s, want %s", i, lines[i], want)
		}
	}
}
