package smtpd

import (
	"github.com/prometheus/client_golang/prometheus"
)

// newMetrics makes the metrics, and registers them where there is a registry.
func (s *Server) newMetrics() {
	counter := func(name, label, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	s.connections = counter("postern_smtpd_connections_total", "result",
		"Connections by what became of them: accepted, refused, tls_failed, accept_failed.")
	s.messages = counter("postern_smtpd_messages_total", "class", "Messages by class of the answer.")
	s.logins = counter("postern_smtpd_logins_total", "result", "AUTH attempts by result.")
	if s.c.Metrics == nil {
		return
	}

	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_smtpd_open_connections",
		Help: "Connections of clients now open.",
	}, func() float64 { return float64(s.open.Load()) })
	name := "submission"
	if s.c.Reports != nil {
		name = "reports"
	}
	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, s.c.Metrics)
	labelled.MustRegister(s.connections, s.messages, s.logins, open)
}
