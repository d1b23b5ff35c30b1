package relay

import "github.com/prometheus/client_golang/prometheus"

// metrics are the relay's counters.
type metrics struct {
	unknown     *prometheus.CounterVec
	copiesTotal *prometheus.CounterVec
	skipped     *prometheus.CounterVec
	unsigned    prometheus.Counter
	unsaved     prometheus.Counter
}

// newMetrics registers the counters with reg, unless that is nil.
func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		copiesTotal: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_relay_copies_total",
			Help: "Copies by what became of them.",
		}, []string{"result"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_rewrite_skipped_total",
			Help: "Message parts that were not rewritten, by reason.",
		}, []string{"reason"}),
		unsigned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_dkim_unsigned_total",
			Help: "Messages relayed without a signature because there is no key for their From domain.",
		}),
		unsaved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_relay_events_lost_total",
			Help: "Injection events that could not be written after the upstream had accepted the copy.",
		}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_relay_unknown_names_total",
			Help: "Unknown names in messages, by kind: x_msys_api (a key), ip_pool, virtual_mta.",
		}, []string{"kind"}),
	}

	for _, kind := range unknownKinds {
		m.unknown.WithLabelValues(string(kind))
	}

	if reg != nil {
		reg.MustRegister(m.copiesTotal, m.skipped, m.unsigned, m.unsaved, m.unknown)
	}
	return m
}
