package config

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/certs"
	"postern/relay/envelope"
	"postern/smtpd/auth"
	"postern/tracking/event"
	"postern/tracking/token"
	"postern/tracking/web"
)

// check holds the bound configuration to the rules that go beyond one value,
// makes paths absolute, and reads the files that it names, so that `check`
// says what `serve` would.
func (b *binder) check(c *Config, role Role) {
	word := func(key, v string, words ...string) {
		if err := oneOf(v, words...); err != nil {
			b.problem(key, "%v, not %q", err, v)
		}
	}

	if c.Hostname == "" {
		b.problem("hostname", `missing; write for example hostname = "mail.example.com"`)
	}

	c.StateDir = b.Path(c.StateDir)
	if c.StateDir == "" {
		b.problem("state_dir", "missing; the folder for spools and certificates")
	} else {
		b.checkStateDir(c.StateDir)
	}

	if c.MemoryBudget > 0 && c.MemoryBudget < 2*c.Submission.MaxMessageSize {
		b.problem("memory_budget", "smaller than twice submission.max_message_size: such a message could never come in")
	}

	word("log.level", c.Log.Level, "debug", "info", "warn", "error")
	word("log.format", c.Log.Format, "text", "json")

	b.checkTracking(c)
	if role == All || c.Tracking.Web.TLS {
		b.checkCerts(c, word)
	}

	if role == All {
		b.checkSubmission(&c.Submission, word)
		b.checkRelay(&c.Relay, word)
		b.checkPassthrough(c)
		b.checkRoutes(c)
		b.checkDKIM(c, word)
		b.checkReports(c)
	} else if len(c.Tracking.Web.Listen) == 0 {
		b.problem("tracking.web.listen", `is empty, write for example ["0.0.0.0:8080"]`)
	}

	if c.Signals.Enabled && c.Signals.APIKey == "" {
		b.problem("signals.api_key", "missing; signals.enabled wants the API key, 40 hex digits")
	}

	for i := range c.Accounting.Files {
		c.Accounting.Files[i] = b.Path(c.Accounting.Files[i])
		if _, err := filepath.Match(c.Accounting.Files[i], ""); err != nil {
			b.problem(keyOf("accounting.files", i), "%v", err)
		}
	}

	for name, class := range c.Accounting.BounceClass {
		if !event.KnownBounceClass(class) {
			b.problem("accounting.bounce_class."+name, "%d is not a bounce class, which are 1, 10, 20 to 25, 30, 40, "+
				"50 to 54, 60, 70, 80, 90 and 100", class)
		}
	}

	if !c.Signals.Enabled && c.Signals.APIKey != "" {
		b.warn("signals.api_key", "signals.enabled is false: events are kept, and none is uploaded")
	}

	word("signals.prefetch", c.Signals.Prefetch, "mark", "drop", "person")
	word("signals.scanner", c.Signals.Scanner, "mark", "drop", "person")
	word("signals.privacy_policy", c.Signals.PrivacyPolicy, "retain", "sha1")

	for i, class := range c.Signals.Report {
		if _, err := event.Select([]string{class}); err != nil {
			b.problem(keyOf("signals.report", i), "%v; write some of %s", err, strings.Join(reportClasses, ", "))
		}
	}

	for i, f := range c.Signals.Filters {
		if f.SenderOrFrom == "" {
			b.problem(keyOf("signals.filter", i)+".sender_or_from", `missing; a domain, "*.domain" or "*"`)
		}
	}

	if c.Signals.UploadURL == "" {
		b.problem("signals.upload_url", "must not be empty")
	}
	if s := c.Signals.BatchSize; s < 1<<10 || s > 5_000_000 {
		b.problem("signals.batch_size", `want from "1KiB" to "5MB", the API's limit`)
	}

	b.checkSockets(c)
	b.checkGlobs(c.Accounting)
	b.checkListeners(c, role)
	b.checkAccess(c, role)
	b.checkSecrets(c)

	if c.Signals.BatchAge <= 0 {
		b.problem("signals.batch_age", `must be greater than zero, for example "30s"`)
	}
}

