package main

import (
	"net/http"

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
	c       *config.Loaded
	pool    *upstream.Pool
	relay   *relay.Relay
	web     http.Handler
	keys    *token.Keys
	intake  *report.Intake
	geo     *web.Geo // nil: none
	metrics *collected

	useCerts func() // puts its certificates to use; nil: they stay
}

// discard gives back what build took, where it is not put to use.
func (n *live) discard() {
	if n.pool != nil {
		n.pool.Close()
	}
}

// prepare makes everything that a configuration can change while the gateway
// runs. Nothing of it is in use before swap.
func (g *gateway) prepare(l *config.Loaded) (*live, error) {
	n, err := g.build(l)
	if err == nil && g.certs != nil && g.acme == nil {
		n.useCerts, err = g.prepareCerts(l)
	}
	if err != nil && n != nil {
		n.discard()
	}

	return n, err
}

// build is prepare without certificates, which the first start has loaded.
func (g *gateway) build(l *config.Loaded) (*live, error) {
	n := &live{c: l, metrics: &collected{}}
	keys, err := token.ReadKeys(l.Tracking.KeyFile)
	if err != nil {
		return nil, err
	}

	n.keys = keys
	rec := g.recorder()
	if n.web, err = g.newWeb(n, rec); err != nil {
		return nil, err
	}

	if g.c.Role == config.All {
		err = g.buildRelay(n, rec)
	}
	return n, err
}
