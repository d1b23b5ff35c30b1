package web

import (
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

// Prober tells whether the address that links begin with leads to a tracker
// that holds our keys.
type Prober struct {
	Keys     *token.Keys
	Resolver *net.Resolver  // nil: the system's
	Roots    *x509.CertPool // nil: the system's
	Timeout  time.Duration  // of one probe in all; 0: 15 s
}

// Probe asks a tracking URL for what only our tracker can answer. The error
// says in plain words what a recipient would meet.
func (p *Prober) Probe(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	if p.Timeout == 0 {
		p.Timeout = 15 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	addrs, err := p.resolve(ctx, u.Hostname())
	if err != nil {
		return err
	}
	nonce := rand.Text()
	link := token.URL(base, p.Keys.Seal(token.Token{Kind: token.Probe, MessageID: p.Keys.NewID(time.Now()), Recipient: nonce}))
	for _, a := range addrs { // every address has to lead here
		if err := p.ask(ctx, link, u, a, nonce); err != nil {
			return err
		}
	}
	return nil
}

func (p *Prober) resolve(ctx context.Context, host string) ([]string, error) {
	if ip := net.ParseIP(host); ip != nil {
		return []string{host}, nil
	}
	r := p.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	addrs, err := r.LookupHost(ctx, host)
	var no *net.DNSError
	switch {
	case errors.As(err, &no) && no.IsNotFound:
		return nil, fmt.Errorf("the DNS has no address for %s: links lead nowhere; publish an A, AAAA or CNAME record that leads to the tracker", host)
	case err != nil:
		return nil, fmt.Errorf("the DNS does not answer for %s: %w", host, err)
	}
	return addrs, nil
}

// ask connects to one address of the name.
func (p *Prober) ask(ctx context.Context, link string, u *url.URL, addr, nonce string) error {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	at := net.JoinHostPort(addr, port)
	t := &http.Transport{TLSClientConfig: &tls.Config{ServerName: u.Hostname(), RootCAs: p.Roots}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, at)
		}}
	client := http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "postern-check")
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s leads to %s, %w", u.Hostname(), addr, plainWords(err, u, port))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	switch {
	case err != nil:
		return fmt.Errorf("%s at %s breaks off its answer: %w", u.Hostname(), addr, err)
	case res.StatusCode == http.StatusOK && strings.TrimSpace(string(body)) == ProbeAnswer+nonce:
		return nil
	case res.StatusCode/100 == 3:
		return fmt.Errorf("%s at %s redirects to %s in the place of answering: let /t/ through to the tracker", u.Hostname(), addr, res.Header.Get("Location"))
	case res.StatusCode == http.StatusNotFound && strings.TrimSpace(string(body)) == http.StatusText(http.StatusNotFound):
		return fmt.Errorf("%s at %s answers 404: it is no tracker, or one with other token keys", u.Hostname(), addr)
	}
	return fmt.Errorf("%s at %s answers %s, and is not this tracker", u.Hostname(), addr, res.Status)
}

// plainWords says what a failed connection is to a recipient.
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
		return fmt.Errorf("whose certificate is for %s and not for %s", strings.Join(host.Certificate.DNSNames, ", "), u.Hostname())
	case errors.As(err, &authority):
		return errors.New("whose certificate comes from nobody whom browsers trust")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("whose certificate was valid until %s", invalid.Cert.NotAfter.Format(time.DateOnly))
	case errors.As(err, &cert):
		return fmt.Errorf("whose certificate does not fit: %w", cert.Err)
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"): // net/http has no type for it
		return fmt.Errorf("where port %s speaks no TLS, though links begin with https://", port)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("which does not answer on port %s in time", port)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("where nothing listens on port %s", port)
	}
	return fmt.Errorf("which does not answer as a tracker: %w", err)
}
