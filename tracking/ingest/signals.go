package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Signals is SparkPost Signals' Ingest API. The key is never logged.
type Signals struct {
	URL    string
	APIKey string
	Client *http.Client // nil: one with a time-out, HTTP/2 where it is offered, that follows no redirection

	mu   sync.Mutex
	date time.Time // the service's clock, in its last answer
	read time.Time // when that was, with its monotonic reading
}

const (
	// maxSkew is how far a service's clock may be from ours to be believed: a
	// day's jump of ours, either way, and a day more.
	maxSkew = 48 * time.Hour

	// agreement is how far the date of an answer that is not a success may be
	// from our time to confirm it.
	agreement = time.Hour
)

// ServiceTime returns what the service's clock says at our time ours, by its
// last answer that could be believed; it does not jump with our clock.
func (s *Signals) ServiceTime(ours time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.date.IsZero() {
		return ours, false
	}

	now := s.date.Add(time.Since(s.read))
	if now.Sub(ours).Abs() > maxSkew {
		return ours, false
	}

	return now, true
}

// noteDate keeps the date of an answer that took a batch: it is the service's.
func (s *Signals) noteDate(h http.Header, ours time.Time) {
	date, ok := dateNear(h, ours, maxSkew)
	if !ok {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.date, s.read = date, ours
}

// noteOtherDate keeps the date of an answer that a proxy may have given, if none
// of the service is known and it agrees with our clock.
func (s *Signals) noteOtherDate(h http.Header, ours time.Time) {
	date, ok := dateNear(h, ours, agreement)
	if !ok {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.date.IsZero() {
		s.date, s.read = date, ours
	}
}

// dateNear reads the Date field of an answer (RFC 9110 section 6.6.1) where it is
// not further from ours than allowed.
func dateNear(h http.Header, ours time.Time, allowed time.Duration) (time.Time, bool) {
	date, err := http.ParseTime(h.Get("Date"))

	return date, err == nil && date.Sub(ours).Abs() <= allowed
}

func (s *Signals) client() *http.Client {
	if s.Client == nil {
		return defaultClient
	}

	c := *s.Client
	if c.CheckRedirect == nil {
		c.CheckRedirect = noRedirect
	}

	return &c
}

// noRedirect answers a redirection with itself: a POST that is followed would
// become a GET, or hand the events to another host.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Outcome is what the service says later of a batch that it took.
type Outcome struct {
	Type       string `json:"type"` // success or error
	BatchID    string `json:"batch_id"`
	Succeeded  int    `json:"number_succeeded"`
	Failed     int    `json:"number_failed"`
	Duplicates int    `json:"number_duplicates"`
	ErrorType  string `json:"error_type,omitempty"`
	Retryable  bool   `json:"retryable,omitempty"`
}

// Outcomes asks for what became of batches (GET .../events/ingest?batch_ids=).
func (s *Signals) Outcomes(ctx context.Context, ids []string) ([]Outcome, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	u.Path = strings.TrimSuffix(u.Path, "/ingest/events") + "/events/ingest"
	u.RawQuery = url.Values{"batch_ids": {strings.Join(ids, ",")}}.Encode()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", s.APIKey)

	res, err := s.client().Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()

	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, &Refusal{Status: res.StatusCode, Words: words(answer)}
	}

	var out struct {
		Results []Outcome `json:"results"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("ingest: outcomes: %w", err)
	}

	return out.Results, nil
}

const (
	maxAnswer     = 64 << 10
	maxRetryAfter = time.Hour
)

var (
	zippers       = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	defaultClient = &http.Client{Timeout: time.Minute, CheckRedirect: noRedirect}
)

// Send implements Sink.
func (s *Signals) Send(ctx context.Context, ndjson []byte) (id string, wire int, err error) {
	body := compress(ndjson)
	wire = body.Len()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, body)
	if err != nil {
		return "", wire, err
	}
	req.Header.Set("Authorization", s.APIKey)
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Content-Encoding", "gzip")

	res, err := s.client().Do(req)
	if err != nil {
		return "", wire, err
	}
	defer res.Body.Close()
	received := time.Now()

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
			s.noteDate(res.Header, received)
			return ok.Results.ID, wire, nil
		}

		return "", wire, fmt.Errorf("HTTP %d without a batch id: %.200q", res.StatusCode, answer)
	}

	s.noteOtherDate(res.Header, received)

	return "", wire, &Refusal{
		Status:     res.StatusCode,
		Words:      words(answer),
		RetryAfter: retryAfter(res.Header.Get("Retry-After"), time.Now()),
	}
}

// compress returns b compressed. A buffer takes everything, so there is no error.
func compress(b []byte) *bytes.Buffer {
	var out bytes.Buffer
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)

	z.Reset(&out)
	z.Write(b)
	z.Close()

	return &out
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
