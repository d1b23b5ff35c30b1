package report

import (
	"regexp"
	"strings"

	"postern/tracking/event"
)

// fields is a group of fields with names in lower case. Of several fields with one
// name it has the first.
type fields map[string]string

// maxFieldValue is the length in bytes from which a field gets no more continuation
// lines.
const maxFieldValue = 8 << 10

// groups parses groups of fields, separated by blank lines (RFC 3464, section 2.1).
// Lines that are neither a field nor a continuation are ignored.
func groups(text string) []fields {
	var out []fields
	cur, last := fields{}, ""
	flush := func() {
		if len(cur) > 0 {
			out = append(out, cur)
		}
		cur, last = fields{}, ""
	}

	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			flush()
			continue
		}

		if line[0] == ' ' || line[0] == '\t' {
			if last != "" && len(cur[last]) < maxFieldValue {
				cur[last] += " " + strings.TrimSpace(line)
			}

			continue
		}

		name, value, ok := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || strings.ContainsAny(name, " \t<>@") {
			last = ""
			continue
		}

		if name == "final-recipient" && cur[name] != "" { // a blank line is missing
			flush()
		}

		last = name
		if _, twice := cur[name]; twice {
			last = "" // ignore its continuations, too
			continue
		}
		cur[name] = strings.TrimSpace(value)
	}
	flush()

	return out
}

// statusParts reads the machine-readable parts of a delivery status notification
// (RFC 3464), unless a person forwarded it.
func (r *Report) statusParts(m *structure) bool {
	if !fromMailSystem(m) {
		return false
	}

	found := false
	for _, p := range m.parts {
		if p.isStatus() {
			found = r.statusGroups(groups(string(p.body))) || found
		}
	}

	if found {
		r.enrich(m.text())
	}

	return found
}

// refusal reads a message disposition notification which says that the message was
// refused (RFC 5429).
func (r *Report) refusal(m *structure) bool {
	if !m.isRefusal() {
		return false
	}

	for _, p := range m.parts {
		if !p.isDisposition() {
			continue
		}

		for _, g := range groups(string(p.body)) {
			if a := addressOf(g["final-recipient"]); strings.Contains(a, "@") {
				r.add(Recipient{
					Kind:       Bounce,
					Original:   addressOf(g["original-recipient"]),
					Final:      a,
					Diagnostic: event.Clip(m.text(), maxDiagnostic),
					isContext:  true,
				})
			}
		}
	}

	r.setKind()

	return r.Kind == Bounce
}

// statusInText reads the fields of a delivery status notification from the text of
// a mail.
func (r *Report) statusInText(m *structure) bool {
	text := m.text()
	low := strings.ToLower(text)
	if !strings.Contains(low, "final-recipient:") || !strings.Contains(low, "status:") || !fromMailSystem(m) {
		return false
	}

	return r.statusGroups(groups(text))
}

// statusGroups adds the recipients of groups of fields, and reports whether there are
// any. Some systems write a group twice, or quote the report within itself.
func (r *Report) statusGroups(gs []fields) bool {
	before := len(r.Recipients)
	named := map[string]bool{}
	var open *fields // group of the last recipient, which may continue

	for _, g := range gs {
		if id := g["original-envelope-id"]; id != "" && r.OriginalEnvelopeID == "" {
			r.OriginalEnvelopeID = id
		}

		_, final := g["final-recipient"]
		_, original := g["original-recipient"]
		if !final && !original {
			// The group of a recipient goes on behind a blank line.
			if open != nil && len(r.Recipients) > before && (g["status"] != "" || g["diagnostic-code"] != "") {
				for k, v := range g {
					if (*open)[k] == "" {
						(*open)[k] = v
					}
				}
				r.Recipients[len(r.Recipients)-1] = recipientOf(*open)
			}

			continue
		}

		if g["action"] == "" && g["status"] == "" && g["diagnostic-code"] == "" && !final {
			continue
		}

		open = &g
		c := recipientOf(g)
		key := strings.ToLower(c.Final + " " + c.Original + " " + string(c.Kind))
		if !named[key] && len(named) < maxRecipients {
			named[key] = true
			r.add(c)
		}
	}
	r.setKind()

	return len(r.Recipients) > before
}

