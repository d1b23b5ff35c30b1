package config

import (
	"net"
	"net/netip"
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

// Source is a rule for who need not authenticate.
type Source struct {
	Network     Prefix `toml:"network"`
	RequireAuth bool   `toml:"require_auth"`
	User        string `toml:"user"`
}

func (s *Source) setDefaults() { s.RequireAuth = true }

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

func (b *binder) checkSubmission(s *Submission, word func(string, string, ...string)) {
	word("submission.received_header", s.ReceivedHeader, "full", "anonymous", "off")
	word("submission.bare_newlines", s.BareNewlines, "refuse", "normalise")
	word("submission.auth", s.Auth, "users", "upstream")

	if len(s.Listen)+len(s.ListenTLS) == 0 {
		b.problem("submission.listen", `is empty, write for example ["0.0.0.0:587"]`)
	}

	s.UsersFile = b.Path(s.UsersFile)
	if s.UsersFile == "" {
		b.problem("submission.users_file", "must not be empty")
	}

	positive := map[string]int64{
		"max_message_size":           int64(s.MaxMessageSize),
		"max_recipients":             int64(s.MaxRecipients),
		"max_connections":            int64(s.MaxConnections),
		"max_connections_per_source": int64(s.MaxConnectionsPerSource),
		"idle_timeout":               int64(s.IdleTimeout),
		"message_timeout":            int64(s.MessageTimeout),
	}
	for key, n := range positive {
		if n <= 0 {
			b.problem("submission."+key, "must be greater than zero")
		}
	}
}

// checkPassthrough: passwords go upstream only over verified TLS or loopback,
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

	for i, u := range c.Relay.Upstream {
		host, _, _ := net.SplitHostPort(string(u))
		ip, err := netip.ParseAddr(host)
		if c.Relay.TLS != "required" && host != "localhost" && !(err == nil && ip.IsLoopback()) {
			b.problem(keyOf("relay.upstream", i), `submission.auth = "upstream" would send clients' passwords to %s `+
				`without verified TLS; write relay.tls = "required"`, u)
		}
	}
}
