// Package online asks the world whether a configuration can work: its
// upstreams, the DNS, its tracking hosts and the ingest service.
package online

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/gateway"
	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/upstream"
	"postern/tracking/ingest"
)

// onlineTimeout bounds each question of `check --online`.
const onlineTimeout = 15 * time.Second

// online asks the world whether a configuration can work, a line an answer.
type online struct {
	ctx    context.Context
	out    io.Writer
	l      *config.Loaded
	dns    dkim.Resolver
	mx     *net.Resolver
	failed int
}

// Check asks everything that a configuration names, and prints a line for each
// answer. dns is the address of the DNS server to ask; empty: the system's. It
// returns an error if any check failed.
func Check(ctx context.Context, out io.Writer, l *config.Loaded, dns string) error {
	o := &online{
		ctx: ctx,
		out: out,
		l:   l,
		dns: TXTResolver(dns),
		mx:  resolver(dns),
	}
	fmt.Fprintln(out, "Online")
	if l.Role == config.All {
		o.upstreams()
		o.keys()
		o.mailDomains()
		o.returnPaths()
	}
	o.ingestKey()

	var errs []error
	if o.failed > 0 {
		errs = append(errs, failedChecks(o.failed))
	}

	return errors.Join(append(errs, o.tracking())...)
}

func failedChecks(n int) error {
	if n == 1 {
		return errors.New("1 online check failed")
	}

	return fmt.Errorf("%d online checks failed", n)
}

func (o *online) ok(format string, args ...any) {
	fmt.Fprintf(o.out, "  ok      %s\n", fmt.Sprintf(format, args...))
}

func (o *online) fail(format string, args ...any) {
	o.failed++
	fmt.Fprintf(o.out, "  failed  %s\n", fmt.Sprintf(format, args...))
}

func (o *online) note(format string, args ...any) {
	fmt.Fprintf(o.out, "  note    %s\n", fmt.Sprintf(format, args...))
}

// upstreams opens a session with each, up to the login.
func (o *online) upstreams() {
	c, err := gateway.UpstreamConfig(o.l)
	if err != nil {
		o.fail("upstreams: %v", err)
		return
	}

	for _, addr := range o.l.Relay.Upstream {
		ctx, cancel := context.WithTimeout(o.ctx, onlineTimeout)
		found, err := upstream.Probe(ctx, c, string(addr))
		cancel()
		if err != nil {
			o.fail("upstream %s: %v", addr, err)
			continue
		}

		tls := "plain text"
		if found.TLS != "" {
			tls = found.TLS
		}
		login := "no login"
		if found.LoggedIn {
			login = "logged in as " + o.l.Relay.Username
		}
		o.ok("upstream %s takes mail: %s, %s", addr, tls, login)

		for _, want := range []string{"PIPELINING", "8BITMIME", "DSN"} {
			if !found.Extensions.Has(want) {
				o.note("upstream %s does not offer %s", addr, want)
			}
		}
	}
}

// keys looks for the DNS record of every DKIM key.
func (o *online) keys() {
	for _, k := range o.l.DKIM.Keys {
		key, err := dkim.ReadKey(k.Domain, k.Selector, k.KeyFile)
		if err != nil {
			o.fail("DKIM: %v", err)
			continue
		}

		ctx, cancel := context.WithTimeout(o.ctx, onlineTimeout)
		o.finding(dkim.CheckKey(ctx, o.dns, key))
		cancel()
	}
}

func (o *online) finding(f dkim.Finding) {
	if f.Result == dkim.Good {
		o.ok("%s", f.Text)
	} else {
		o.fail("%s", f.Text)
	}
}

// mailDomains looks for the MX records of the domains whose mail comes here.
func (o *online) mailDomains() {
	if !o.l.Reports.On() {
		return
	}

	for _, d := range o.l.Reports.Domains() {
		if strings.HasPrefix(d, "*.") {
			o.note("MX of %s: not asked, for it names many domains", d)
			continue
		}

		ctx, cancel := context.WithTimeout(o.ctx, onlineTimeout)
		records, err := o.mx.LookupMX(ctx, envelope.ASCIIDomain(d))
		cancel()
		var dnsErr *net.DNSError
		switch {
		case errors.As(err, &dnsErr) && dnsErr.IsNotFound:
			o.fail("MX: %s has no record: bounces and complaints do not come here; publish \"%s. MX 10 %s.\"",
				d, d, o.l.Hostname)
		case err != nil:
			o.fail("MX: the DNS does not answer for %s", d)
		case !slices.ContainsFunc(records, o.isOurs):
			o.note("MX: %s leads to %s, which has to be this gateway, %s", d, mxHosts(records), o.l.Hostname)
		default:
			o.ok("MX: %s leads to %s", d, mxHosts(records))
		}
	}
}

// isOurs reports whether an MX record leads to this gateway.
func (o *online) isOurs(r *net.MX) bool {
	return strings.EqualFold(strings.TrimSuffix(r.Host, "."), string(o.l.Hostname))
}

func mxHosts(records []*net.MX) string {
	hosts := make([]string, len(records))
	for i, r := range records {
		hosts[i] = strings.TrimSuffix(r.Host, ".")
	}

	return strings.Join(hosts, ", ")
}

// returnPaths looks for the SPF records of the domains that MAIL FROM names.
func (o *online) returnPaths() {
	for _, d := range returnPathDomains(o.l) {
		ctx, cancel := context.WithTimeout(o.ctx, onlineTimeout)
		o.finding(dkim.CheckSPF(ctx, o.dns, d))
		cancel()
	}
}

// returnPathDomains are the domains that MAIL FROM has upstream: that of VERP,
// else those that rewriting gives, and else those that users are held to.
func returnPathDomains(l *config.Loaded) []string {
	if d := l.Relay.VERPDomain; d != "" {
		return []string{d}
	}

	var out []string
	add := func(domain string) {
		if domain != "" && !strings.Contains(domain, "*") && !slices.Contains(out, domain) {
			out = append(out, domain)
		}
	}
	for _, r := range l.Relay.Rewrite {
		_, domain, _ := strings.Cut(r.To, "@")
		add(domain)
	}
	if len(l.Relay.Rewrite) == 0 {
		for _, u := range l.Users {
			for _, d := range u.FromDomains {
				add(d)
			}
		}
	}

	return out
}

// ingestKey asks the ingest service about a batch that is not there, which
// shows whether it knows the key.
func (o *online) ingestKey() {
	s := o.l.Signals
	if !s.Enabled {
		return
	}

	ctx, cancel := context.WithTimeout(o.ctx, onlineTimeout)
	defer cancel()
	const nobody = "00000000-0000-0000-0000-000000000000"
	_, err := (&ingest.Signals{URL: string(s.UploadURL), APIKey: string(s.APIKey)}).Outcomes(ctx, []string{nobody})
	var refusal *ingest.Refusal
	switch {
	case err == nil:
		o.ok("ingest: %s takes the API key", s.UploadURL)
	case errors.As(err, &refusal) && (refusal.Status == 401 || refusal.Status == 403):
		o.fail("ingest: %s refuses the API key (HTTP %d)", s.UploadURL, refusal.Status)
	case errors.As(err, &refusal) && (refusal.Status == 400 || refusal.Status == 404 || refusal.Status == 422):
		o.note("ingest: %s answers HTTP %d to a question about batches; whether it takes the key is not known",
			s.UploadURL, refusal.Status)
	case errors.As(err, &refusal):
		o.fail("ingest: %s answers HTTP %d", s.UploadURL, refusal.Status)
	default:
		o.fail("ingest: %s does not answer: %v", s.UploadURL, err)
	}
}
