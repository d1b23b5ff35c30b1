package report

import (
	"net/mail"
	"regexp"
	"strings"

	"postern/tracking/bounce"
)

// sender is who a mail says it is from, in lower case.
type sender struct {
	name  string
	local string
	host  string
	none  bool // there is no address, or an empty one
}

// from parses the From field leniently.
func (m *structure) from() sender {
	v := m.get("From")
	if v == "" || strings.HasSuffix(v, "<>") {
		return sender{none: true}
	}

	address, name := "", v
	if a, err := mail.ParseAddress(m.header.Get("From")); err == nil {
		address, name = a.Address, m.decoded(a.Name)
	} else if at := addressIn.FindStringIndex(v); at != nil {
		address, name = v[at[0]:at[1]], v[:at[0]]+v[at[1]:]
	}

	if address == "" && !strings.ContainsAny(name, " @") { // From: mailer-daemon
		address = name
	}

	local, host := address, ""
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		local, host = address[:i], address[i+1:]
	}

	return sender{
		name:  strings.ToLower(strings.Trim(structured(name), `"'<>() `)),
		local: strings.ToLower(local),
		host:  strings.ToLower(host),
	}
}

// decoded decodes the encoded words in a display name (RFC 2047).
func (m *structure) decoded(name string) string {
	h := m.header.Copy()
	h.Set("X-Name", name)
	v, _ := h.Text("X-Name") // with an error, the name as it is

	return v
}

// daemonLocals are the local parts of mail systems.
var daemonLocals = map[string]bool{
	"mail-daemon":        true,
	"mail-delivery":      true,
	"mail.delivery":      true,
	"mail_administrator": true,
	"maildelivery":       true,
	"mailer-daemon":      true,
	"mailer_daemon":      true,
	"mailerdaemon":       true,
	"mailrouter":         true,
	"mailsystem":         true,
	"mdaemon":            true,
	"mmdf":               true,
	"nullsender":         true,
	"post_master":        true,
	"postmaster":         true,
	"returnedmail":       true,
}

var (
	// daemonNames begin the display names of mail systems.
	daemonNames = []string{
		"mailer-daemon", "mailer daemon", "mailerdaemon", "mail-daemon", "mail daemon",
		"mail delivery", "mail deliver", "maildelivery", "internet mail delivery", "message delivery",
		"delivery subsystem", "returned mail", "returnedmail", "undeliverable",
		"courier mail server", "microsoft exchange", "sistema de entrega", "systeme de distribution",
		"mail-zustellsystem", "mailzustellung",
	}

	// exactNames are display names of mail systems with which the name of a person
	// could begin.
	exactNames = []string{
		"postmaster", "post master", "the post office", "post office", "mail administrator", "mail system",
		"system administrator", "systemadministrator", "system-administrator", "systemadministratoren",
		"administrateur systeme", "administrateur du systeme", "administrador del sistema", "administrador do sistema",
		"amministratore di sistema", "systeembeheerder", "administrator systemu", "mail server", "mailserver",
		"microsoft outlook", "系统管理员", "系統管理員", "システム管理者", "системный администратор",
	}
)

// isDaemon reports whether the sender calls itself a mail system.
func (s sender) isDaemon() bool {
	if s.none || daemonLocals[s.local] || s.isMailer() || strings.HasPrefix(s.local, "postmaster") {
		return true
	}

	name := bounce.Fold(s.name)
	for _, n := range daemonNames {
		if strings.HasPrefix(name, n) {
			return true
		}
	}
	for _, n := range exactNames {
		if name == bounce.Fold(n) {
			return true
		}
	}

	return false
}

// mailerPrefixes begin the local parts that only mail systems have.
var mailerPrefixes = []string{
	"mailer-daemon",
	"mailerdaemon",
	"mailer_daemon",
	"mail-daemon",
	"microsoftexchange",
}

// isMailer reports whether the address is used by mail systems only. A postmaster may
// be a person.
func (s sender) isMailer() bool {
	for _, prefix := range mailerPrefixes {
		if strings.HasPrefix(s.local, prefix) {
			return true
		}
	}

	return s.none
}

// fromMailSystem reports whether a mail was written by a mail system: it has the null
// return path (RFC 5321, section 4.5.5), the name of a daemon, the structure of a
// report (RFC 6522) or a field that only mail systems write, and no sign of a person
// who forwarded it.
func fromMailSystem(m *structure) bool {
	if m.passedOn() {
		return false
	}

	return m.from().isDaemon() || m.hasNullPath() || m.header.Has("X-Failed-Recipients") || m.isReport()
}

// fromGateway reports whether a mail looks like the notice of a program with an
// address of a different kind: virus scanners, gateways and web mailers.
func (m *structure) fromGateway() bool {
	if !m.from().isRobot() || m.isForward() || m.header.Has("In-Reply-To") {
		return false
	}

	subject := folded(m.get("Subject"))

	return noticeSubject.MatchString(subject) || failureWords.in(subject)
}

// hasNullPath reports whether the return path is the null path.
func (m *structure) hasNullPath() bool {
	return strings.ReplaceAll(m.header.Get("Return-Path"), " ", "") == "<>"
}

// robotNames are parts of local parts that those of people do not have.
var robotNames = regexp.MustCompile(anyOf(
	"noreply", "no-reply", "no_reply", "donotreply", "bounce", "mail", "daemon", "system", "admin", "notif",
	"robot", "smtp", "report", "return", "abuse", "feedback", "fbl", "complaint", "filter",
	`^\d+$`, "^root$", "^nobody$",
))

// gatewayNames are parts of the local parts of gateways and virus scanners.
var gatewayNames = regexp.MustCompile(`daemon|antivirus|virus|gateway|imss|scanner|smtp|inetgw|mailscan`)

// isRobot reports whether the address looks like that of a program.
func (s sender) isRobot() bool {
	return robotNames.MatchString(s.local) || gatewayNames.MatchString(s.local)
}
