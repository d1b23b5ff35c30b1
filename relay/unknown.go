package relay

import (
	"postern/relay/reply"
)

// unknownKind is a kind of name that a message may ask for something by.
type unknownKind string

const (
	unknownKey        unknownKind = "x_msys_api"
	unknownPool       unknownKind = "ip_pool"
	unknownVirtualMTA unknownKind = "virtual_mta"
)

var unknownKinds = []unknownKind{unknownKey, unknownPool, unknownVirtualMTA}

// maxUnknownName bounds what is logged of a name that is not known, in bytes.
const maxUnknownName = 64

// noteUnknown counts what a message asks for by names that nobody knows, and
// logs each name at most once a minute. Nothing is refused for them.
func (r *Relay) noteUnknown(s *Submission, p *policy) {
	for _, key := range p.instructions.UnknownKeys {
		r.noteName(s, unknownKey, key, "X-MSYS-API has a key that is not known here; nothing is made of it")
	}

	if len(r.cfg.Routes.Pools)+len(r.cfg.Routes.VirtualMTAs) > 0 || p.virtualMTA == "" {
		return // names are checked, or there is none
	}

	what := "; it goes to PowerMTA as it is"
	if !r.cfg.Headers.PowerMTA {
		what = "; the upstream is not PowerMTA, and nothing is made of it"
	}

	switch {
	case p.vmtaSeen:
		r.noteName(s, unknownVirtualMTA, p.virtualMTA, "no VirtualMTA is configured, so that none is known by this name"+what)
	case p.instructions.IPPool != "":
		r.noteName(s, unknownPool, p.virtualMTA, "no pool is configured, so that none is known by this name"+what)
	}
}

func (r *Relay) noteName(s *Submission, kind unknownKind, name, text string) {
	r.unknown.WithLabelValues(string(kind)).Inc()

	name = reply.CleanLine(name, maxUnknownName)
	if r.names.due(string(kind)+" "+name, r.cfg.Now()) {
		r.cfg.Log.Warn(text, "kind", string(kind), "name", name, "session", s.Session, "user", s.User.Name)
	}
}
