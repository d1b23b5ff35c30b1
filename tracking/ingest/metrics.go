package ingest

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of an Uploader.
type metrics struct {
	events, filtered, quarantined *prometheus.CounterVec
	batches                       *prometheus.CounterVec
	failing, asideBatches         prometheus.Gauge
}

// newMetrics returns metrics, registered with reg if it is not nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, label, help string) *prometheus.CounterVec {
		opts := prometheus.CounterOpts{Name: "postern_ingest_" + name, Help: help}
		return prometheus.NewCounterVec(opts, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_ingest_" + name, Help: help})
	}

	m := &metrics{
		events: counter("events_total", "type", "Events the ingest service accepted, by type."),
		filtered: counter("filtered_events_total", "type",
			"Events not uploaded, since [signals] report does not name their class."),
		quarantined: counter("set_aside_events_total", "reason", "Events quarantined, by reason."),
		batches: counter("batches_total", "status",
			"Upload attempts by HTTP status, or \"error\" where there was no answer."),
		failing: gauge("failing", "1 while uploads fail."),
		asideBatches: gauge("aside_batches",
			"Batches that failed repeatedly while others were accepted, and are sent in parts."),
	}
	if reg != nil {
		reg.MustRegister(m.events, m.filtered, m.quarantined, m.batches, m.failing, m.asideBatches)
	}

	return m
}
