package config

import (
	"strings"

	"postern/certs"
)

// Relay says how mail is handed to PowerMTA, the upstream.
type Relay struct {
	Upstream         []Addr     `toml:"upstream"`
	UpstreamKind     string     `toml:"upstream_kind"`
	TLS              string     `toml:"tls"`
	CAFile           string     `toml:"ca_file"`
	Username         string     `toml:"username"`
	Password         string     `toml:"password" secret:"yes"`
	MaxConnections   int        `toml:"max_connections"`
	MaxMessages      int        `toml:"max_messages_per_connection"`
	Queue            string     `toml:"queue"`
	AnswerWithin     Duration   `toml:"answer_within"`
	Convert8Bit      bool       `toml:"convert_8bit"`
	RetryAfter       []Duration `toml:"retry_after"`
	BounceAfter      Duration   `toml:"bounce_after"`
	MessageIDHeader  HeaderName `toml:"message_id_header"`
	VirtualMTAHeader HeaderName `toml:"virtual_mta_header"`
	JobHeader        HeaderName `toml:"job_header"`
	SubaccountHeader HeaderName `toml:"subaccount_header"`
	MsysAPI          bool       `toml:"msys_api"`
	VERPDomain       string     `toml:"verp_domain"`
	Rewrite          []Rewrite  `toml:"rewrite"`
	Timeouts         Timeouts   `toml:"timeouts"`
}

// Timeouts are those of RFC 5321 section 4.5.3.2.
type Timeouts struct {
	Connect  Duration `toml:"connect"`
	Greeting Duration `toml:"greeting"`
	Command  Duration `toml:"command"`
	Data     Duration `toml:"data"`
	FinalDot Duration `toml:"final_dot"`
}

// Rewrite maps addresses of MAIL FROM that match a pattern to another.
type Rewrite struct {
	MailFrom string `toml:"mail_from"`
	To       string `toml:"to"`
}

// defaultRelay returns the defaults of [relay].
func defaultRelay() Relay {
	return Relay{
		Upstream:         []Addr{"127.0.0.1:2525"},
		UpstreamKind:     "powermta",
		TLS:              "opportunistic",
		MaxConnections:   64,
		MaxMessages:      1000,
		Queue:            "partial",
		AnswerWithin:     seconds(240),
		RetryAfter:       []Duration{seconds(60), seconds(300), seconds(900), seconds(3600)},
		BounceAfter:      seconds(108 * 3600),
		MessageIDHeader:  "X-Sp-Message-Id",
		VirtualMTAHeader: "X-Virtual-MTA",
		JobHeader:        "X-Job",
		SubaccountHeader: "X-Sp-Subaccount-Id",
		MsysAPI:          true,
	}
}

// checkRewrite checks [[relay.rewrite]] and relay.verp_domain.
func (b *binder) checkRewrite(r *Relay) {
	for i, rule := range r.Rewrite {
		key := keyOf("relay.rewrite", i)
		if !isPattern(rule.MailFrom) {
			b.problem(key+".mail_from", `not a pattern, write for example "*@example.com"`)
		}
		if !isPattern(rule.To) || strings.Contains(rule.To, "@*.") {
			b.problem(key+".to", `not an address, write for example "*@bounces.example.com"`)
		}
	}

	if r.VERPDomain == "" {
		return
	}
	if err := new(Host).parse(r.VERPDomain); err != nil {
		b.problem("relay.verp_domain", "%v", err)
	}
}

// isPattern reports whether s is LOCAL@DOMAIN, either of which may hold "*".
func isPattern(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && domain != "" && !strings.ContainsAny(s, " <>") && !strings.Contains(domain, "@")
}

// checkRelay checks [relay].
func (b *binder) checkRelay(r *Relay) {
	b.oneOf("relay.tls", r.TLS, "off", "opportunistic", "required")
	b.oneOf("relay.upstream_kind", r.UpstreamKind, "powermta", "other")
	b.oneOf("relay.queue", r.Queue, "partial", "always")

	for i, d := range r.RetryAfter {
		if d <= 0 {
			b.problem(keyOf("relay.retry_after", i), `must be greater than zero, for example "1m"`)
		}
	}
	if len(r.RetryAfter) == 0 {
		b.problem("relay.retry_after", `is empty, write for example ["1m", "5m", "15m", "1h"]`)
	}

	switch {
	case r.BounceAfter <= 0:
		b.problem("relay.bounce_after", `must be greater than zero, for example "4d12h"`)
	case len(r.RetryAfter) > 0 && r.BounceAfter < r.RetryAfter[0]:
		b.problem("relay.bounce_after", "shorter than the first pause of relay.retry_after: "+
			"a copy would come back to its sender before it is tried again")
	}

	if len(r.Upstream) == 0 {
		b.problem("relay.upstream", `is empty, write for example ["127.0.0.1:2525"]`)
	}
	if r.MaxConnections < 1 {
		b.problem("relay.max_connections", "want at least 1")
	}
	if r.MaxMessages < 1 {
		b.problem("relay.max_messages_per_connection", "want at least 1")
	}

	if r.AnswerWithin <= 0 {
		b.problem("relay.answer_within", `must be greater than zero, for example "4m"`)
	}
	if (r.Username == "") != (r.Password == "") {
		b.problem("relay.username", "relay.username and relay.password go together")
	}

	r.CAFile = b.Path(r.CAFile)
	if r.CAFile != "" {
		if _, err := certs.ReadPool(r.CAFile); err != nil {
			b.problem("relay.ca_file", "%v", err)
		}
	}
}
