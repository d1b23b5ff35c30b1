package relay

import (
	"postern/relay/reply"
)

// unknownKind is a kind of names that messages use.
type unknownKind string

const (
	unknownKey        unknownKind = "x_msys_api"
	unknownPool       unknownKind = "ip_pool"
	unknownVirtualMTA unknownKind = "virtual_mta"
)

var unknownKinds = []unknownKind{unknownKey, unknownPool, unknownVirtualMTA}

// maxUnknownName bounds what is logged of a name that is not known, in bytes.
const maxUnknownName = 64

// noteUnknown counts the unknown names in a message, and logs each of them at
// most once a minute. Nothing is refused for them.
func (r *Relay) noteUnknown(s *Submission, h *headers) {
	for _, key := range h.instructions.UnknownKeys {
		r.noteName(s, unknownKey, key, "unknown key in X-MSYS-API is ignored")
	}

	if len(r.cfg.Routes.Pools)+len(r.cfg.Routes.VirtualMTAs) > 0 || h.virtualMTA == "" {
		return // names are checked, or there is none
	}

	fate := "passed to PowerMTA as it is"
	if !r.cfg.Headers.PowerMTA {
		fate = "ignored, the upstream is not PowerMTA"
	}

	switch {
	case h.ownVirtualMTA:
		r.noteName(s, unknownVirtualMTA, h.virtualMTA, "no VirtualMTA is configured; the name is "+fate)
	case h.instructions.IPPool != "":
		r.noteName(s, unknownPool, h.virtualMTA, "no pool is configured; the name is "+fate)
	}
}

func (r *Relay) noteName(s *Submission, kind unknownKind, name, text string) {
	r.unknown.WithLabelValues(string(kind)).Inc()

	name = reply.CleanLine(name, maxUnknownName)
	if r.names.due(string(kind)+" "+name, r.cfg.Now()) {
		r.cfg.Log.Warn(text, "kind", string(kind), "name", name, "session", s.Session, "user", s.User.Name)
	}
}