func (b *binder) checkSubmission(s *Submission, word func(string, string, ...string)) {
	word("submission.received_header", s.ReceivedHeader, "full", "anonymous", "off")
	word("submission.bare_newlines", s.BareNewlines, "refuse", "normalise")
	word("submission.auth", s.Auth, "users", "upstream")

	if len(s.Listen)+len(s.ListenTLS) == 0 {
		b.problem("submission.listen", `is empty, write for example ["0.0.0.0:587"]`)
	}

	s.UsersFile = b.Path(s.UsersFile)
	if s.UsersFile == "" {
		b.problem("submission.users_file", "must not be empty")
	}

	positive := map[string]int64{
		"max_message_size":           int64(s.MaxMessageSize),
		"max_recipients":             int64(s.MaxRecipients),
		"max_connections":            int64(s.MaxConnections),
		"max_connections_per_source": int64(s.MaxConnectionsPerSource),
		"idle_timeout":               int64(s.IdleTimeout),
		"message_timeout":            int64(s.MessageTimeout),
	}
	for key, n := range positive {
		if n <= 0 {
			b.problem("submission."+key, "must be greater than zero")
		}
	}
}

// checkPassthrough: passwords go upstream only over verified TLS or loopback,
// and mail that waits has no login of its own.
func (b *binder) checkPassthrough(c *Config) {
	if c.Submission.Auth != "upstream" {
		return
	}

	if c.Relay.Queue == "always" {
		b.problem("relay.queue", `"always" with submission.auth = "upstream": mail that waits could not go `+
			"over its sender's own login")
	}
	if c.Relay.Username == "" {
		b.warn("submission.auth", `"upstream" without relay.username: what a mixed answer leaves over `+
			"has no login to be tried again with")
	}

	for i, u := range c.Relay.Upstream {
		host, _, _ := net.SplitHostPort(string(u))
		ip, err := netip.ParseAddr(host)
		if c.Relay.TLS != "required" && host != "localhost" && !(err == nil && ip.IsLoopback()) {
			b.problem(keyOf("relay.upstream", i), `submission.auth = "upstream" would send clients' passwords to %s `+
				`without verified TLS; write relay.tls = "required"`, u)
		}
	}
}

// checkRoutes holds pools, VirtualMTAs, rewriting and VERP to what PowerMTA
// would take.
func (b *binder) checkRoutes(c *Config) {
	pools := map[string]bool{}
	for i, p := range c.Pools {
		if p.Name == "" || pools[p.Name] {
			b.problem(keyOf("pool", i)+".name", "missing, or the name of another one")
		}
		pools[p.Name] = true
	}

	names := map[string]bool{}
	for i, v := range c.VirtualMTA {
		key := keyOf("virtual_mta", i)
		if v.Name == "" || names[v.Name] {
			b.problem(key+".name", "missing, or the name of another one")
		}
		names[v.Name] = true
		if v.Pool != "" && !pools[v.Pool] {
			b.problem(key+".pool", "no [[pool]] is named %q", v.Pool)
		}
		if v.SourceHost != "" {
			if _, err := netip.ParseAddr(v.SourceHost); err != nil {
				b.problem(key+".source_host", `not an IP address, write for example "192.0.2.10"`)
			}
		}
	}

	for i, r := range c.Relay.Rewrite {
		key := keyOf("relay.rewrite", i)
		if !isPattern(r.MailFrom) {
			b.problem(key+".mail_from", `not a pattern, write for example "*@example.com"`)
		}
		if !isPattern(r.To) || strings.Contains(r.To, "@*.") {
			b.problem(key+".to", `not an address, write for example "*@bounces.example.com"`)
		}
	}

	if d := c.Relay.VERPDomain; d != "" {
		if err := new(Host).parse(d); err != nil {
			b.problem("relay.verp_domain", "%v", err)
		}
	}

	for i, r := range c.Tracking.Rules {
		if r.SenderOrFrom == "" {
			b.problem(keyOf("tracking.rule", i)+".sender_or_from", `missing; a domain, "*.domain" or "*"`)
		}
	}

	if n := c.Tracking.MaxLinkLength; n > 0 && n < 200 {
		b.problem("tracking.max_link_length", "want at least 200, or 0 for no limit")
	}
}

