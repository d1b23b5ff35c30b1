package relay

// Enable is what a level says of reporting: nothing, true, false, or "ask the
// filter" (PowerMTA's enable-signals).
type Enable string

// The values of enable_signals.
const (
	EnableUnset  Enable = ""
	EnableTrue   Enable = "true"
	EnableFalse  Enable = "false"
	EnableFilter Enable = "filter"
)

// SignalsFilter decides by sending domain, for levels that say "filter".
type SignalsFilter struct {
	Pattern    string
	Enable     bool
	Subaccount uint32
}

// Signals is the last level, and the filters.
type Signals struct {
	Enable     Enable
	Subaccount uint32
	Filters    []SignalsFilter
}

// reporting reports whether a message's events are reported, and its subaccount
// where neither the user nor the message named one: the first of VirtualMTA,
// pool and [signals] that says something decides; where it says "filter", the
// most specific pattern does, none meaning no. A filter's subaccount is for
// those only who may send as the domain.
func (r *Relay) reporting(u User, p *policy) (report bool, sub uint32) {
	sender, subaccount := p.origin.domain(), p.subaccount

	type level struct {
		enable     Enable
		subaccount uint32
	}

	levels := make([]level, 0, 3)
	pool := p.virtualMTA
	for _, v := range r.cfg.Routes.VirtualMTAs {
		if v.Name == p.virtualMTA {
			levels = append(levels, level{v.Enable, v.Subaccount})
			pool = v.Pool
		}
	}
	for _, p := range r.cfg.Routes.Pools {
		if p.Name == pool {
			levels = append(levels, level{p.Enable, p.Subaccount})
		}
	}
	levels = append(levels, level{r.cfg.Signals.Enable, r.cfg.Signals.Subaccount})

	report = true
	for _, l := range levels {
		if l.enable == EnableUnset {
			continue
		}

		report = l.enable == EnableTrue
		if l.enable == EnableFilter {
			if f := mostSpecific(r.cfg.Signals.Filters, sender, func(f SignalsFilter) string { return f.Pattern }); f != nil {
				report = f.Enable
				if subaccount == 0 && r.mayUse(u, sender) {
					subaccount = f.Subaccount
				}
			}
		}
		break
	}

	for _, l := range levels {
		if subaccount == 0 {
			subaccount = l.subaccount
		}
	}
	return report, subaccount
}
