package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"postern/cmd/postern/config"
)

// limitConnections holds the connections of clients to what the limit of open
// files allows.
func (g *Gateway) limitConnections() error {
	limit, err := config.DescriptorLimit()
	if err != nil {
		return err
	}

	c, problems := g.cfg.Connections(limit)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		return fatal
	}
	for _, p := range problems {
		g.log.Warn("fewer connections than configured", "problem", p.Error())
	}
	g.connections = c

	limits := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postern_connections_limit",
		Help: "Connections that a listener accepts at once, as far as the limit of open files allows.",
	}, []string{"listener"})
	limits.WithLabelValues("submission").Set(float64(c.Submission))
	limits.WithLabelValues("reports").Set(float64(c.Reports))
	limits.WithLabelValues("tracker").Set(float64(c.Tracker))
	g.reg.MustRegister(limits)
	return nil
}

// checkDescriptors warns where a reload wants more connections upstream than
// were left for them at the start.
func (g *Gateway) checkDescriptors(l *config.Loaded) {
	limit, err := config.DescriptorLimit()
	if err != nil {
		return
	}

	c, _ := l.Connections(limit)
	if c.Submission < g.connections.Submission || c.Reports < g.connections.Reports || c.Tracker < g.connections.Tracker {
		g.log.Warn("relay.max_connections leaves too few descriptors for the connections of clients, "+
			"whose limits change at the next start", "open_files", limit)
	}
}
