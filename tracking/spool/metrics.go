package spool

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics makes the counters; register shows them.
func (s *Spool) metrics() (register func()) {
	var all []prometheus.Collector
	name := func(name string) string { return "postern_" + s.c.Name + "_" + name }
	counter := func(n, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
		all = append(all, c)
		return c
	}
	gauge := func(n, help string, f func() float64) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(n), Help: help}, f))
	}

	s.appended = counter("records_total", "Records made durable.")
	s.syncs = counter("syncs_total", "fsync calls on segments.")
	s.sacrificed = counter("sacrificed_segments_total", "Segments removed before they were read, to keep min_free_space.")
	s.corrupt = counter("corrupt_records_total", "Records passed over because their checksum was wrong.")
	s.refused = counter("refused_records_total", "Records refused because the disk is too full.")
	s.readErrors = counter("read_errors_total", "Errors of opening or reading segments, each tried again.")
	s.gone = counter("gone_segments_total", "Segments passed over because they are gone, or shorter than they were.")
	s.quarantined = counter("quarantined_total", "Damaged records and files kept as *.broken.")
	gauge("bytes", "Bytes in segments.", func() float64 { return float64(s.Size()) })
	gauge("full", "1 while records are refused because the disk is too full.", func() float64 {
		if s.Err() != nil {
			return 1
		}
		return 0
	})

	return func() {
		if s.c.Metrics != nil {
			s.c.Metrics.MustRegister(all...)
		}
	}
}
