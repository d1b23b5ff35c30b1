package relay

import "slices"

// Enable is what a level (a VirtualMTA, a pool, Signals) says of reporting, as
// PowerMTA's enable-signals does.
type Enable string

// The values of enable_signals.
const (
	EnableUnset  Enable = "" // the next level decides
	EnableTrue   Enable = "true"
	EnableFalse  Enable = "false"
	EnableFilter Enable = "filter" // the filters decide
)

// SignalsFilter decides for the mail of a sending domain, at levels that say
// "filter".
type SignalsFilter struct {
	Pattern    string
	Enable     bool
	Subaccount uint32
}

// Signals holds the last level of reporting, and the filters.
type Signals struct {
	Enable     Enable
	Subaccount uint32
	Filters    []SignalsFilter
}

// reportLevel is what one level says of reporting.
type reportLevel struct {
	enable     Enable
	subaccount uint32
}

// reporting reports whether a message's events are reported, and for which
// subaccount where neither the user nor the message named one. The first of
// VirtualMTA, pool and Signals that says something decides. Where it says
// "filter", the most specific filter does; without one, nothing is reported.
// The subaccount of a filter is only for users that may send as the domain.
func (r *Relay) reporting(u User, h *headers) (report bool, subaccount uint32) {
	levels := r.reportLevels(h.virtualMTA)
	report = true
	subaccount = h.subaccount

	decides := slices.IndexFunc(levels, func(l reportLevel) bool { return l.enable != EnableUnset })
	if decides >= 0 {
		report = levels[decides].enable == EnableTrue
	}
	if decides >= 0 && levels[decides].enable == EnableFilter {
		domain := h.origin.domain()
		pattern := func(f SignalsFilter) string { return f.Pattern }
		if f := mostSpecific(r.cfg.Signals.Filters, domain, pattern); f != nil {
			report = f.Enable
			if subaccount == 0 && r.mayUse(u, domain) {
				subaccount = f.Subaccount
			}
		}
	}

	for _, l := range levels {
		if subaccount == 0 {
			subaccount = l.subaccount
		}
	}
	return report, subaccount
}

// reportLevels returns the levels that a VirtualMTA or pool falls under, the
// most specific one first.
func (r *Relay) reportLevels(virtualMTA string) []reportLevel {
	levels := make([]reportLevel, 0, 3)

	pool := virtualMTA
	for _, v := range r.cfg.Routes.VirtualMTAs {
		if v.Name == virtualMTA {
			levels = append(levels, reportLevel{v.Enable, v.Subaccount})
			pool = v.Pool
		}
	}
	for _, p := range r.cfg.Routes.Pools {
		if p.Name == pool {
			levels = append(levels, reportLevel{p.Enable, p.Subaccount})
		}
	}

	return append(levels, reportLevel{r.cfg.Signals.Enable, r.cfg.Signals.Subaccount})
}
