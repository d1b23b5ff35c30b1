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

// HeaderNames are the names of the fields that PowerMTA reads; each is a key in
// the configuration.
type HeaderNames struct {
	MessageID  string
	Job        string
	VirtualMTA string
	Subaccount string
}

// strippedFields are the fields that neither recipients nor the upstream get
// to see.
var strippedFields = []string{
	"X-MSYS-API",
	"X-DKIM-Key",
	"X-DKIM-Options",
	"Bcc",
	"Resent-Bcc",
	"Return-Path",
}

// Limits on a message's header.
const (
	maxFields     = 2000
	maxVirtualMTA = 255 // bytes of the name of a VirtualMTA or pool
)

// headers is what the header policy makes of a message's header.
type headers struct {
	block        []byte // the new header, but for what differs between copies
	eightBit     bool   // the header came with 8-bit text
	origin       originators
	subject      string
	job          string
	subaccount   uint32 // of the user, else of the message; 0: none
	envid        string // of X-Envid
	instructions dialect.Instructions

	virtualMTA    string
	ownVirtualMTA bool // the message names it in a field

	hasDate            bool
	hasMessageID       bool
	hasListUnsubscribe bool
}

// headerWalk is one walk over a header. Each field is kept byte for byte, but
// for those that the gateway removes or changes.
type headerWalk struct {
	r    *Relay
	user User
	out  headers

	from    occurrence
	sender  occurrence
	hasJob  bool
	hasMsys bool
}

// applyPolicy applies the header policy. Of several X-Job the first counts and
// the others are removed; the same holds for X-Virtual-MTA.
func (r *Relay) applyPolicy(header []byte, u User) (headers, error) {
	fields := message.Fields(header)
	if len(fields) > maxFields {
		return headers{}, refuseHeader("Message has more than %d header fields", maxFields)
	}

	w := headerWalk{r: r, user: u}
	w.out.block = make([]byte, 0, len(header)+256)
	w.out.eightBit = message.HasEightBit(header)
	w.out.subaccount = u.Subaccount
	for _, f := range fields {
		if err := w.walk(f); err != nil {
			return headers{}, err
		}
	}
	w.out.origin = readOriginators(w.from, w.sender)

	w.addJob()
	if err := w.addVirtualMTA(); err != nil {
		return headers{}, err
	}
	w.addSubaccount()

	return w.out, nil
}

func refuseHeader(format string, args ...any) error {
	text := reply.CleanText(fmt.Sprintf(format, args...))
	return reply.Refuse(550, reply.EnhancedCode{5, 6, 0}, text)
}

// walk keeps, changes or removes one field.
func (w *headerWalk) walk(f message.Field) error {
	cfg := &w.r.cfg.Headers

	switch {
	case f.Name == "":
	case cfg.MsysAPI && f.Is("X-MSYS-API"):
		return w.readMsysAPI(f)
	case f.Is(cfg.Names.Subaccount):
		w.readSubaccount(f)
		return nil
	case w.r.isStripped(f):
		if f.Is("X-Envid") {
			w.out.envid = f.Value()
		}
		return nil
	case f.Is(cfg.Names.Job):
		w.readJob(f)
		return nil
	case f.Is(cfg.Names.VirtualMTA):
		if w.out.ownVirtualMTA {
			return nil
		}
		w.out.ownVirtualMTA = true
		w.out.virtualMTA = f.Value()
	default:
		w.note(f)
	}

	w.out.block = append(w.out.block, f.Raw...)
	return nil
}

// note remembers what later stages need of a field that is kept.
func (w *headerWalk) note(f message.Field) {
	switch {
	case f.Is("From"):
		w.from.add(f)
	case f.Is("Sender"):
		w.sender.add(f)
	case f.Is("X-Envid"):
		w.out.envid = f.Value()

	case f.Is("Subject") && w.out.subject == "":
		w.out.subject = f.Value()
	case f.Is("Date"):
		w.out.hasDate = true
	case f.Is("Message-ID"):
		w.out.hasMessageID = true
	case f.Is("List-Unsubscribe"):
		w.out.hasListUnsubscribe = true
	}
}

// isStripped reports whether a field is removed: those that recipients must not
// see, those that only the gateway may set and, if the upstream is not PowerMTA,
// those that only PowerMTA would remove.
func (r *Relay) isStripped(f message.Field) bool {
	names := &r.cfg.Headers.Names
	if slices.ContainsFunc(strippedFields, f.Is) || f.Is(names.MessageID) {
		return true
	}
	if r.cfg.Headers.PowerMTA {
		return false
	}

	return f.Is(names.VirtualMTA) || f.Is("X-Envid") ||
		len(f.Name) > 5 && strings.EqualFold(f.Name[:5], "X-Sp-")
}

// readMsysAPI reads X-MSYS-API, which a message may have once.
func (w *headerWalk) readMsysAPI(f message.Field) error {
	if w.hasMsys {
		return dialect.RefuseMsysAPI("the field stands twice")
	}
	w.hasMsys = true

	var err error
	w.out.instructions, err = dialect.ParseMsysAPI(f.Raw)
	return err
}

