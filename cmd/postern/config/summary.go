package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/certs"
	"postern/dkim"
	"postern/relay/envelope"
)

// Section is a heading of a summary and the lines below it.
type Section struct {
	Title string
	Lines []string
}

// say adds a line.
func (s *Section) say(format string, args ...any) {
	s.Lines = append(s.Lines, fmt.Sprintf(format, args...))
}

// Summary describes the gateway that a configuration without fatal problems makes: its
// listeners and who may use them, where mail is sent, what is signed, and where events
// are uploaded, as of now.
func (l *Loaded) Summary(now time.Time) []Section {
	out := []Section{l.summariseListeners()}
	if l.Role == All {
		out = append(out,
			l.summariseRelaying(),
			l.summariseUpstreams(),
			l.summariseDomains(now),
		)
	}
	if l.Role == All || l.Tracking.Web.TLS {
		out = append(out, l.summariseCertificates())
	}

	return append(out, l.summariseEvents())
}

// summariseListeners returns the section of listeners and sockets.
func (l *Loaded) summariseListeners() Section {
	s := Section{Title: "Listeners"}
	for _, at := range l.listeners(l.Role) {
		what, _, _ := strings.Cut(at.key, "[")
		s.say("%-25s %-21s %s", what, at.addr, l.purpose(at))
	}
	if path := l.Admin.Socket; path != "" {
		s.say("%-25s %-21s the commands queue and events replay, profiles: %s",
			"admin.socket", path, users(l.Admin.SocketGroup))
	}

	if path := l.Accounting.PipeSocket; l.Role == All {
		s.say("%-25s %-21s the command accounting --pipe: %s",
			"accounting.pipe_socket", path, users(l.Accounting.PipeGroup))
	}

	return s
}

// users returns who may use a socket of a group.
func users(group string) string {
	if group == "" {
		return "the gateway's user and root"
	}

	return "the gateway's user, root and group " + group
}

// purpose returns who may use a listener, and for what.
func (l *Loaded) purpose(at listener) string {
	auth := fmt.Sprintf("%d users", len(l.Users))
	if len(l.Users) == 1 {
		auth = "1 user"
	}
	if l.Submission.Auth == "upstream" {
		auth = "who may log in at the upstream"
	}

	switch key, _, _ := strings.Cut(at.key, "["); key {
	case "submission.listen":
		if !l.Submission.RequireTLS {
			return "mail from " + auth + ", STARTTLS on offer and not required"
		}
		return "mail from " + auth + ", after STARTTLS"
	case "submission.listen_tls":
		return "mail from " + auth + ", TLS from the start"
	case "reports.listen":
		return "bounces and complaints from anybody, for " + strings.Join(l.Reports.Domains(), ", ")
	case "tracking.web.listen":
		scheme := "http"
		if l.Tracking.Web.TLS {
			scheme = "https"
		}
		var hosts []string
		for _, u := range l.trackingURLs() {
			hosts = append(hosts, u.Host)
		}
		if len(hosts) == 0 {
			return "the tracker, by " + scheme + "; no tracking.url, so that no link leads here"
		}
		return "the tracker, by " + scheme + ", for " + strings.Join(hosts, ", ")
	case "admin.listen":
		return "metrics and health"
	}

	return "challenges of the certificate authority"
}

// summariseRelaying returns the section of clients that need no password.
func (l *Loaded) summariseRelaying() Section {
	s := Section{Title: "Who may send without a password"}
	for _, r := range l.Submission.Sources {
		if !r.RequireAuth {
			s.say("%s, as user %s", netip.Prefix(r.Network), r.User)
		}
	}
	if len(s.Lines) == 0 {
		s.say("nobody")
	}

	return s
}

// summariseUpstreams returns the section of upstreams.
func (l *Loaded) summariseUpstreams() Section {
	s := Section{Title: "Upstreams"}
	login := "no login"
	switch {
	case l.Submission.Auth == "upstream":
		login = "each client's own login"
	case l.Relay.Username != "":
		login = "login as " + l.Relay.Username
	}

	for _, u := range l.Relay.Upstream {
		s.say("%s (%s), TLS %s, %s, at most %d connections",
			u, l.Relay.UpstreamKind, l.Relay.TLS, login, l.Relay.MaxConnections)
	}
	if l.Relay.Queue == "always" {
		s.say("every message is queued first")
	} else {
		s.say("the upstream's answer is the client's; what a mixed answer leaves over is queued")
	}

	return s
}

