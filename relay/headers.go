package relay

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/relay/dialect"
	"postern/relay/message"
	"postern/relay/reply"
)

// HeaderNames are the names of the fields that talk to PowerMTA; each has a
// key in the configuration.
type HeaderNames struct {
	MessageID  string
	Job        string
	VirtualMTA string
	Subaccount string
}

// neverLeave are the fields that no recipient and no upstream gets to see.
var neverLeave = []string{"X-MSYS-API", "X-DKIM-Key", "X-DKIM-Options", "Bcc", "Resent-Bcc", "Return-Path"}

// policy is what the header policy made of a message's header block.
type policy struct {
	header       []byte // the new block, but for what differs between copies
	origin       originators
	subject      string
	job          string
	virtualMTA   string
	subaccount   uint32
	envid        string               // of X-Envid
	instructions dialect.Instructions // of X-MSYS-API
	hasDate      bool
	hasMsgID     bool
	hasUnsub     bool // List-Unsubscribe

	jobSeen, vmtaSeen, msysSeen bool
}

// maxFields bounds the number of a message's header fields.
const maxFields = 2000

// applyPolicy walks over the header once: each field stays as it is, but for
// those that the gateway removes or changes. Of several X-Job the first
// counts, the others go; so for X-Virtual-MTA.
func (r *Relay) applyPolicy(header []byte, u User) (policy, error) {
	fields := message.Fields(header)
	if len(fields) > maxFields {
		text := fmt.Sprintf("Message has more than %d header fields", maxFields)
		return policy{}, reply.Refuse(550, reply.EnhancedCode{5, 6, 0}, text)
	}

	p := policy{header: make([]byte, 0, len(header)+256), subaccount: u.Subaccount}
	var sender, from []string
	for _, f := range fields {
		switch {
		case f.Name == "":
		case r.cfg.Headers.MsysAPI && f.Is("X-MSYS-API"):
			if err := p.takeMsysAPI(f); err != nil {
				return policy{}, err
			}
			continue
		case f.Is(r.cfg.Headers.Names.Subaccount):
			r.takeSubaccount(&p, f, u)
			continue
		case r.goes(f):
			if f.Is("X-Envid") {
				p.envid = f.Value()
			}
			continue
		case f.Is(r.cfg.Headers.Names.Job):
			if !p.jobSeen {
				p.jobSeen = true
				p.job = jobFromHeader(f.Value(), u.JobPrefix)
				p.appendJob(r, f)
			}
			continue
		case f.Is(r.cfg.Headers.Names.VirtualMTA):
			if p.vmtaSeen {
				continue
			}
			p.vmtaSeen, p.virtualMTA = true, f.Value()
		case f.Is("X-Envid"):
			p.envid = f.Value()
		case f.Is("From"):
			from = append(from, f.Value())
		case f.Is("Sender"):
			sender = append(sender, f.Value())
		case f.Is("Subject") && p.subject == "":
			p.subject = f.Value()
		case f.Is("Date"):
			p.hasDate = true
		case f.Is("Message-ID"):
			p.hasMsgID = true
		case f.Is("List-Unsubscribe"):
			p.hasUnsub = true
		}
		p.header = append(p.header, f.Raw...)
	}

	p.origin = readOriginators(from, sender)
	return p, r.addFields(&p, u)
}

// addFields adds the fields for PowerMTA that the message does not have.
func (r *Relay) addFields(p *policy, u User) error {
	if !p.jobSeen {
		job := u.Job
		if p.instructions.CampaignID != "" {
			job = p.instructions.CampaignID
		}

		p.job = jobFromHeader(job, u.JobPrefix)
		if p.job != "" && r.cfg.Headers.PowerMTA {
			p.add(r.cfg.Headers.Names.Job, p.job)
		}
	}

	if !p.vmtaSeen {
		p.virtualMTA = u.VirtualMTA
		if p.instructions.IPPool != "" {
			p.virtualMTA = p.instructions.IPPool
		}

		if p.virtualMTA != "" && !isToken(p.virtualMTA) {
			return dialect.RefuseMsysAPI("ip_pool is not the name of a VirtualMTA")
		}
		if p.virtualMTA != "" && r.cfg.Headers.PowerMTA {
			p.add(r.cfg.Headers.Names.VirtualMTA, p.virtualMTA)
		}
	}

	if len(p.virtualMTA) > maxVirtualMTA {
		text := fmt.Sprintf("The name of a VirtualMTA is longer than %d bytes", maxVirtualMTA)
		return reply.Refuse(550, reply.EnhancedCode{5, 6, 0}, text)
	}
	if p.virtualMTA != "" && !r.knownVirtualMTA(p.virtualMTA) {
		text := reply.CleanText(fmt.Sprintf("Unknown VirtualMTA %.100q", p.virtualMTA))
		return reply.Refuse(550, reply.EnhancedCode{5, 6, 0}, text)
	}

	if p.subaccount > 0 && r.cfg.Headers.PowerMTA && r.cfg.Headers.Names.Subaccount != "" {
		p.add(r.cfg.Headers.Names.Subaccount, strconv.FormatUint(uint64(p.subaccount), 10))
	}
	return nil
}

