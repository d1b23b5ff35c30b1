// Package ingest uploads events from the spool to the Ingest API: batches by
// size and age, gzip, one POST each, the cursor advanced only when the API has
// taken the batch. What the API does not take stays on disk and goes again.
//
// An Uploader runs in one goroutine, by Serve.
package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/spool"
)

// Source is where events come from; *spool.Reader is one.
type Source interface {
	Next(context.Context) (spool.Record, error)
	Commit(spool.Position) error
}

// Config says where events go. The API key is never logged.
type Config struct {
	URL        string
	APIKey     string
	BatchBytes int           // before gzip
	BatchAge   time.Duration // of the first event in a batch
	MinBackoff time.Duration // after the first failure: 1 second
	MaxBackoff time.Duration // 1 minute
	Client     *http.Client
	Log        *slog.Logger
	Metrics    prometheus.Registerer
}

// Uploader takes events to the API.
type Uploader struct {
	c       Config
	events  prometheus.Counter
	batches *prometheus.CounterVec
	behind  prometheus.Gauge
}

// New makes an uploader.
func New(c Config) *Uploader {
	if c.MinBackoff == 0 {
		c.MinBackoff = time.Second
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = time.Minute
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: time.Minute}
	}
	u := &Uploader{c: c,
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_ingest_events_total", Help: "Events the Ingest API took."}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_ingest_batches_total",
			Help: "Upload attempts by HTTP status, or \"error\" where there was no answer."}, []string{"status"}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_ingest_failing", Help: "1 while uploads fail."}),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(u.events, u.batches, u.behind)
	}
	return u
}

type batch struct {
	ndjson bytes.Buffer
	events int
	end    spool.Position
}

// Serve uploads until ctx ends. A batch under way then goes again at the next
// start, with the same bytes and event ids.
func (u *Uploader) Serve(ctx context.Context, src Source) error {
	var over *spool.Record
	for {
		b, err := u.gather(ctx, src, &over)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("ingest: %w", err)
		}
		if err := u.deliver(ctx, b); err != nil {
			return nil // ctx has ended
		}
		if err := src.Commit(b.end); err != nil {
			u.c.Log.Error("ingest: cursor not written; the batch may go twice", "err", err)
		}
	}
}

// gather waits for a first event and then fills the batch until it is full or
// old enough. An event that does not fit any more is kept in over.
func (u *Uploader) gather(ctx context.Context, src Source, over **spool.Record) (*batch, error) {
	b := &batch{}
	add := func(r spool.Record) {
		b.ndjson.Write(r.Data)
		b.ndjson.WriteByte('\n')
		b.events++
		b.end = r.Next
	}
	if *over != nil {
		add(**over)
		*over = nil
	} else {
		r, err := src.Next(ctx)
		if err != nil {
			return nil, err
		}
		add(r)
	}
	wait, cancel := context.WithTimeout(ctx, u.c.BatchAge)
	defer cancel()
	for b.ndjson.Len() < u.c.BatchBytes {
		r, err := src.Next(wait)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return b, nil
		case err != nil:
			return nil, err
		case b.ndjson.Len()+len(r.Data)+1 > u.c.BatchBytes:
			*over = &r
			return b, nil
		}
		add(r)
	}
	return b, nil
}

// deliver tries until the API has taken the batch or ctx ends.
func (u *Uploader) deliver(ctx context.Context, b *batch) error {
	body, err := compress(b.ndjson.Bytes())
	if err != nil {
		return err
	}
	backoff := u.c.MinBackoff
	for {
		id, retryAfter, err := u.post(ctx, body)
		if err == nil {
			u.events.Add(float64(b.events))
			u.behind.Set(0)
			u.c.Log.Info("Signals: Transferred events successfully", "events", b.events, "bytes", b.ndjson.Len(), "gzip", len(body), "id", id)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		u.behind.Set(1)
		wait := backoff/2 + rand.N(backoff/2+1)
		wait = max(wait, retryAfter)
		u.c.Log.Error("Signals: upload failed, events stay on disk", "err", err, "events", b.events, "again_in", wait.Round(time.Millisecond))
		backoff = min(2*backoff, u.c.MaxBackoff)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

func compress(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

const maxAnswer = 64 << 10

// post makes one request (reference, section 6) and returns the batch's id.
func (u *Uploader) post(ctx context.Context, body []byte) (id string, retryAfter time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.c.URL, bytes.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Authorization", u.c.APIKey)
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Content-Encoding", "gzip")
	res, err := u.c.Client.Do(req)
	if err != nil {
		u.batches.WithLabelValues("error").Inc()
		return "", 0, err
	}
	defer res.Body.Close()
	u.batches.WithLabelValues(strconv.Itoa(res.StatusCode)).Inc()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode == http.StatusOK && err == nil {
		var ok struct {
			Results struct {
				ID string `json:"id"`
			} `json:"results"`
		}
		if json.Unmarshal(answer, &ok) == nil && ok.Results.ID != "" {
			return ok.Results.ID, 0, nil
		}
		return "", 0, fmt.Errorf("HTTP 200 without a batch id: %.200q", answer)
	}
	if s, e := strconv.Atoi(res.Header.Get("Retry-After")); e == nil && s > 0 {
		retryAfter = min(time.Duration(s)*time.Second, time.Hour)
	}
	return "", retryAfter, fmt.Errorf("HTTP %d: %.200q", res.StatusCode, answer)
}
