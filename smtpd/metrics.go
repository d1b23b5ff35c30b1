package smtpd

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/reply"
)

// metrics count what clients do.
type metrics struct {
	connections *prometheus.CounterVec
	messages    *prometheus.CounterVec
	logins      *prometheus.CounterVec
}

func newMetrics() metrics {
	counter := func(name, label, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}

	return metrics{
		connections: counter("postern_smtpd_connections_total", "result",
			"Connections by result: accepted, refused, tls_failed, accept_failed."),
		messages: counter("postern_smtpd_messages_total", "class", "Messages by class of the reply."),
		logins:   counter("postern_smtpd_logins_total", "result", "AUTH attempts by result."),
	}
}

// registerMetrics exports the metrics under the name of the listener, where
// there is a registry.
func (s *Server) registerMetrics(r prometheus.Registerer) {
	if r == nil {
		return
	}

	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_smtpd_open_connections",
		Help: "Open connections of clients.",
	}, func() float64 { return float64(s.open.Load()) })

	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"listener": s.traits.listener}, r)
	labelled.MustRegister(s.metrics.connections, s.metrics.messages, s.metrics.logins, open)
}

// connection counts a connection by result.
func (m *metrics) connection(result string) { m.connections.WithLabelValues(result).Inc() }

// login counts an AUTH attempt by result.
func (m *metrics) login(result string) { m.logins.WithLabelValues(result).Inc() }

// message counts a message by the class of its reply.
func (m *metrics) message(r reply.Reply) {
	m.messages.WithLabelValues(strconv.Itoa(r.Code/100) + "xx").Inc()
}