// maxVirtualMTA bounds the name of a VirtualMTA or pool, in bytes.
const maxVirtualMTA = 255

// isToken reports whether s is printable ASCII without white space, as names of
// VirtualMTAs are.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// takeMsysAPI reads X-MSYS-API, which a message may have once.
func (p *policy) takeMsysAPI(f message.Field) error {
	if p.msysSeen {
		return dialect.RefuseMsysAPI("the field stands twice")
	}

	p.msysSeen = true

	var err error
	p.instructions, err = dialect.ParseMsysAPI(f.Raw)
	return err
}

// takeSubaccount reads X-Sp-Subaccount-Id: the user's own comes first, for it
// is an account's boundary; an invalid one goes, with a log line.
func (r *Relay) takeSubaccount(p *policy, f message.Field, u User) {
	n, err := strconv.ParseUint(f.Value(), 10, 32)
	if err != nil || n == 0 {
		r.cfg.Log.Warn("invalid subaccount header removed", "user", u.Name, "value", reply.CleanText(f.Value()))
		return
	}

	if p.subaccount == 0 {
		p.subaccount = uint32(n)
	}
}

// goes reports whether a field is removed: those that never leave, those that
// only the gateway may set, and those that only PowerMTA would remove where the
// upstream is another.
func (r *Relay) goes(f message.Field) bool {
	if slices.ContainsFunc(neverLeave, f.Is) || f.Is(r.cfg.Headers.Names.MessageID) {
		return true
	}
	if r.cfg.Headers.PowerMTA {
		return false
	}

	return f.Is(r.cfg.Headers.Names.VirtualMTA) || f.Is("X-Envid") ||
		len(f.Name) > 5 && strings.EqualFold(f.Name[:5], "X-Sp-")
}

// appendJob puts the safe X-Job where the message had its own: with the very
// bytes that came, where they are safe already.
func (p *policy) appendJob(r *Relay, f message.Field) {
	if p.job == "" || !r.cfg.Headers.PowerMTA {
		return
	}

	value := strings.TrimPrefix(string(f.Raw), f.Name+":")
	if strings.TrimSuffix(strings.TrimPrefix(value, " "), "\r\n") == p.job {
		p.header = append(p.header, f.Raw...)
		return
	}

	p.add(f.Name, p.job)
}

// add appends a field; value is printable ASCII by then.
func (p *policy) add(name, value string) {
	p.endLine()
	p.header = append(p.header, name+": "+value+"\r\n"...)
}

// endLine ends the last line of the block where the message did not.
func (p *policy) endLine() {
	if len(p.header) > 0 && !bytes.HasSuffix(p.header, []byte("\r\n")) {
		p.header = append(p.header, "\r\n"...)
	}
}

// complete adds what a submission server adds where it is missing (RFC 6409
// sections 8.2 and 8.3), for whoever adds it later would break the signature,
// and the end of the last line.
func (p *policy) complete(hostname string, now time.Time) {
	p.endLine()

	if !p.hasDate {
		p.add("Date", now.Format(time.RFC1123Z))
	}
	if !p.hasMsgID {
		var b [16]byte
		rand.Read(b[:])
		p.add("Message-ID", "<"+hex.EncodeToString(b[:])+"@"+hostname+">")
	}
}

// receivedField is the trace field of RFC 5321 section 4.4, as the
// configuration wants it.
func (r *Relay) receivedField(s *Submission, now time.Time) []byte {
	var from string
	switch r.cfg.Headers.Received {
	case "off":
		return nil
	case "anonymous":
	default:
		ip := s.Remote.Addr().Unmap()
		literal := ip.String()
		if ip.Is6() {
			literal = "IPv6:" + literal
		}
		from = fmt.Sprintf("from %s ([%s])\r\n\t", safeHelo(s.Helo), literal)
	}

	secure := ""
	if s.TLS != "" {
		secure = " (" + s.TLS + ")"
	}

	return fmt.Appendf(nil, "Received: %sby %s with %s%s id %s;\r\n\t%s\r\n",
		from, r.cfg.Hostname, s.Protocol, secure, s.Session, now.Format(time.RFC1123Z))
}

const maxHelo = 255

// safeHelo returns what a client calls itself, without anything that could end
// the field or begin a comment.
func safeHelo(h string) string {
	h = strings.Map(func(c rune) rune {
		if c > ' ' && c <= '~' && !strings.ContainsRune(`()<>"\;`, c) {
			return c
		}
		return -1
	}, h)

	if h == "" {
		return "unknown"
	}

	return h[:min(len(h), maxHelo)]
}
