package relay

import (
	"encoding/json"
	"slices"
	"strings"

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

// Limits on names that are not known.
const (
	maxUnknownName = 64 // bytes that are logged
	maxUnknownKeys = 20 // of one message
)

// msysKeys are the keys of X-MSYS-API that are acted upon, and msysOptions those
// of its options. JSON's keys are matched whatever their case.
var (
	msysKeys    = []string{"campaign_id", "metadata", "tags", "options", "cc", "bcc", "archive"}
	msysOptions = []string{"open_tracking", "initial_open", "click_tracking", "transactional", "ip_pool", "dkim_key"}
)

// unknownMsysKeys returns the keys of X-MSYS-API that nothing is made of, in
// order; options' with "options." in front.
func unknownMsysKeys(value []byte) []string {
	fields := objectFields(value)

	var unknown []string
	for key, raw := range fields {
		if !known(msysKeys, key) {
			unknown = append(unknown, key)
			continue
		}
		if !strings.EqualFold(key, "options") {
			continue
		}
		for option := range objectFields(raw) {
			if !known(msysOptions, option) {
				unknown = append(unknown, "options."+option)
			}
		}
	}
	slices.Sort(unknown)

	return unknown[:min(len(unknown), maxUnknownKeys)]
}

// objectFields returns the fields of a JSON object; what is not one has none.
func objectFields(value []byte) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(value, &fields)
	return fields
}

func known(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}

// noteUnknown counts what a message asks for by names that nobody knows, and
// logs each name at most once a minute. Nothing is refused for them.
func (r *Relay) noteUnknown(s *Submission, p *policy) {
	if p.api != nil {
		for _, key := range p.api.unknown {
			r.noteName(s, unknownKey, key, "X-MSYS-API has a key that is not known here; nothing is made of it")
		}
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
	case p.api != nil && p.api.Options.IPPool != "":
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
