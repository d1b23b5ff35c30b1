package ingest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.uber.org/goleak"

	"postern/tracking/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a fixed list of records; then it waits for the end.
type source struct {
	records []string
	at      int64
	commits chan spool.Position
}

func (s *source) Next(ctx context.Context) (spool.Record, error) {
	if ctx.Err() != nil || int(s.at) == len(s.records) {
		<-ctx.Done()
		return spool.Record{}, ctx.Err()
	}
	s.at++
	return spool.Record{Data: []byte(s.records[s.at-1]), Next: spool.Position{Segment: 1, Offset: s.at}}, nil
}

func (s *source) Commit(p spool.Position) error { s.commits <- p; return nil }

func TestUpload(t *testing.T) {
	const key = "0123456789012345678901234567890123456789"
	type answer struct {
		status int
		body   string
	}
	ok := answer{200, `{"results":{"id":"b1"}}`}
	for _, c := range []struct {
		name    string
		answers []answer // the last one is repeated
		bodies  string   // what the API saw, batches divided by |
	}{
		{"taken at once", []answer{ok}, "a\nb\n|c\n"},
		{"503, 429 and a broken answer go again with the same bytes",
			[]answer{{503, ""}, {429, `{"errors":[{"message":"slow"}]}`}, {200, "<html>"}, ok}, "a\nb\n|a\nb\n|a\nb\n|a\nb\n|c\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != "POST" || r.Header.Get("Authorization") != key || r.Header.Get("Content-Type") != "application/x-ndjson" || r.Header.Get("Content-Encoding") != "gzip" {
					t.Errorf("%s with header %v", r.Method, r.Header)
				}
				z, err := gzip.NewReader(r.Body)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(z)
				if err != nil {
					t.Error(err)
				}
				a := c.answers[min(len(seen), len(c.answers)-1)]
				seen = append(seen, string(b))
				w.WriteHeader(a.status)
				io.WriteString(w, a.body)
			}))
			defer srv.Close()
			defer srv.Client().CloseIdleConnections()
			src := &source{records: []string{"a", "b", "c"}, commits: make(chan spool.Position, 2)}
			u := New(Config{URL: srv.URL, APIKey: key, BatchBytes: 4, BatchAge: time.Millisecond, MinBackoff: time.Millisecond,
				Client: srv.Client(), Log: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- u.Serve(ctx, src) }()
			first, second := <-src.commits, <-src.commits
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(seen, "|"); got != c.bodies {
				t.Errorf("the API saw %q, want %q", got, c.bodies)
			}
			if first.Offset != 2 || second.Offset != 3 {
				t.Errorf("committed %v, %v", first, second)
			}
		})
	}
}
