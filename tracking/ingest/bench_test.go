package ingest

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/tracking/spool"
)

// swallow answers every upload at once.
type swallow struct{}

func (swallow) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}

	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{},
		Body:       io.NopCloser(strings.NewReader(`{"results":{"id":"x"}}`)),
		Request:    r,
	}, nil
}

// BenchmarkServe uploads a log that waits, compressed, with everything durable.
func BenchmarkServe(b *testing.B) {
	const n = 50_000

	dir := filepath.Join(b.TempDir(), "events")
	sp, err := spool.Open(spool.Config{Dir: dir, Readers: []string{"r"}, Keep: time.Hour, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer sp.Close()
	up, err := New(Config{
		Dir:   dir,
		Sink:  &Signals{URL: "http://ingest.example/api", APIKey: "k", Client: &http.Client{Transport: swallow{}}},
		Batch: BatchConfig{Bytes: 2 << 20, Age: 10 * time.Millisecond},
		Log:   quiet,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer up.Close()

	lines := make([][]byte, 1000)
	for i := range lines {
		lines[i] = line(b, 1_000_000_000+i*7919, nil)
	}

	for b.Loop() {
		b.StopTimer()
		for range n / len(lines) {
			if err := sp.Append(context.Background(), lines...); err != nil {
				b.Fatal(err)
			}
		}
		src, err := sp.Reader("r")
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		b.StartTimer()

		go func() { done <- up.Serve(ctx, src) }()
		for spool.Cursor(dir, "r") != sp.Newest() {
			time.Sleep(time.Millisecond)
		}

		b.StopTimer()
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "events/s")
}
