package web

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/token"
)

// clockRecorder is a Recorder that takes three seconds for each event, by its
// own clock.
type clockRecorder struct {
	*memory

	mu  sync.Mutex
	now time.Time
}

func (c *clockRecorder) Record(ctx context.Context, e ...*event.Event) error {
	c.mu.Lock()
	c.now = c.now.Add(3 * time.Second)
	c.mu.Unlock()

	return c.memory.Record(ctx, e...)
}

func (c *clockRecorder) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.now
}

// TestDurationByKind: each request is measured under the outcome that it is
// counted by, none of which a stranger's words make up.
func TestDurationByKind(t *testing.T) {
	_, m, keys := setup(t)
	unsubscribe := path(keys, token.Token{Kind: token.ListUnsubscribe})

	for _, c := range []struct {
		name, method, path string
		body               string
		kind               string
		seconds            float64
	}{
		{"a page", "GET", unsubscribe, "", "unsubscribe_page", 0},
		{"unsubscribed", "POST", unsubscribe, "List-Unsubscribe=One-Click", "list_unsubscribe", 3},
		{"another body", "POST", unsubscribe, "x=y", "bad_unsubscribe", 0},
		{"a made-up path", "GET", "/made/up", "", "other_path", 0},
		{"a made-up token", "GET", token.PathPrefix + "AAAA", "", "bad_token", 0},
		{"a made-up method", "BREW", unsubscribe, "", "method", 0},
		{"a target that is none", "GET", path(keys, token.Token{Kind: token.Click, Target: "x:y"}), "", "bad_target", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := &clockRecorder{memory: m, now: time.Now()}
			reg := prometheus.NewRegistry()
			h := New(Config{
				Keys:            keys,
				Events:          clock,
				Now:             clock.Now,
				Metrics:         reg,
				DurationBuckets: []float64{1, 5},
			})
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))

			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, f := range families {
				name := f.GetName()
				if name != "postern_web_duration_seconds" && name != "postern_web_requests_total" {
					continue
				}

				for _, m := range f.GetMetric() {
					seen++
					if got := m.GetLabel()[0].GetValue(); got != c.kind {
						t.Errorf("%s of %s, want %s", name, got, c.kind)
					}
					h := m.GetHistogram()
					if h != nil && (h.GetSampleCount() != 1 || h.GetSampleSum() != c.seconds || len(h.GetBucket()) != 2) {
						t.Errorf("got %v, want one of %v seconds in two buckets", h, c.seconds)
					}
				}
			}
			if seen != 2 {
				t.Errorf("%d series, want a counter and a histogram", seen)
			}
		})
	}
}
