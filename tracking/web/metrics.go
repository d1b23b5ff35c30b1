package web

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the metrics of a Handler.
type metrics struct {
	requests    *prometheus.CounterVec   // by outcome
	durations   *prometheus.HistogramVec // by outcome
	repeated    prometheus.Counter
	classes     *prometheus.CounterVec // by class and reason
	unknownHost prometheus.Counter
	unreadable  prometheus.Counter
}

// newMetrics returns the metrics of a new Handler. The buckets are those of the
// durations, in seconds.
func newMetrics(buckets []float64) metrics {
	return metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_web_requests_total",
			Help: "Tracker requests by outcome.",
		}, []string{"outcome"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "postern_web_duration_seconds",
			Help:    "Time to answer a tracker request, by outcome.",
			Buckets: buckets,
		}, []string{"kind"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_web_repeated_total",
			Help: "Requests that repeat another one within a second, and are not recorded again.",
		}),
		classes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_web_classes_total",
			Help: "Opens and clicks by class of client, and by the rule that decided.",
		}, []string{"class", "reason"}),
		unknownHost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_web_unknown_host_total",
			Help: "Requests for a host that is not one of several tracking hosts.",
		}),
		unreadable: newUnreadable(),
	}
}

// collectors returns all metrics.
func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.durations, m.repeated, m.classes, m.unknownHost, m.unreadable}
}

// newUnreadable returns the counter of malformed fields from proxies.
func newUnreadable() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_web_forwarded_unreadable_total",
		Help: "Malformed entries of X-Forwarded-For, X-Forwarded-Host and Forwarded from trusted proxies.",
	})
}
