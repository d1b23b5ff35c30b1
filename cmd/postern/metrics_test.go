package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/cmd/postern/admin"
	"postern/tracking/spool"
)

func TestWaitingEventsAreMeasured(t *testing.T) {
	s, err := spool.Open(spool.Config{Dir: t.TempDir(), Readers: []string{"ingest"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := admin.NewBacklogMetrics(s, []string{"ingest"})
	m.Now = func() time.Time { return time.Unix(1795500060, 0) }
	reg := prometheus.NewRegistry()
	reg.MustRegister(m)
	check := func(events, size, oldest float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		for name, want := range map[string]float64{
			"postern_spool_waiting_events":         events,
			"postern_spool_waiting_bytes":          size,
			"postern_spool_waiting_oldest_seconds": oldest,
		} {
			if got[name] != want {
				t.Errorf("%s: got %v, want %v", name, got[name], want)
			}
		}
	}

	check(0, 0, 0)
	line := strings.TrimSuffix(replayed, "\n")
	if err := s.Append(context.Background(), []byte(line), []byte(line)); err != nil {
		t.Fatal(err)
	}
	check(2, float64(2*(len(line)+10)), 60)
}

func TestMetricsSayWhatRuns(t *testing.T) {
	p := startProcess(t, nil)
	body, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(body, "\npostern_build_info{commit=") {
		t.Error("got no postern_build_info")
	}
	for _, gauge := range []string{"postern_queue_oldest_seconds 0", "postern_queue_waiting_bytes 0"} {
		if !strings.Contains(body, "\n"+gauge+"\n") {
			t.Errorf("got no %s", gauge)
		}
	}
	for _, le := range []string{"0.005", "300", "+Inf"} {
		if want := `postern_submission_duration_seconds_bucket{le="` + le + `"} 0`; !strings.Contains(body, want) {
			t.Errorf("got no %s", want)
		}
	}
}