func isPattern(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && domain != "" && !strings.ContainsAny(s, " <>") && !strings.Contains(domain, "@")
}

func (b *binder) checkCerts(all *Config, word func(string, string, ...string)) {
	c := &all.Certs
	word("certs.min_version", c.MinVersion, "1.2", "1.3")
	c.CertFile, c.KeyFile = b.Path(c.CertFile), b.Path(c.KeyFile)

	switch c.Mode {
	case "files":
		first, err := certs.Files(c.CertFile, c.KeyFile)
		if err != nil {
			b.problem("certs.cert_file", "%s", strings.TrimPrefix(err.Error(), "certs: "))
		}

		list := []tls.Certificate{first}
		for i := range c.Pairs {
			p := &c.Pairs[i]
			p.CertFile = b.Path(p.CertFile)
			p.KeyFile = b.Path(p.KeyFile)
			cert, err := certs.Files(p.CertFile, p.KeyFile)
			if err != nil {
				b.problem(keyOf("certs.pair", i)+".cert_file", "%v", err)
			}
			list = append(list, cert)
		}

		b.checkCertificates(all, list, time.Now())
	case "self-signed", "acme":
		for _, key := range []string{"certs.cert_file", "certs.key_file", "certs.pair"} {
			if _, given := b.lines[key]; given {
				b.warn(key, "is not used: certs.mode is %q", c.Mode)
			}
		}
		if c.Mode == "acme" {
			b.checkACME(all)
		}
	default:
		word("certs.mode", c.Mode, "files", "acme", "self-signed")
	}
}

// checkACME wants a way to answer challenges that does not cross the tracker's.
func (b *binder) checkACME(c *Config) {
	a := &c.Certs
	if a.ACMEDirectory != "" && !strings.HasPrefix(a.ACMEDirectory, "https://") {
		b.problem("certs.acme_directory", `want an https address, for example `+
			`"https://acme-v02.api.letsencrypt.org/directory"`)
	}

	if a.ACMECAFile = b.Path(a.ACMECAFile); a.ACMECAFile != "" {
		if _, err := certs.ReadPool(a.ACMECAFile); err != nil {
			b.problem("certs.acme_ca_file", "%v", err)
		}
	}

	switch {
	case a.ACMEHTTPListen == "" && a.ACMETLSListen == "":
		b.problem("certs.acme_http_listen", "one of acme_http_listen and acme_tls_listen has to answer challenges")
	case a.ACMEHTTPListen == a.ACMETLSListen:
		b.problem("certs.acme_tls_listen", "the same address as acme_http_listen, which speaks no TLS")
	}

	other := a.ACMEHTTPListen // where the tracker must not listen
	if !c.Tracking.Web.TLS {
		other = a.ACMETLSListen
	}
	for i, l := range c.Tracking.Web.Listen {
		if string(l) == string(other) {
			b.problem(keyOf("tracking.web.listen", i), "the tracker speaks the other of http and https there "+
				"than ACME's challenge: give one of them another address")
		}
	}
}

