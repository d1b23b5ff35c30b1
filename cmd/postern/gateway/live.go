package gateway

import (
	"net/http"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/relay"
	"postern/relay/upstream"
	"postern/tracking/report"
	"postern/tracking/token"
	"postern/tracking/web"
)

// live is what a reload changes, as a whole. A message and a request finish
// with the one that they began with.
type live struct {
	C       *config.Loaded
	Pool    *upstream.Pool
	Relay   *relay.Relay
	Web     http.Handler
	Keys    *token.Keys
	Intake  *report.Intake
	geo     *web.Geo // nil: none
	metrics *admin.Collected

	UseCerts func() // puts its certificates to use; nil: they stay
}

// discard gives back what build took, where it is not put to use.
func (n *live) Discard() {
	if n.Pool != nil {
		n.Pool.Close()
	}
}

// prepare makes everything that a configuration can change while the gateway
// runs. Nothing of it is in use before swap.
func (g *Gateway) Prepare(l *config.Loaded) (*live, error) {
	n, err := g.build(l)
	if err == nil && g.Certs != nil && g.Acme == nil {
		n.UseCerts, err = g.prepareCerts(l)
	}
	if err != nil && n != nil {
		n.Discard()
	}

	return n, err
}

// build is prepare without certificates, which the first start has loaded.
func (g *Gateway) build(l *config.Loaded) (*live, error) {
	n := &live{C: l, metrics: &admin.Collected{}}
	keys, err := token.ReadKeys(l.Tracking.KeyFile)
	if err != nil {
		return nil, err
	}

	n.Keys = keys
	rec := g.Recorder()
	if n.Web, err = g.newWeb(n, rec); err != nil {
		return nil, err
	}

	if g.C.Role == config.All {
		err = g.buildRelay(n, rec)
	}
	return n, err
}
