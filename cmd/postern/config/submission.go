package config

import (
	"net"
	"net/netip"
	"slices"
)

// Submission is the listener that applications send to.
type Submission struct {
	Listen                  []Addr   `toml:"listen"`
	ListenTLS               []Addr   `toml:"listen_tls"`
	RequireTLS              bool     `toml:"require_tls"`
	Auth                    string   `toml:"auth"`
	UsersFile               string   `toml:"users_file"`
	DefaultUser             string   `toml:"default_user"` // with auth = "upstream", for logins that UsersFile lacks
	AuthFailureRate         Rate     `toml:"auth_failure_rate"`
	MaxMessageSize          Size     `toml:"max_message_size"`
	MaxRecipients           int      `toml:"max_recipients"`
	MaxConnections          int      `toml:"max_connections"`
	MaxConnectionsPerSource int      `toml:"max_connections_per_source"`
	IdleTimeout             Duration `toml:"idle_timeout"`
	MessageTimeout          Duration `toml:"message_timeout"`
	ProxyProtocolFrom       []Prefix `toml:"proxy_protocol_from"`
	ReceivedHeader          string   `toml:"received_header"`
	BareNewlines            string   `toml:"bare_newlines"`
	Sources                 []Source `toml:"source"`
}

// Source is a rule for clients of a network: whether they must authenticate, and
// whose settings apply if they need not.
type Source struct {
	Network     Prefix `toml:"network"`
	RequireAuth bool   `toml:"require_auth"`
	User        string `toml:"user"`
}

func (s *Source) setDefaults() { s.RequireAuth = true }

// defaultSubmission returns the defaults of [submission].
func defaultSubmission() Submission {
	return Submission{
		Listen:                  []Addr{"0.0.0.0:587"},
		RequireTLS:              true,
		Auth:                    "users",
		UsersFile:               "users.toml",
		AuthFailureRate:         Rate{N: 5, Per: seconds(60).Std()},
		MaxMessageSize:          50 * mebi,
		MaxRecipients:           1000,
		MaxConnections:          10000,
		MaxConnectionsPerSource: 200,
		IdleTimeout:             seconds(300),
		MessageTimeout:          seconds(600),
		ReceivedHeader:          "full",
		BareNewlines:            "refuse",
	}
}

// checkSubmission checks [submission].
func (b *binder) checkSubmission(s *Submission) {
	b.oneOf("submission.received_header", s.ReceivedHeader, "full", "anonymous", "off")
	b.oneOf("submission.bare_newlines", s.BareNewlines, "refuse", "normalise")
	b.oneOf("submission.auth", s.Auth, "users", "upstream")

	if len(s.Listen)+len(s.ListenTLS) == 0 {
		b.problem("submission.listen", `is empty, write for example ["0.0.0.0:587"]`)
	}

	s.UsersFile = b.Path(s.UsersFile)
	if s.UsersFile == "" {
		b.problem("submission.users_file", "must not be empty")
	}

	b.positive("submission.max_message_size", int64(s.MaxMessageSize))
	b.positive("submission.max_recipients", int64(s.MaxRecipients))
	b.positive("submission.max_connections", int64(s.MaxConnections))
	b.positive("submission.max_connections_per_source", int64(s.MaxConnectionsPerSource))
	b.positive("submission.idle_timeout", int64(s.IdleTimeout))
	b.positive("submission.message_timeout", int64(s.MessageTimeout))
}

// checkPassthrough checks submission.auth = "upstream": passwords go upstream only over verified TLS or loopback,
// and mail that waits has no login of its own.
func (b *binder) checkPassthrough(c *Config) {
	if c.Submission.Auth != "upstream" {
		return
	}

	if c.Relay.Queue == "always" {
		b.problem("relay.queue", `"always" with submission.auth = "upstream": mail that waits could not go `+
			"over its sender's own login")
	}
	if c.Relay.Username == "" {
		b.warn("submission.auth", `"upstream" without relay.username: what a mixed answer leaves over `+
			"has no login to be tried again with")
	}

	if c.Relay.TLS == "required" {
		return
	}
	for i, u := range c.Relay.Upstream {
		host, _, _ := net.SplitHostPort(string(u))
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			b.problem(keyOf("relay.upstream", i), `submission.auth = "upstream" would send clients' passwords to %s `+
				`without verified TLS; write relay.tls = "required"`, u)
		}
	}
}

// checkSources checks that the users file lists the users of source rules.
func checkSources(b *binder, l *Loaded) (out Problems) {
	for i, s := range l.Submission.Sources {
		if s.RequireAuth || l.hasUser(s.User) {
			continue
		}

		key := keyOf("submission.source", i) + ".user"
		out = append(out, b.newProblem(key, "no user %q in the users file; its settings would apply", s.User))
	}

	return out
}

// checkLogins reports what becomes of logins that the users file does not list,
// where the upstream verifies passwords.
func checkLogins(b *binder, l *Loaded) Problems {
	const key = "submission.default_user"

	s := &l.Submission
	held := slices.ContainsFunc(l.Users, heldToDomains)

	switch {
	case s.DefaultUser != "" && s.Auth != "upstream":
		return Problems{b.newProblem(key, `has a meaning with submission.auth = "upstream" only`)}
	case s.DefaultUser != "" && !l.hasUser(s.DefaultUser):
		return Problems{b.newProblem(key, "no user %q in the users file; its settings would apply", s.DefaultUser)}
	}

	var p Problem
	switch {
	case b.given("submission.users_file") && !l.needsUsers():
		p = b.newProblem("submission.users_file", "%s is not there: no login has settings or limits", s.UsersFile)
	case s.DefaultUser == "" && s.Auth == "upstream" && held:
		p = b.newProblem(key, "not set, and the users file holds users to from_domains: "+
			"logins that it does not list are refused")
	case s.DefaultUser != "" && held && !l.heldUser(s.DefaultUser):
		p = b.newProblem(key, "%s has no from_domains: where the upstream knows users by other spellings of their"+
			" names, these get out of theirs", s.DefaultUser)
	default:
		return nil
	}
	p.Warn = true

	return Problems{p}
}
