package main

import (
	"fmt"
	"slices"

	"postern/cmd/postern/config"
	"postern/tracking/token"
	"postern/tracking/web"
)

// checkOnline asks every tracking domain of a configuration for its tracker,
// and says for each what a recipient would meet.
func checkOnline(e *env, l *config.Loaded, dns string) error {
	keys, err := token.ReadKeys(l.Tracking.KeyFile)
	if err != nil {
		return err
	}
	p := &web.Prober{Keys: keys, Resolver: resolver(dns)}
	urls := []string{string(l.Tracking.URL)}
	for _, r := range l.Tracking.Rules {
		if r.URL != "" && !slices.Contains(urls, string(r.URL)) {
			urls = append(urls, string(r.URL))
		}
	}
	failed := 0
	for _, u := range urls {
		if u == "" {
			continue
		}
		if err := p.Probe(e.ctx, u); err != nil {
			failed++
			fmt.Fprintf(e.stdout, "%s: %v\n", u, err)
			continue
		}
		fmt.Fprintf(e.stdout, "%s: ok, this tracker answers\n", u)
	}
	if failed > 0 {
		return fmt.Errorf("%d of the tracking addresses do not lead to this tracker", failed)
	}
	return nil
}
