package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"regexp"
	"testing"

	"postern/cmd/postern/gateway"
	"postern/tracking/spool"
)

// TestEventsBatchesShowsFailures reads what a gateway left that was killed.
func TestEventsBatchesShowsFailures(t *testing.T) {
	const (
		planned = `{"batch":1,"at":"2026-11-24T10:00:00Z","from":{},"to":{"Segment":1,"Offset":90},"sum":7,"events":3,"raw":80,"status":"planned"}`
		failed  = `{"failure":{"batch":1,"tries":2,"error":"HTTP 503: away"}}`
	)

	for _, c := range []struct {
		name    string
		records []string
		want    string
	}{
		{"planned", []string{planned}, `(?m)^1 .* planned +3 +0 +80 +0 +0 +$`},
		{"failing", []string{planned, failed}, `(?m)^1 .* failing +3 +0 +80 +0 +2 +HTTP 503: away$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "", "")
			s, err := spool.Open(spool.Config{
				Dir: filepath.Join(gateway.EventsDir(loadConfig(t, file).Config), "ledger"),
				Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range c.records {
				if err := s.Append(context.Background(), []byte(r)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			code, stdout, stderr := execute(t, "", "events", "batches", "--config", file)

			if code != 0 || !regexp.MustCompile(c.want).MatchString(stdout) {
				t.Errorf("got status %d and %q (%s), want %s", code, stdout, stderr, c.want)
			}
		})
	}
}
