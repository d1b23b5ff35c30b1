package main

import (
	"strings"
	"testing"
)

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
