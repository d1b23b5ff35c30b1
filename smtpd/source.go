package smtpd

import (
	"net/netip"

	"postern/relay"
)

// SourceRule says who need not authenticate, by network. The first that
// matches counts; where none does, AUTH is required.
type SourceRule struct {
	Network     netip.Prefix
	RequireAuth bool
	User        string // whose settings apply
}

// sourceUser gives the user whose settings apply to who comes from an address
// without authenticating; nil: nobody's.
func (s *Server) sourceUser(ip netip.Addr) *relay.User {
	if s.c.Reports != nil {
		return nil
	}

	ip = ip.Unmap().WithZone("")
	for _, r := range s.c.Sources {
		if !r.Network.Contains(ip) {
			continue
		}

		if r.RequireAuth || s.c.Directory == nil {
			return nil
		}
		if u, ok := s.c.Directory.Lookup(r.User); ok {
			return &u
		}

		s.c.Log.Error("a source rule names a user that is not there", "user", r.User)

		return nil
	}

	return nil
}