func (b *binder) checkRelay(r *Relay, word func(string, string, ...string)) {
	word("relay.tls", r.TLS, "off", "opportunistic", "required")
	word("relay.upstream_kind", r.UpstreamKind, "powermta", "other")
	word("relay.queue", r.Queue, "partial", "always")

	for i, d := range r.RetryAfter {
		if d <= 0 {
			b.problem(keyOf("relay.retry_after", i), `must be greater than zero, for example "1m"`)
		}
	}
	if len(r.RetryAfter) == 0 {
		b.problem("relay.retry_after", `is empty, write for example ["1m", "5m", "15m", "1h"]`)
	}

	switch {
	case r.BounceAfter <= 0:
		b.problem("relay.bounce_after", `must be greater than zero, for example "4d12h"`)
	case len(r.RetryAfter) > 0 && r.BounceAfter < r.RetryAfter[0]:
		b.problem("relay.bounce_after", "shorter than the first pause of relay.retry_after: "+
			"a copy would come back to its sender before it is tried again")
	}

	if len(r.Upstream) == 0 {
		b.problem("relay.upstream", `is empty, write for example ["127.0.0.1:2525"]`)
	}
	if r.MaxConnections < 1 {
		b.problem("relay.max_connections", "want at least 1")
	}
	if r.MaxMessages < 1 {
		b.problem("relay.max_messages_per_connection", "want at least 1")
	}

	if r.AnswerWithin <= 0 {
		b.problem("relay.answer_within", `must be greater than zero, for example "4m"`)
	}
	if (r.Username == "") != (r.Password == "") {
		b.problem("relay.username", "relay.username and relay.password go together")
	}

	if r.CAFile = b.Path(r.CAFile); r.CAFile != "" {
		if _, err := certs.ReadPool(r.CAFile); err != nil {
			b.problem("relay.ca_file", "%v", err)
		}
	}
}

func (b *binder) checkTracking(c *Config) {
	t := &c.Tracking
	t.KeyFile = b.Path(t.KeyFile)
	if t.URL == "" && (t.Open || t.InitialOpen || t.Click || t.ListUnsub || len(t.Rules) > 0) {
		b.problem("tracking.url", `missing; where recipients reach the tracker, `+
			`for example "https://track.example.com"`)
	} else if u := string(t.URL); strings.HasPrefix(u, "http://") &&
		!strings.HasPrefix(u, "http://127.") && !strings.HasPrefix(u, "http://localhost") {
		b.warn("tracking.url", "links over plain http show mail programs' warnings; an https address is better")
	}

	b.checkHosts(t)
	w := &t.Web
	if w.MaxConnections < 1 {
		b.problem("tracking.web.max_connections", "must be greater than zero")
	}

	if err := oneOf(w.IPPrivacy, "full", "truncate"); err != nil {
		b.problem("tracking.web.ip_privacy", "%v, not %q", err, w.IPPrivacy)
	}

	if w.GeoIPDB = b.Path(w.GeoIPDB); w.GeoIPDB != "" {
		if err := web.CheckGeo(w.GeoIPDB); err != nil {
			b.problem("tracking.web.geoip_db", "%v", err)
		}
	}

	wellKnown := map[string]*string{
		"tracking.web.apple_app_site_association": &w.AppleAppSite,
		"tracking.web.assetlinks":                 &w.AssetLinks,
	}
	for key, file := range wellKnown {
		if *file = b.Path(*file); *file != "" {
			if _, err := web.ReadWellKnown(*file); err != nil {
				b.problem(key, "%v", err)
			}
		}
	}

	if _, err := token.ReadKeys(t.KeyFile); err != nil {
		b.problem("tracking.key_file", "%s", tokenKeyAdvice(t.KeyFile, err))
	}
}

func (b *binder) checkReports(c *Config) {
	r := &c.Reports
	r.Keep = b.Path(r.Keep)
	lists := map[string][]string{
		"reports.bounce_domains": r.BounceDomains,
		"reports.fbl_domains":    r.FBLDomains,
	}
	for list, domains := range lists {
		for i, d := range domains {
			parent := strings.TrimPrefix(d, "*.")
			if err := new(Host).parse(parent); err != nil || strings.Contains(parent, "*") {
				b.problem(keyOf(list, i), `%q is not a domain, write for example "bounces.example.com", `+
					`or "*.example.com" for what is below`, d)
			}
		}
	}

	if !r.On() {
		return
	}

	if r.MaxMessageSize <= 0 {
		b.problem("reports.max_message_size", `must be greater than zero, for example "10MiB"`)
	}
	// One source may hold a quarter, and a message takes its size and a little more.
	if r.MemoryBudget > 0 && r.MemoryBudget < 4*(r.MaxMessageSize+64<<10) {
		b.problem("reports.memory_budget",
			"less than four times reports.max_message_size and 64KiB: such a message could never come in")
	}

	if len(r.Listen) == 0 {
		b.problem("reports.listen", `is empty, write for example ["0.0.0.0:25"]`)
	}

	v := c.Relay.VERPDomain
	takes := func(d string) bool { return envelope.MatchDomain(d, v) }
	if v != "" && !slices.ContainsFunc(r.BounceDomains, takes) {
		b.problem("relay.verp_domain", "%s is not among reports.bounce_domains: bounces to it would be refused", v)
	}
}

