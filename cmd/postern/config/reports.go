package config

import (
	"slices"
	"strings"

	"postern/relay/envelope"
)

// Reports is the listener for bounces and complaints.
type Reports struct {
	Listen         []Addr   `toml:"listen"`
	BounceDomains  []string `toml:"bounce_domains"`
	FBLDomains     []string `toml:"fbl_domains"`
	MemoryBudget   Size     `toml:"memory_budget"` // of port 25 alone
	MaxMessageSize Size     `toml:"max_message_size"`
	Keep           string   `toml:"keep"`
}

// On reports whether any domain is named.
func (r Reports) On() bool { return len(r.BounceDomains)+len(r.FBLDomains) > 0 }

// Domains are those of bounces and of complaints.
func (r Reports) Domains() []string { return slices.Concat(r.BounceDomains, r.FBLDomains) }

// checkReports checks [reports].
func (b *binder) checkReports(c *Config) {
	r := &c.Reports
	r.Keep = b.Path(r.Keep)
	b.checkReportDomains("reports.bounce_domains", r.BounceDomains)
	b.checkReportDomains("reports.fbl_domains", r.FBLDomains)
	if !r.On() {
		return
	}

	if r.MaxMessageSize <= 0 {
		b.problem("reports.max_message_size", `must be greater than zero, for example "10MiB"`)
	}

	// One source may hold a quarter, and a message takes its size and a little more.
	if r.MemoryBudget > 0 && r.MemoryBudget < 4*(r.MaxMessageSize+64<<10) {
		b.problem("reports.memory_budget",
			"less than four times reports.max_message_size and 64KiB: such a message could never come in")
	}

	if len(r.Listen) == 0 {
		b.problem("reports.listen", `is empty, write for example ["0.0.0.0:25"]`)
	}

	verp := c.Relay.VERPDomain
	covers := func(d string) bool { return envelope.MatchDomain(d, verp) }
	if verp != "" && !slices.ContainsFunc(r.BounceDomains, covers) {
		b.problem("relay.verp_domain", "%s is not among reports.bounce_domains: bounces to it would be refused", verp)
	}
}

// checkReportDomains checks a list of domains and of "*.domain".
func (b *binder) checkReportDomains(list string, domains []string) {
	for i, d := range domains {
		parent := strings.TrimPrefix(d, "*.")
		if err := new(Host).parse(parent); err != nil || strings.Contains(parent, "*") {
			b.problem(keyOf(list, i), `%q is not a domain, write for example "bounces.example.com", `+
				`or "*.example.com" for what is below`, d)
		}
	}
}
