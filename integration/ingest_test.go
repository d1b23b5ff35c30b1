package integration

import (
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// TestIngestAnswersOfOthers: a load balancer in front of the service answers
// 404, or a redirection; no event is quarantined, and all arrive when the
// service is back.
func TestIngestAnswersOfOthers(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusFound, http.StatusMethodNotAllowed, http.StatusGone} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			s := startSink(t, sink.Config{})
			g := newGateway(t, s.addr, "")
			var refused atomic.Int64
			g.ingest.Fail = func(int, *http.Request) (int, http.Header, bool) {
				if refused.Add(1) <= 2 {
					return status, http.Header{"Location": {"https://elsewhere.example/"}}, false
				}
				return 0, nil, true
			}
			g.start(t)
			c := &client{addr: g.submission, user: g.user, pass: g.password}
			defer c.close()
			for range 6 {
				if code, text := c.send("a@example.com", []string{"r@example.net"}, newsletter); code != 250 {
					t.Fatalf("%d %s", code, text)
				}
			}
			g.events(t, event.Injection, 6)
			c.close()
			g.stop(t)

			names, err := filepath.Glob(filepath.Join(g.dir, "state", "events", "rejected", "*"))
			if err != nil || len(names) > 0 {
				t.Errorf("quarantined: %v, %v", names, err)
			}
			if refused.Load() < 3 {
				t.Errorf("%d uploads, want the refused ones and another", refused.Load())
			}
		})
	}
}