// summariseDomains returns the section of signed and unsigned domains.
func (l *Loaded) summariseDomains(now time.Time) Section {
	s := Section{Title: "Domains"}
	for _, k := range l.DKIM.Keys {
		state := ""
		switch {
		case !k.NotBefore.IsZero() && k.NotBefore.After(now):
			state = ", from " + day(k.NotBefore.Time) + " on"
		case !k.NotAfter.IsZero() && !k.NotAfter.End().After(now):
			state = ", ended on " + day(k.NotAfter.Time)
		case !k.NotAfter.IsZero():
			state = ", until " + day(k.NotAfter.Time)
		}

		kind := "unreadable"
		if key, err := dkim.ReadKey(k.Domain, k.Selector, k.KeyFile); err == nil {
			kind = key.Kind()
		}
		s.say("%s is signed with selector %s (%s%s)", k.Domain, k.Selector, kind, state)
	}

	for _, d := range l.unsignedDomains() {
		s.say("%s has no key: its mail goes unsigned", d)
	}
	if len(l.DKIM.Keys) == 0 {
		s.say("no key: mail goes unsigned")
	}

	return s
}

// unsignedDomains returns the domains of users' from_domains that no key signs for. A
// user's own key signs for every domain.
func (l *Loaded) unsignedDomains() []string {
	var out []string
	for _, u := range l.Users {
		if u.DKIMKey != "" {
			continue
		}
		for _, d := range u.FromDomains {
			if d != "*" && !l.hasKey(d) && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}

	return out
}

// usersOf returns the users that have a domain in their from_domains, and no key of
// their own.
func (l *Loaded) usersOf(domain string) []string {
	var out []string
	for _, u := range l.Users {
		if u.DKIMKey == "" && slices.Contains(u.FromDomains, domain) {
			out = append(out, u.Name)
		}
	}

	return out
}

// hasKey reports whether a key signs for a domain: its own, or that of a parent domain.
// For a pattern such as *.example.com, a key of any matching domain is enough.
func (l *Loaded) hasKey(pattern string) bool {
	domain := strings.ToLower(envelope.ASCIIDomain(strings.TrimPrefix(pattern, "*.")))
	for _, k := range l.DKIM.Keys {
		d := strings.ToLower(envelope.ASCIIDomain(k.Domain))
		if d == domain || strings.HasSuffix(domain, "."+d) || envelope.MatchDomain(pattern, d) {
			return true
		}
	}

	return false
}

// summariseCertificates returns the section of certificates.
func (l *Loaded) summariseCertificates() Section {
	s := Section{Title: "Certificates"}
	switch l.Certs.Mode {
	case "acme":
		var names []string
		for _, n := range l.Names() {
			names = append(names, string(n))
		}
		s.say("obtained by ACME for %s", strings.Join(names, ", "))
	case "self-signed":
		s.say("made here, by a local CA that clients do not trust unless they are told to")
	default:
		for _, p := range l.Certs.AllPairs() {
			cert, err := certs.Files(p.CertFile, p.KeyFile)
			if err != nil || cert.Leaf == nil {
				continue
			}
			s.say("%s for %s, until %s",
				p.CertFile, strings.Join(certificateNames(cert.Leaf), ", "), day(cert.Leaf.NotAfter))
		}
	}

	return s
}

// summariseEvents returns the section of events and where they come from.
func (l *Loaded) summariseEvents() Section {
	s := Section{Title: "Events"}
	if l.Signals.Enabled {
		s.say("to %s: %s", l.Signals.UploadURL, strings.Join(l.Signals.Report, ", "))
		if l.Signals.PrivacyPolicy == "sha1" {
			s.say("addresses leave as hashes")
		}
	} else {
		s.say("kept on this machine for %s, uploaded nowhere", l.Events.Keep)
	}

	if l.Role != All {
		return s
	}
	switch {
	case len(l.Accounting.Files) > 0:
		s.say("deliveries and bounces from %s", strings.Join(l.Accounting.Files, ", "))
	case l.Accounting.Pipe:
		s.say("deliveries and bounces from PowerMTA's pipe")
	default:
		s.say("no accounting files: deliveries and bounces are known only where PowerMTA pipes them here")
	}

	return s
}
