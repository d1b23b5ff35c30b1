package relay

import (
	"slices"
	"strings"

	"postern/relay/envelope"
)

// Pool is one of PowerMTA's virtual-mta-pools.
type Pool struct {
	Name       string
	Enable     Enable
	Subaccount uint32
}

// VirtualMTA is one of PowerMTA's VirtualMTAs.
type VirtualMTA struct {
	Name       string
	Pool       string
	SourceHost string // reported as sending_ip
	Enable     Enable
	Subaccount uint32
}

// RewriteRule maps a MAIL FROM to another, as PowerMTA's <rewrite-list> does.
// Each side is LOCAL@DOMAIN, with * for any local part and *.DOMAIN for any name
// below it; * on the right keeps what was matched.
type RewriteRule struct{ From, To string }

// TrackingRule is what is tracked of the mail of a sending domain. Fields that
// are nil leave it to TrackingConfig.Default.
type TrackingRule struct {
	Pattern     string
	URL         string
	Open        *bool
	InitialOpen *bool
	Click       *bool
}

// route is where a message goes, and what is tracked and reported of it.
type route struct {
	returnPath envelope.Address // before VERP
	params     envelope.MailParams
	tracking   Tracking
	report     bool // its events are reported
	subaccount uint32
}

// routeFor returns the route of a message.
func (r *Relay) routeFor(s *Submission, h *headers) route {
	report, subaccount := r.reporting(s.User, h)

	params := s.Envelope.Params
	params.NeedsUTF8 = params.UTF8 && h.eightBit
	if params.EnvelopeID == "" && isPrintable(h.envid) {
		params.EnvelopeID = h.envid
	}

	return route{
		returnPath: r.returnPath(s.Envelope.From),
		params:     params,
		tracking:   r.trackingFor(s.User, h),
		report:     report,
		subaccount: subaccount,
	}
}

// returnPath applies the first rule that matches. The null path is kept.
func (r *Relay) returnPath(a envelope.Address) envelope.Address {
	if a.IsNull() {
		return a
	}

	for _, rule := range r.cfg.Routes.Rewrite {
		local, domain := cutAddress(rule.From)
		if local != "*" && local != a.Local || !envelope.MatchDomain(domain, a.Domain) {
			continue
		}

		toLocal, toDomain := cutAddress(rule.To)
		if toLocal != "*" {
			a.Local = toLocal
		}
		if toDomain != "*" {
			a.Domain = toDomain
		}
		return a
	}

	return a
}

// cutAddress splits one side of a rule at its last at sign. Without one, all of
// it is local part.
func cutAddress(s string) (local, domain string) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s, ""
	}
	return s[:at], s[at+1:]
}

// verp returns a copy's own return path, bounce+<message id>@verp_domain.
func (r *Relay) verp(from envelope.Address, id string) envelope.Address {
	if r.cfg.Routes.VERPDomain == "" || from.IsNull() {
		return from
	}
	return envelope.Address{Local: "bounce+" + id, Domain: r.cfg.Routes.VERPDomain}
}

// knownVirtualMTA reports whether a name may be used: where pools or VirtualMTAs
// are configured, it has to be one of theirs.
func (r *Relay) knownVirtualMTA(name string) bool {
	if len(r.cfg.Routes.Pools)+len(r.cfg.Routes.VirtualMTAs) == 0 {
		return true
	}

	return slices.ContainsFunc(r.cfg.Routes.Pools, func(p Pool) bool { return p.Name == name }) ||
		slices.ContainsFunc(r.cfg.Routes.VirtualMTAs, func(v VirtualMTA) bool { return v.Name == name })
}

// binding returns how events name where mail leaves from: the VirtualMTA, its
// pool and its address.
func (r *Relay) binding(name string) (binding, group, ip string) {
	for _, v := range r.cfg.Routes.VirtualMTAs {
		if v.Name == name {
			return v.Name, v.Pool, v.SourceHost
		}
	}
	for _, p := range r.cfg.Routes.Pools {
		if p.Name == name {
			return "", p.Name, ""
		}
	}

	return name, "", ""
}

// trackingFor decides on opens, initial opens and clicks, each by the first that
// says something: the user that is not tracked, X-MSYS-API, the rule of the
// sending domain, the default. The tracking host of a rule is only for users
// that may send as the domain.
func (r *Relay) trackingFor(u User, h *headers) Tracking {
	t := r.cfg.Tracking.Default
	domain := h.origin.domain()

	pattern := func(t TrackingRule) string { return t.Pattern }
	if rule := mostSpecific(r.cfg.Tracking.Rules, domain, pattern); rule != nil {
		if rule.URL != "" && r.mayUse(u, domain) {
			t.URL = rule.URL
		}
		choose(&t.Open, rule.Open)
		choose(&t.InitialOpen, rule.InitialOpen)
		choose(&t.Click, rule.Click)
	}

	in := &h.instructions
	choose(&t.Open, in.OpenTracking)
	if in.OpenTracking != nil && !*in.OpenTracking {
		t.InitialOpen = false
	}
	choose(&t.InitialOpen, in.InitialOpen)
	choose(&t.Click, in.ClickTracking)

	if !u.Tracking {
		return Tracking{URL: t.URL}
	}
	return t
}

// choose sets a decision, unless v leaves it open.
func choose(to, v *bool) {
	if v != nil {
		*to = *v
	}
}

// mostSpecific returns the rule whose pattern matches a domain best: exactly,
// else the longest; nil if there is none.
func mostSpecific[T any](rules []T, domain string, pattern func(T) string) *T {
	var best *T
	for i := range rules {
		p := pattern(rules[i])

		switch {
		case !envelope.MatchDomain(p, domain):
		case envelope.ASCIIDomain(p) == envelope.ASCIIDomain(domain):
			return &rules[i]
		case best == nil || len(p) > len(pattern(*best)):
			best = &rules[i]
		}
	}

	return best
}
