package spool

import "github.com/prometheus/client_golang/prometheus"

// metrics are the counters of one spool, named postern_NAME_....
type metrics struct {
	name string
	all  []prometheus.Collector

	appended    prometheus.Counter
	syncs       prometheus.Counter
	sacrificed  prometheus.Counter
	corrupt     prometheus.Counter
	refused     prometheus.Counter
	readErrors  prometheus.Counter
	gone        prometheus.Counter
	quarantined prometheus.Counter
}

// newMetrics returns the counters of a spool, not registered yet.
func newMetrics(name string) *metrics {
	m := &metrics{name: name}

	m.appended = m.counter("records_total", "Records made durable.")
	m.syncs = m.counter("syncs_total", "fsync calls on segments.")
	m.sacrificed = m.counter("sacrificed_segments_total",
		"Segments removed before they were read, to keep min_free_space.")
	m.corrupt = m.counter("corrupt_records_total", "Records skipped because their checksum was wrong.")
	m.refused = m.counter("refused_records_total", "Records refused because the disk is too full.")
	m.readErrors = m.counter("read_errors_total", "Errors of opening or reading segments, each retried.")
	m.gone = m.counter("gone_segments_total", "Segments skipped because they are missing or truncated.")
	m.quarantined = m.counter("quarantined_total", "Damaged records and files kept as *.broken.")

	return m
}

// counter returns a new counter, which register will register.
func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: m.fullName(name), Help: help})
	m.all = append(m.all, c)

	return c
}

// fullName returns the name of a metric with its prefix.
func (m *metrics) fullName(name string) string { return "postern_" + m.name + "_" + name }

// register registers the counters, and the gauges of s.
func (m *metrics) register(r prometheus.Registerer, s *Spool) {
	size := prometheus.GaugeOpts{Name: m.fullName("bytes"), Help: "Bytes in segments."}
	full := prometheus.GaugeOpts{
		Name: m.fullName("full"),
		Help: "1 while records are refused because the disk is too full.",
	}

	r.MustRegister(m.all...)
	r.MustRegister(
		prometheus.NewGaugeFunc(size, func() float64 { return float64(s.Size()) }),
		prometheus.NewGaugeFunc(full, func() float64 {
			if s.Err() != nil {
				return 1
			}

			return 0
		}),
	)
}
