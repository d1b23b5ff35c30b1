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

// Signals is a Sink for the Events Ingest API of SparkPost Signals. The key is never
// logged.
type Signals struct {
	URL    string
	APIKey string

	// Client makes the requests. Redirections are never followed, unless its
	// CheckRedirect says so. The default has a timeout of a minute.
	Client *http.Client

	mu   sync.Mutex
	date time.Time // of the service's clock, in its last answer
	read time.Time // when that was, with a monotonic clock reading
}

const (
	// maxSkew is how far the service's clock may be from ours to be believed: our
	// clock may have jumped by a day, and there is a day more.
	maxSkew = 48 * time.Hour

	// agreement is how far the date of an answer other than a success may be from
	// our time to confirm it.
	agreement = time.Hour
)

// ServiceTime returns what the service's clock says at our time, by the last answer
// that could be believed. It does not jump with our clock. It returns false if the
// service's clock is not known.
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

// noteDate keeps the date of an answer that accepted a batch: it is the service's.
func (s *Signals) noteDate(h http.Header, ours time.Time) {
	date, ok := dateNear(h, ours, maxSkew)
	if !ok {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.date = date
	s.read = ours
}

// noteOtherDate keeps the date of an answer that may be a proxy's, if no other is known
// and it agrees with our clock.
func (s *Signals) noteOtherDate(h http.Header, ours time.Time) {
	date, ok := dateNear(h, ours, agreement)
	if !ok {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.date.IsZero() {
		s.date = date
		s.read = ours
	}
}

// dateNear returns the Date field of an answer (RFC 9110 section 6.6.1), and whether it
// is not further from ours than allowed.
func dateNear(h http.Header, ours time.Time, allowed time.Duration) (time.Time, bool) {
	date, err := http.ParseTime(h.Get("Date"))

	return date, err == nil && date.Sub(ours).Abs() <= allowed
}

// client returns the client that makes the requests.
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

// noRedirect makes a client return a redirection instead of following it: a POST would
// become a GET, or send the events to another host.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Outcome is what the service says later of a batch that it accepted.
type Outcome struct {
	Type       string `json:"type"` // success or error
	BatchID    string `json:"batch_id"`
	Succeeded  int    `json:"number_succeeded"`
	Failed     int    `json:"number_failed"`
	Duplicates int    `json:"number_duplicates"`
	ErrorType  string `json:"error_type,omitempty"`
	Retryable  bool   `json:"retryable,omitempty"`
}

// Outcomes asks what became of batches (GET .../events/ingest?batch_ids=). It returns
// those that the service knows. The error is a *Refusal if it answered otherwise.
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
	maxAnswer     = 64 << 10 // of an upload, in bytes
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

// compress returns b in gzip. Writing to a buffer does not fail.
func compress(b []byte) *bytes.Buffer {
	var out bytes.Buffer
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)

	z.Reset(&out)
	z.Write(b)
	z.Close()

	return &out
}

// words returns the message of an answer, {"errors":[{"message":"..."}]}, or the
// beginning of another answer.
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

// retryAfter parses Retry-After, seconds or a date (RFC 9110 section 10.2.3). It returns
// 0 if there is none, and at most maxRetryAfter.
func retryAfter(v string, now time.Time) time.Duration {
	d := time.Duration(0)
	if s, err := strconv.Atoi(v); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}

	return min(max(d, 0), maxRetryAfter)
}
