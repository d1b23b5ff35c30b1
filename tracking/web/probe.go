package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern/tracking/token"
)

// HostResolver looks up the addresses of a host. *net.Resolver implements it.
type HostResolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// Prober checks that a tracking URL leads to a tracker with the given keys.
type Prober struct {
	Keys     *token.Keys
	Resolver HostResolver   // nil: the system's
	Roots    *x509.CertPool // nil: the system's
	Timeout  time.Duration  // of a call of Probe; 0: 15 seconds
}

// HostError is the error of a tracking URL that leads to the right tracker, but
// under a host that links are not sealed for.
type HostError struct {
	Asked   string // the host that was asked for, in the form of token.Host
	Arrived string // the host that arrived at the tracker, in the same form; may be empty
	At      string // the address that was asked
	Opens   bool   // links open nevertheless, because there is only one tracking host
}

// Error says what to do about it.
func (e *HostError) Error() string {
	if e.Asked == e.Arrived {
		return fmt.Sprintf("%s at %s leads to a tracker with our token keys, "+
			"whose configuration does not name this host: "+
			"links get 404; give it the same url, former and rules in [tracking]", e.Asked, e.At)
	}

	const advice = "let the proxy pass Host on, or send X-Forwarded-Host and be named in tracking.web.trusted_proxies"
	if e.Opens {
		return fmt.Sprintf("%s at %s leads to this tracker, "+
			"but the host does not arrive as configured: it is %q there; "+
			"links open, because there is only one tracking host; before you add another, %s",
			e.Asked, e.At, e.Arrived, advice)
	}

	return fmt.Sprintf("%s at %s leads to this tracker, "+
		"but the host does not arrive as configured: it is %q there, and links get 404; %s",
		e.Asked, e.At, e.Arrived, advice)
}

// probeTimeout is the default of Prober.Timeout.
const probeTimeout = 15 * time.Second

// Probe sends a probe to every address of the host of a tracking URL. It returns
// nil if all of them lead to a tracker with the same keys under the same host. The
// error says what a recipient would see; it may be a *HostError.
func (p *Prober) Probe(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.Timeout, probeTimeout))
	defer cancel()

	addrs, err := p.resolve(ctx, u.Hostname())
	if err != nil {
		return err
	}

	for _, a := range addrs {
		if err := p.probe(ctx, base, u, a); err != nil {
			return err
		}
	}

	return nil
}

// probe asks one address, with a token that opens where links of the host do, and
// if it does not open, with one that opens under any host.
func (p *Prober) probe(ctx context.Context, base string, u *url.URL, addr string) error {
	want := token.Host(u.Host)
	arrived, err := p.ask(ctx, base, u, addr, want)
	if errors.Is(err, errNotFound) {
		if arrived, e := p.ask(ctx, base, u, addr, token.Probing); e == nil {
			return &HostError{Asked: want, Arrived: arrived, At: addr}
		}
	}
	if err != nil {
		return err
	}
	if arrived != want {
		return &HostError{Asked: want, Arrived: arrived, At: addr, Opens: true}
	}

	return nil
}

// resolve returns the addresses of a host, which may be an address itself.
func (p *Prober) resolve(ctx context.Context, host string) ([]string, error) {
	if ip := net.ParseIP(host); ip != nil {
		return []string{host}, nil
	}

	var r HostResolver = net.DefaultResolver
	if p.Resolver != nil {
		r = p.Resolver
	}
	addrs, err := r.LookupHost(ctx, host)

	var no *net.DNSError
	switch {
	case errors.As(err, &no) && no.IsNotFound:
		return nil, fmt.Errorf("no address in the DNS for %s: links lead nowhere; "+
			"publish an A, AAAA or CNAME record that leads to the tracker", host)
	case err != nil:
		return nil, fmt.Errorf("cannot look up %s in the DNS: %w", host, err)
	}

	return addrs, nil
}

// errNotFound is wrapped by the error for an answer of 404.
var errNotFound = errors.New("it is not a tracker, or has other token keys")

// ask requests a token for host from one address of a URL, and returns the host
// under which the request arrived at the tracker.
func (p *Prober) ask(ctx context.Context, base string, u *url.URL, addr, host string) (arrived string, err error) {
	nonce := rand.Text()
	link := token.URL(base, p.Keys.Seal(token.Token{
		Kind:      token.Probe,
		Host:      host,
		MessageID: p.Keys.NewID(time.Now()),
		Recipient: nonce,
	}))

	port := portOf(u)
	client := http.Client{
		Transport: p.transport(u.Hostname(), net.JoinHostPort(addr, port)),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", "postern-check")

	res, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%s leads to %s, %w", u.Hostname(), addr, plainWords(err, u, port))
	}
	defer res.Body.Close()

	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("%s at %s does not complete its answer: %w", u.Hostname(), addr, err)
	}

	answer, ours := strings.CutPrefix(string(body), probeAnswer(nonce))
	switch {
	case res.StatusCode == http.StatusOK && ours:
		return strings.TrimSpace(answer), nil
	case res.StatusCode/100 == 3:
		return "", fmt.Errorf("%s at %s redirects to %s instead of answering: let /t/ through to the tracker",
			u.Hostname(), addr, res.Header.Get("Location"))
	case res.StatusCode == http.StatusNotFound &&
		strings.TrimSpace(string(body)) == http.StatusText(http.StatusNotFound):
		return "", fmt.Errorf("%s at %s answers 404: %w", u.Hostname(), addr, errNotFound)
	}

	return "", fmt.Errorf("%s at %s answers %s, and is not this tracker", u.Hostname(), addr, res.Status)
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 4096

// transport returns a transport that connects to one address, and expects the
// certificate of the host there.
func (p *Prober) transport(host, at string) *http.Transport {
	return &http.Transport{
		TLSClientConfig:   &tls.Config{ServerName: host, RootCAs: p.Roots},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, at)
		},
	}
}

// portOf returns the port of a URL, or the default port of its scheme.
func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "https" {
		return "443"
	}

	return "80"
}

// plainWords returns an error that says what a failed connection means to a
// recipient. It continues a sentence about the host.
func plainWords(err error, u *url.URL, port string) error {
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var op *net.OpError

	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // without the link
	}

	switch {
	case errors.As(err, &host):
		return fmt.Errorf("whose certificate is for %s and not for %s",
			strings.Join(host.Certificate.DNSNames, ", "), u.Hostname())
	case errors.As(err, &authority):
		return errors.New("whose certificate was not issued by a CA that browsers trust")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("whose certificate was valid until %s", invalid.Cert.NotAfter.Format(time.DateOnly))
	case errors.As(err, &cert):
		return fmt.Errorf("whose certificate is not valid: %w", cert.Err)
	case errors.As(err, &record),
		strings.Contains(err.Error(), "HTTP response to HTTPS client"): // net/http has no type for it
		return fmt.Errorf("where port %s speaks no TLS, though links begin with https://", port)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("which does not answer on port %s in time", port)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("where nothing listens on port %s", port)
	}

	return fmt.Errorf("which does not answer as a tracker: %w", err)
}
