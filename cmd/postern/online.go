package main

import (
	"errors"
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
	urls = slices.DeleteFunc(urls, func(u string) bool { return u == "" })

	failed := 0
	for _, u := range urls {
		err := p.Probe(e.ctx, u)
		var host *web.HostError
		switch {
		case err == nil:
			fmt.Fprintf(e.stdout, "%s: ok, this tracker answers\n", u)
		case errors.As(err, &host) && host.Opens:
			fmt.Fprintf(e.stdout, "%s: ok, with a warning: %v\n", u, err)
		default:
			failed++
			fmt.Fprintf(e.stdout, "%s: %v\n", u, err)
		}
	}

	if failed > 0 {
		return fmt.Errorf("%d of the tracking addresses do not lead to this tracker", failed)
	}
	return nil
}