// readSubaccount reads X-Sp-Subaccount-Id. The user's own subaccount has
// precedence, for it separates accounts; an invalid one is logged and ignored.
func (w *headerWalk) readSubaccount(f message.Field) {
	n, err := strconv.ParseUint(f.Value(), 10, 32)
	if err != nil || n == 0 {
		w.r.cfg.Log.Warn("invalid subaccount header removed",
			"user", w.user.Name, "value", reply.CleanText(f.Value()))
		return
	}

	if w.out.subaccount == 0 {
		w.out.subaccount = uint32(n)
	}
}

// readJob replaces X-Job by one with a safe value, byte for byte the same if it
// is safe already.
func (w *headerWalk) readJob(f message.Field) {
	if w.hasJob {
		return
	}
	w.hasJob = true

	w.out.job = jobFromHeader(f.Value(), w.user.JobPrefix)
	if w.out.job == "" || !w.r.cfg.Headers.PowerMTA {
		return
	}

	value := strings.TrimPrefix(string(f.Raw), f.Name+":")
	if strings.TrimSuffix(strings.TrimPrefix(value, " "), "\r\n") == w.out.job {
		w.out.block = append(w.out.block, f.Raw...)
		return
	}
	w.out.add(f.Name, w.out.job)
}

// addJob adds X-Job to a message that has none.
func (w *headerWalk) addJob() {
	if w.hasJob {
		return
	}

	job := w.user.Job
	if campaign := w.out.instructions.CampaignID; campaign != "" {
		job = campaign
	}

	w.out.job = jobFromHeader(job, w.user.JobPrefix)
	if w.out.job != "" && w.r.cfg.Headers.PowerMTA {
		w.out.add(w.r.cfg.Headers.Names.Job, w.out.job)
	}
}

// addVirtualMTA adds X-Virtual-MTA to a message that has none, and refuses a
// VirtualMTA that may not be used.
func (w *headerWalk) addVirtualMTA() error {
	if !w.out.ownVirtualMTA {
		w.out.virtualMTA = w.user.VirtualMTA
		if pool := w.out.instructions.IPPool; pool != "" {
			w.out.virtualMTA = pool
		}
		if w.out.virtualMTA == "" {
			return nil
		}

		if !isToken(w.out.virtualMTA) {
			return dialect.RefuseMsysAPI("ip_pool is not the name of a VirtualMTA")
		}
		if w.r.cfg.Headers.PowerMTA {
			w.out.add(w.r.cfg.Headers.Names.VirtualMTA, w.out.virtualMTA)
		}
	}

	name := w.out.virtualMTA
	if len(name) > maxVirtualMTA {
		return refuseHeader("The name of a VirtualMTA is longer than %d bytes", maxVirtualMTA)
	}
	if name != "" && !w.r.knownVirtualMTA(name) {
		return refuseHeader("Unknown VirtualMTA %.100q", name)
	}
	return nil
}

// addSubaccount adds X-Sp-Subaccount-Id, which PowerMTA reads.
func (w *headerWalk) addSubaccount() {
	name := w.r.cfg.Headers.Names.Subaccount
	if w.out.subaccount == 0 || name == "" || !w.r.cfg.Headers.PowerMTA {
		return
	}

	w.out.add(name, strconv.FormatUint(uint64(w.out.subaccount), 10))
}

// isToken reports whether s is printable ASCII without white space, as the names
// of VirtualMTAs are.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}

	return s != ""
}

// isPrintable reports whether s may be an ENVID (RFC 3461 section 4.4).
func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}

	return s != "" && len(s) <= 100
}

// add appends a field. The value has to be printable ASCII.
func (h *headers) add(name, value string) {
	h.endLine()
	h.block = append(h.block, name+": "+value+"\r\n"...)
}

// endLine ends the last line of the block if the message did not.
func (h *headers) endLine() {
	if len(h.block) > 0 && !bytes.HasSuffix(h.block, []byte("\r\n")) {
		h.block = append(h.block, "\r\n"...)
	}
}

// complete ends the last line and adds Date and Message-ID where they are
// missing (RFC 6409 sections 8.2 and 8.3). A server that added them later would
// break the signature.
func (h *headers) complete(hostname string, now time.Time) {
	h.endLine()

	if !h.hasDate {
		h.add("Date", now.Format(time.RFC1123Z))
	}
	if !h.hasMessageID {
		var b [16]byte
		rand.Read(b[:])
		h.add("Message-ID", "<"+hex.EncodeToString(b[:])+"@"+hostname+">")
	}
}

// withoutStripped returns a header without strippedFields.
func withoutStripped(header []byte) []byte {
	out := make([]byte, 0, len(header))
	for _, f := range message.Fields(header) {
		if !slices.ContainsFunc(strippedFields, f.Is) {
			out = append(out, f.Raw...)
		}
	}

	return out
}

// receivedField returns the trace field (RFC 5321 section 4.4) as the
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

const maxHelo = 255 // bytes

// safeHelo returns what a client calls itself, without characters that could
// end the field or begin a comment.
func safeHelo(helo string) string {
	helo = strings.Map(func(c rune) rune {
		if c > ' ' && c <= '~' && !strings.ContainsRune(`()<>"\;`, c) {
			return c
		}
		return -1
	}, helo)

	if helo == "" {
		return "unknown"
	}
	return helo[:min(len(helo), maxHelo)]
}
