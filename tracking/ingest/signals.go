package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Signals is SparkPost Signals' Ingest API (reference, section 6). The key is
// never logged.
type Signals struct {
	URL    string
	APIKey string
	Client *http.Client // nil: one with a time-out, HTTP/2 where it is offered
}

const (
	maxAnswer     = 64 << 10
	maxRetryAfter = time.Hour
)

var (
	zippers       = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	defaultClient = &http.Client{Timeout: time.Minute}
)

// Send implements Sink.
func (s *Signals) Send(ctx context.Context, ndjson []byte) (id string, wire int, err error) {
	var body bytes.Buffer
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(&body)
	if _, err := z.Write(ndjson); err != nil {
		return "", 0, err
	}
	if err := z.Close(); err != nil {
		return "", 0, err
	}
	wire = body.Len()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, &body)
	if err != nil {
		return "", wire, err
	}
	req.Header.Set("Authorization", s.APIKey)
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Content-Encoding", "gzip")
	client := s.Client
	if client == nil {
		client = defaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return "", wire, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode/100 == 2 {
		if err != nil {
			return "", wire, err
		}
		var ok struct {
			Results struct {
				ID string `json:"id"`
			} `json:"results"`
		}
		if json.Unmarshal(answer, &ok) == nil && ok.Results.ID != "" {
			return ok.Results.ID, wire, nil
		}
		return "", wire, fmt.Errorf("HTTP %d without a batch id: %.200q", res.StatusCode, answer)
	}
	return "", wire, &Refusal{Status: res.StatusCode, Words: words(answer), RetryAfter: retryAfter(res.Header.Get("Retry-After"), time.Now())}
}

// words are the API's own, out of {"errors":[{"message":"..."}]}.
func words(answer []byte) string {
	var e struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(answer, &e) == nil && len(e.Errors) > 0 && e.Errors[0].Message != "" {
		return e.Errors[0].Message
	}
	return fmt.Sprintf("%.200q", answer)
}

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3).
func retryAfter(v string, now time.Time) time.Duration {
	d := time.Duration(0)
	if s, err := strconv.Atoi(v); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