// recipientOf returns the recipient of a group of fields.
func recipientOf(g fields) Recipient {
	c := Recipient{
		Final:      addressOf(g["final-recipient"]),
		Status:     cleanStatus(g["status"]),
		Diagnostic: typed(g["diagnostic-code"]),
	}
	if info := g["x400-supplementary-info"]; info != "" {
		c.Diagnostic = strings.TrimSpace(c.Diagnostic + " " + info)
	}
	if c.Diagnostic == "" {
		c.Diagnostic = comment(g["status"])
	}
	if o := g["original-recipient"]; o != "" {
		c.Original = addressOf(o)
	}
	if c.Final == "" {
		if a := addressOf(g["x-actual-recipient"]); strings.Contains(a, "@") {
			c.Final = a
		}
	}

	switch keyword(g["action"]) {
	case "failed", "failure", "fail", "bounced", "error":
		c.Kind = Bounce
	case "delayed", "deferred", "delay":
		c.Kind = Delay
	case "delivered", "relayed", "expanded", "delivery":
		c.Kind = Delivered
	default:
		c.Kind = Bounce
		if strings.HasPrefix(c.Status, "2") {
			c.Kind = Delivered
		}
	}

	return c
}

// fewWords is the length in bytes up to which a diagnostic says next to nothing.
const fewWords = 12

// enrich adds what the text for people says of recipients of which the fields say
// next to nothing.
func (r *Report) enrich(text string) {
	var said []Recipient
	for i := range r.Recipients {
		c := &r.Recipients[i]
		if c.Kind == Delivered || replyCode(c.Diagnostic) != "" || len(c.Diagnostic) > fewWords {
			continue
		}

		if said == nil {
			said = noticeRecipients(text)
			if said == nil {
				said = []Recipient{}
			}
		}

		for _, s := range said {
			named := strings.EqualFold(s.Final, c.Final) || strings.EqualFold(s.Final, c.Original)
			if named || len(said) == 1 && len(r.Recipients) == 1 {
				c.Diagnostic = strings.TrimSpace(c.Diagnostic + " " + s.Diagnostic)
				break
			}
		}

		if c.Diagnostic == "" && len(r.Recipients) == 1 {
			c.Diagnostic = noticeReply(text)
		}
	}
}

// statusIn matches a status code (RFC 3463) that is not part of a longer number.
var statusIn = regexp.MustCompile(`(?:^|[^\d.])([245]\.\d{1,3}\.\d{1,3})(?:$|[^\d.]|\.$|\.[^\d])`)

// cleanStatus returns the first status code in a text.
func cleanStatus(s string) string {
	if m := statusIn.FindStringSubmatch(s); m != nil {
		return m[1]
	}

	return ""
}

// replyWithStatus matches a reply code followed by a status code.
var replyWithStatus = regexp.MustCompile(`(?:^|[^\d.])([45]\d\d)[ \-:'"]{1,3}(?:SMTP; )?[#(]{0,2}` +
	`([45]\.\d{1,3}\.\d{1,3})(?:$|[^\d.]|\.$|\.[^\d])`)

// bestStatus returns the status of the field or that of the text of the reply,
// whichever says more.
func bestStatus(field, text string) string {
	said := ""
	if m := replyWithStatus.FindStringSubmatch(text); m != nil {
		said = m[2]
	} else if m := statusIn.FindStringSubmatch(text); m != nil && m[1][0] != '2' {
		said = m[1]
	}

	switch {
	case said == "":
		return field
	case field == "" || vagueness(said) < vagueness(field) && (field[0] == said[0] || vagueness(field) == 2):
		return said
	case vagueness(said) == 0 && field[0] == said[0]:
		return said
	}

	return field
}

// vagueness returns 2 for status codes that say nothing, 1 for those that only name
// a subject (RFC 3463, section 3), and 0 for all others.
func vagueness(status string) int {
	_, rest, _ := strings.Cut(status, ".")
	switch rest {
	case "0.0":
		return 2
	case "1.0", "2.0", "3.0", "4.0", "5.0":
		return 1
	}

	return 0
}

// replyIn matches a reply code at a place where replies begin.
var replyIn = regexp.MustCompile(`(?:^|said:? |returned:? |[\s:;'"(>\[#]|\.\.\. ?)([245][0-5]\d)(?:[ \-:\]]|$)`)

// replyCode returns the first negative SMTP reply code in a text, or "".
func replyCode(text string) string {
	if m := replyWithStatus.FindStringSubmatch(text); m != nil {
		return m[1]
	}

	for _, m := range replyIn.FindAllStringSubmatch(text, 8) {
		if m[1][0] != '2' {
			return m[1]
		}
	}

	return ""
}