// tokenKeyAdvice says what to do about a token key file that cannot be used. A
// new one is advised only where there is none: it opens no link of before.
func tokenKeyAdvice(file string, err error) string {
	switch data, readErr := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%v; `postern token keygen %s` makes it, where no links were sent before", err, file)
	case readErr != nil:
		return fmt.Sprintf("%v; the gateway's user has to be able to read it", err)
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return fmt.Sprintf("%s holds PEM, a certificate or another kind of key: "+
			"name the file that `postern token keygen` made", file)
	}

	return err.Error()
}

// User is one user of the users file.
type User struct {
	Name        string   `toml:"name"`
	Password    string   `toml:"password"`
	VirtualMTA  string   `toml:"virtual_mta"`
	Job         string   `toml:"job"`
	JobPrefix   string   `toml:"job_prefix"`
	Subaccount  uint32   `toml:"subaccount"`
	FromDomains []string `toml:"from_domains"`
	Tracking    bool     `toml:"tracking"`
	DKIMKey     string   `toml:"dkim_key"` // signs in the place of the From domain's keys
}

func (u *User) setDefaults() { u.Tracking = true }

// usersTable is the users file.
type usersTable struct {
	Users []User `toml:"user"`
}

// LoadUsers reads a users file.
func LoadUsers(file string, env func(string) string) ([]User, Problems) {
	b := newBinder(file, env)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		b.problem("", "there is no users file yet; `postern passwd --config FILE NAME` makes it, with a first user")
		return nil, b.problems
	}
	if err != nil {
		b.problem("", "%v", errors.Unwrap(err))
		return nil, b.problems
	}

	b.warnReadable("", file, "the users' password hashes")
	users, problems := parseUsers(file, data, env)
	return users, append(b.problems, problems...)
}

// parseUsers reads the text of a users file.
func parseUsers(file string, data []byte, env func(string) string) ([]User, Problems) {
	b := newBinder(file, env)
	var f usersTable
	b.bind(data, &f)

	seen := map[string]int{} // folded names to lines
	for i, u := range f.Users {
		key := keyOf("user", i)

		if err := auth.CheckName(u.Name); err != nil {
			b.problem(key+".name", "%v", err)
		} else if line, twice := seen[auth.FoldName(u.Name)]; twice {
			b.problem(key+".name", "there is another user of this name in line %d, %q; "+
				"names are compared without case", line, u.Name)
		} else {
			seen[auth.FoldName(u.Name)] = b.line(key + ".name")
		}

		if u.Password != "" {
			if err := auth.CheckHash(u.Password); err != nil {
				b.problem(key+".password", "%v", err)
			}
		}
		for j, pattern := range u.FromDomains {
			if !isDomainPattern(pattern) {
				b.problem(keyOf(key+".from_domains", j), `%q is not a domain; write for example "example.com", `+
					`"*.example.com" for what is below, or "*" for any`, pattern)
			}
		}
		if len(f.Users) > 1 && len(u.FromDomains) == 0 {
			b.warn(key+".from_domains", "%s may send as anybody, and gets every signature of domains that no other user "+
				"is held to; name the domains it may send from", u.Name)
		}
	}
	return f.Users, b.problems
}

func keyOf(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
