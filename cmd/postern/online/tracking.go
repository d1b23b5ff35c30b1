package online

import (
	"errors"
	"fmt"
	"slices"

	"postern/tracking/token"
	"postern/tracking/web"
)

// tracking asks every tracking domain of a configuration for its tracker,
// and says for each what a recipient would meet.
func (o *online) tracking() error {
	keys, err := token.ReadKeys(o.l.Tracking.KeyFile)
	if err != nil {
		return err
	}

	p := &web.Prober{Keys: keys, Resolver: o.mx}

	urls := []string{string(o.l.Tracking.URL)}
	for _, r := range o.l.Tracking.Rules {
		if r.URL != "" && !slices.Contains(urls, string(r.URL)) {
			urls = append(urls, string(r.URL))
		}
	}
	urls = slices.DeleteFunc(urls, func(u string) bool { return u == "" })

	failed := 0
	for _, u := range urls {
		err := p.Probe(o.ctx, u)
		var host *web.HostError
		switch {
		case err == nil:
			fmt.Fprintf(o.out, "%s: ok, this tracker answers\n", u)
		case errors.As(err, &host) && host.Opens:
			fmt.Fprintf(o.out, "%s: ok, with a warning: %v\n", u, err)
		default:
			failed++
			fmt.Fprintf(o.out, "%s: %v\n", u, err)
		}
	}

	if failed > 0 {
		return fmt.Errorf("%d of the tracking addresses do not lead to this tracker", failed)
	}
	return nil
}
