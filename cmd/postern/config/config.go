// Package config reads postern.toml and the users file: strictly, with the
// line of everything that is wrong, and all of it at once. Names follow the
// annotated example beside this package, which is the contract.
//
// A Config is plain data: safe for concurrent reading.
package config

import (
	"fmt"
	"net/url"
	"os"
	"slices"

	"postern/tracking/event"
)

// Config is the configuration file. Paths are absolute after Load.
type Config struct {
	Hostname      Host     `toml:"hostname"`
	StateDir      string   `toml:"state_dir"`
	MemoryBudget  Size     `toml:"memory_budget"`
	ShutdownGrace Duration `toml:"shutdown_grace"`

	Log        Log          `toml:"log"`
	Submission Submission   `toml:"submission"`
	Certs      Certs        `toml:"certs"`
	Relay      Relay        `toml:"relay"`
	Pools      []Pool       `toml:"pool"`
	VirtualMTA []VirtualMTA `toml:"virtual_mta"`
	Tracking   Tracking     `toml:"tracking"`
	DKIM       DKIM         `toml:"dkim"`
	Reports    Reports      `toml:"reports"`
	Accounting Accounting   `toml:"accounting"`
	Events     Events       `toml:"events"`
	Signals    Signals      `toml:"signals"`
	Admin      Admin        `toml:"admin"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Submission is the listener that applications send to.
type Submission struct {
	Listen                  []Addr   `toml:"listen"`
	ListenTLS               []Addr   `toml:"listen_tls"`
	RequireTLS              bool     `toml:"require_tls"`
	Auth                    string   `toml:"auth"`
	UsersFile               string   `toml:"users_file"`
	DefaultUser             string   `toml:"default_user"` // with auth = "upstream", for logins that UsersFile lacks
	AuthFailureRate         Rate     `toml:"auth_failure_rate"`
	MaxMessageSize          Size     `toml:"max_message_size"`
	MaxRecipients           int      `toml:"max_recipients"`
	MaxConnections          int      `toml:"max_connections"`
	MaxConnectionsPerSource int      `toml:"max_connections_per_source"`
	IdleTimeout             Duration `toml:"idle_timeout"`
	MessageTimeout          Duration `toml:"message_timeout"`
	ProxyProtocolFrom       []Prefix `toml:"proxy_protocol_from"`
	ReceivedHeader          string   `toml:"received_header"`
	BareNewlines            string   `toml:"bare_newlines"`
	Sources                 []Source `toml:"source"`
}

// Source is a rule for who need not authenticate.
type Source struct {
	Network     Prefix `toml:"network"`
	RequireAuth bool   `toml:"require_auth"`
	User        string `toml:"user"`
}

func (s *Source) setDefaults() { s.RequireAuth = true }

// Certs says where certificates come from.
type Certs struct {
	Mode           string  `toml:"mode"`
	CertFile       string  `toml:"cert_file"`
	KeyFile        string  `toml:"key_file"`
	Pairs          []Pair  `toml:"pair"`
	MinVersion     string  `toml:"min_version"`
	ACMEEmail      string  `toml:"acme_email"`
	ACMEDomains    []Host  `toml:"acme_domains"`
	ACMEDirectory  string  `toml:"acme_directory"`
	ACMEHTTPListen OptAddr `toml:"acme_http_listen"`
	ACMETLSListen  OptAddr `toml:"acme_tls_listen"`
	ACMECAFile     string  `toml:"acme_ca_file"` // by which the directory is trusted; empty: the system's
}

// Pair is a further certificate, beside cert_file and key_file.
type Pair struct {
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
}

// Names are the domains that certificates are obtained for: acme_domains, or
// the hostname, and with them every tracking domain that is served over TLS here.
func (c *Config) Names() []Host {
	names := slices.Clone(c.Certs.ACMEDomains)
	if len(names) == 0 {
		names = append(names, c.Hostname)
	}
	if !c.Tracking.Web.TLS {
		return names
	}

	urls := []URL{c.Tracking.URL}
	for _, r := range c.Tracking.Rules {
		urls = append(urls, r.URL)
	}

	for _, u := range urls {
		p, err := url.Parse(string(u))
		if err == nil && p.Scheme == "https" && !slices.Contains(names, Host(p.Hostname())) {
			names = append(names, Host(p.Hostname()))
		}
	}
	return names
}

// AllPairs are cert_file and key_file, and the further ones.
func (c Certs) AllPairs() []Pair { return append([]Pair{{c.CertFile, c.KeyFile}}, c.Pairs...) }

// Relay is the way to PowerMTA.
type Relay struct {
	Upstream         []Addr     `toml:"upstream"`
	UpstreamKind     string     `toml:"upstream_kind"`
	TLS              string     `toml:"tls"`
	CAFile           string     `toml:"ca_file"`
	Username         string     `toml:"username"`
	Password         string     `toml:"password" secret:"yes"`
	MaxConnections   int        `toml:"max_connections"`
	MaxMessages      int        `toml:"max_messages_per_connection"`
	Queue            string     `toml:"queue"`
	AnswerWithin     Duration   `toml:"answer_within"`
	Convert8Bit      bool       `toml:"convert_8bit"`
	RetryAfter       []Duration `toml:"retry_after"`
	BounceAfter      Duration   `toml:"bounce_after"`
	MessageIDHeader  HeaderName `toml:"message_id_header"`
	VirtualMTAHeader HeaderName `toml:"virtual_mta_header"`
	JobHeader        HeaderName `toml:"job_header"`
	SubaccountHeader HeaderName `toml:"subaccount_header"`
	MsysAPI          bool       `toml:"msys_api"`
	VERPDomain       string     `toml:"verp_domain"`
	Rewrite          []Rewrite  `toml:"rewrite"`
	Timeouts         Timeouts   `toml:"timeouts"`
}

// Timeouts are those of RFC 5321 section 4.5.3.2.
type Timeouts struct {
	Connect  Duration `toml:"connect"`
	Greeting Duration `toml:"greeting"`
	Command  Duration `toml:"command"`
	Data     Duration `toml:"data"`
	FinalDot Duration `toml:"final_dot"`
}

// Rewrite maps a MAIL FROM to another.
type Rewrite struct {
	MailFrom string `toml:"mail_from"`
	To       string `toml:"to"`
}

// Pool is what PowerMTA calls virtual-mta-pool.
type Pool struct {
	Name          string   `toml:"name"`
	EnableSignals Tristate `toml:"enable_signals"`
	Subaccount    uint32   `toml:"subaccount"`
}

// VirtualMTA is one of PowerMTA's.
type VirtualMTA struct {
	Name          string   `toml:"name"`
	Pool          string   `toml:"pool"`
	SourceHost    string   `toml:"source_host"`
	EnableSignals Tristate `toml:"enable_signals"`
	Subaccount    uint32   `toml:"subaccount"`
}

// Tracking says what messages get.
type Tracking struct {
	URL           URL            `toml:"url"`
	Open          bool           `toml:"open"`
	InitialOpen   bool           `toml:"initial_open"`
	Click         bool           `toml:"click"`
	TextLinks     bool           `toml:"text_links"`
	LinkExpiry    Duration       `toml:"link_expiry"`
	MaxLinkLength int            `toml:"max_link_length"`
	ListUnsub     bool           `toml:"list_unsubscribe"`
	KeyFile       string         `toml:"key_file"`
	Former        []Host         `toml:"former"` // tracking hosts of before
	Rules         []TrackingRule `toml:"rule"`
	Web           Web            `toml:"web"`
}

// TrackingRule is tracking for a sending domain.
type TrackingRule struct {
	SenderOrFrom string `toml:"sender_or_from"`
	URL          URL    `toml:"url"`
	Former       []Host `toml:"former"` // its tracking hosts of before
	Open         *bool  `toml:"open"`
	InitialOpen  *bool  `toml:"initial_open"`
	Click        *bool  `toml:"click"`
}

// Web is the tracker's listener.
type Web struct {
	Listen         []Addr   `toml:"listen"`
	TLS            bool     `toml:"tls"`
	TrustedProxies []Prefix `toml:"trusted_proxies"`
	MaxConnections int      `toml:"max_connections"`
	GeoIPDB        string   `toml:"geoip_db"`
	ExpiredURL     URL      `toml:"expired_url"`
	// IPPrivacy is "full" or "truncate": the last byte of an IPv4 address, all
	// behind the first 48 bits of an IPv6 address.
	IPPrivacy string `toml:"ip_privacy"`
	// EventsPerClient is no longer read.
	EventsPerClient struct{} `toml:"events_per_client" retired:"has no effect any more, take it out"`
	// Files for universal links and app links, served under /.well-known/.
	AppleAppSite string `toml:"apple_app_site_association"`
	AssetLinks   string `toml:"assetlinks"`
}

// DKIM holds the signing keys.
type DKIM struct {
	Require bool      `toml:"require"`
	Expire  Duration  `toml:"expire"`
	RSA     string    `toml:"rsa"`
	Keys    []DKIMKey `toml:"key"`
}

// DKIMKey is one key.
type DKIMKey struct {
	Domain   string `toml:"domain"`
	Selector string `toml:"selector"`
	KeyFile  string `toml:"key_file"`
	// NotBefore and NotAfter are the first and the last day (or moment) on which
	// the key signs; Successor is the selector of the key that takes its place.
	NotBefore Date   `toml:"not_before"`
	NotAfter  Date   `toml:"not_after"`
	Successor string `toml:"successor"`
}

// Reports is the listener for bounces and complaints.
type Reports struct {
	Listen         []Addr   `toml:"listen"`
	BounceDomains  []string `toml:"bounce_domains"`
	FBLDomains     []string `toml:"fbl_domains"`
	MemoryBudget   Size     `toml:"memory_budget"` // of port 25 alone
	MaxMessageSize Size     `toml:"max_message_size"`
	Keep           string   `toml:"keep"`
}

// On tells whether any domain is named.
func (r Reports) On() bool { return len(r.BounceDomains)+len(r.FBLDomains) > 0 }

// Domains are those of bounces and of complaints.
func (r Reports) Domains() []string { return slices.Concat(r.BounceDomains, r.FBLDomains) }

// Accounting is PowerMTA's accounting records.
type Accounting struct {
	Files       []string       `toml:"files"`
	Pipe        bool           `toml:"pipe"`
	PipeSocket  string         `toml:"pipe_socket"` // where `accounting --pipe` gets its files; empty: pipe.sock in state_dir
	PipeDir     string         `toml:"pipe_dir"`    // where it leaves them while there is no gateway; empty: nowhere
	PipeGroup   string         `toml:"pipe_group"`  // who may do either; empty: admin.socket_group
	BounceClass map[string]int `toml:"bounce_class"`
}

// Events is the event spool.
type Events struct {
	Keep Duration `toml:"keep"`
}

// Signals is the ingest service.
type Signals struct {
	Enabled       bool            `toml:"enabled"`
	APIKey        APIKey          `toml:"api_key" secret:"yes"`
	UploadURL     URL             `toml:"upload_url"`
	EnableSignals Tristate        `toml:"enable_signals"`
	Subaccount    uint32          `toml:"subaccount"`
	Report        []string        `toml:"report"`
	LogVerbose    bool            `toml:"log_verbose"`
	MinFreeSpace  Size            `toml:"min_free_space"`
	PrivacyPolicy string          `toml:"privacy_policy"`
	BatchSize     Size            `toml:"batch_size"`
	BatchAge      Duration        `toml:"batch_age"`
	KeepLedger    Duration        `toml:"keep_ledger"`
	PollOutcomes  bool            `toml:"poll_outcomes"`
	Prefetch      string          `toml:"prefetch"` // mark, drop or person
	Scanner       string          `toml:"scanner"`
	Filters       []SignalsFilter `toml:"filter"`
}

// SignalsFilter decides by sending domain.
type SignalsFilter struct {
	SenderOrFrom string `toml:"sender_or_from"`
	Enable       bool   `toml:"enable"`
	Subaccount   uint32 `toml:"subaccount"`
}

// Admin is where operators and their programs ask.
type Admin struct {
	Socket      string  `toml:"socket"` // for the commands, in state_dir; empty: none
	SocketGroup string  `toml:"socket_group"`
	Hosts       []Host  `toml:"hosts"`  // that Listen answers to, besides IP addresses, localhost and the hostname
	Listen      OptAddr `toml:"listen"` // metrics and health
}

// reportClasses are what [signals] report names where it is left out: all.
var reportClasses = []string{
	"injection", "delivery", "bounce", "delay", "out_of_band", "spam_complaint", "policy_rejection",
	event.Engagement, event.Unsubscribe,
}

const mebi = 1 << 20

// Default is a configuration with every default of the example.
func Default() *Config {
	return &Config{
		StateDir:      "/var/lib/postern",
		MemoryBudget:  1 << 30,
		ShutdownGrace: seconds(30),

		Log: Log{
			Level:  "info",
			Format: "text",
		},
		Submission: defaultSubmission(),
		Certs: Certs{
			Mode:           "files",
			CertFile:       "fullchain.pem",
			KeyFile:        "privkey.pem",
			MinVersion:     "1.2",
			ACMEHTTPListen: "0.0.0.0:80",
			ACMETLSListen:  "0.0.0.0:443",
		},
		Relay:    defaultRelay(),
		Tracking: defaultTracking(),
		DKIM:     DKIM{RSA: "auto"},
		Reports: Reports{
			Listen:         []Addr{"0.0.0.0:25"},
			MemoryBudget:   64 * mebi,
			MaxMessageSize: 10 * mebi,
		},
		Events:  Events{Keep: seconds(86400)},
		Signals: defaultSignals(),
		Admin: Admin{
			Socket: "admin.sock",
			Listen: "127.0.0.1:8025",
		},
	}
}

func defaultSubmission() Submission {
	return Submission{
		Listen:                  []Addr{"0.0.0.0:587"},
		RequireTLS:              true,
		Auth:                    "users",
		UsersFile:               "users.toml",
		AuthFailureRate:         Rate{N: 5, Per: seconds(60).Std()},
		MaxMessageSize:          50 * mebi,
		MaxRecipients:           1000,
		MaxConnections:          10000,
		MaxConnectionsPerSource: 200,
		IdleTimeout:             seconds(300),
		MessageTimeout:          seconds(600),
		ReceivedHeader:          "full",
		BareNewlines:            "refuse",
	}
}

func defaultRelay() Relay {
	return Relay{
		Upstream:         []Addr{"127.0.0.1:2525"},
		UpstreamKind:     "powermta",
		TLS:              "opportunistic",
		MaxConnections:   64,
		MaxMessages:      1000,
		Queue:            "partial",
		AnswerWithin:     seconds(240),
		RetryAfter:       []Duration{seconds(60), seconds(300), seconds(900), seconds(3600)},
		BounceAfter:      seconds(108 * 3600),
		MessageIDHeader:  "X-Sp-Message-Id",
		VirtualMTAHeader: "X-Virtual-MTA",
		JobHeader:        "X-Job",
		SubaccountHeader: "X-Sp-Subaccount-Id",
		MsysAPI:          true,
	}
}

func defaultTracking() Tracking {
	return Tracking{
		Open:          true,
		InitialOpen:   true,
		Click:         true,
		LinkExpiry:    seconds(365 * 86400),
		MaxLinkLength: 2000,
		KeyFile:       "token.keys",
		Web: Web{
			Listen:         []Addr{"0.0.0.0:8080"},
			MaxConnections: 10000,
			IPPrivacy:      "full",
		},
	}
}

func defaultSignals() Signals {
	return Signals{
		UploadURL:     "https://api.sparkpost.com/api/v1/ingest/events",
		EnableSignals: Yes,
		Report:        slices.Clone(reportClasses),
		MinFreeSpace:  20 * mebi,
		PrivacyPolicy: "retain",
		BatchSize:     4 * mebi,
		BatchAge:      seconds(30),
		KeepLedger:    seconds(7 * 86400),
		Prefetch:      "mark",
		Scanner:       "mark",
	}
}

func seconds(n int) Duration { return Duration(n) * 1e9 }

// Loaded is a configuration with its users.
type Loaded struct {
	*Config
	File  string
	Role  Role
	Users []User

	// UsersStamp is the state of the users file that Users were read from.
	UsersStamp FileStamp

	binder *binder // which knows the lines of the configuration
}

// Understood reports whether the file could be read as TOML at all. Where not,
// every value is a default, which says nothing of the gateway.
func (l *Loaded) Understood() bool {
	return len(l.binder.problems) == 0 || len(l.binder.lines) > 0
}

// Role is which part of a configuration a process runs. What others need is
// not checked: a tracker alone has neither the users file nor signing keys.
type Role string

// The roles of `serve --role`.
const (
	All     Role = "all"
	Tracker Role = "tracker"
)

// checkSources wants the users of source rules to be there.
func checkSources(b *binder, l *Loaded) (out Problems) {
	for i, s := range l.Submission.Sources {
		if s.RequireAuth || l.hasUser(s.User) {
			continue
		}

		key := keyOf("submission.source", i) + ".user"
		out = append(out, Problem{
			File:   b.file,
			Line:   b.line(key),
			Key:    key,
			Reason: fmt.Sprintf("no user %q in the users file; its settings would apply", s.User),
		})
	}

	return out
}

// hasUser reports whether the users file lists a user.
func (l *Loaded) hasUser(name string) bool {
	return findUser(l.Users, name) >= 0
}

// heldUser reports whether the users file holds a user to domains.
func (l *Loaded) heldUser(name string) bool {
	i := findUser(l.Users, name)

	return i >= 0 && heldToDomains(l.Users[i])
}

// checkLogins says what becomes of logins that the users file does not list,
// where the upstream decides about passwords.
func checkLogins(b *binder, l *Loaded) Problems {
	const key = "submission.default_user"
	s := &l.Submission
	p := Problem{File: b.file, Line: b.line(key), Key: key}
	switch {
	case s.DefaultUser != "" && s.Auth != "upstream":
		p.Reason = `has a meaning with submission.auth = "upstream" only`
	case s.DefaultUser != "" && !l.hasUser(s.DefaultUser):
		p.Reason = fmt.Sprintf("no user %q in the users file; its settings would apply", s.DefaultUser)
	case b.given("submission.users_file") && !l.needsUsers():
		p.Key, p.Line = "submission.users_file", b.line("submission.users_file")
		p.Warn = true
		p.Reason = fmt.Sprintf("%s is not there: no login has settings or limits", s.UsersFile)
	case s.DefaultUser == "" && s.Auth == "upstream" && slices.ContainsFunc(l.Users, heldToDomains):
		p.Warn = true
		p.Reason = "not set, and the users file holds users to from_domains: logins that it does not list are refused"
	case s.DefaultUser != "" && slices.ContainsFunc(l.Users, heldToDomains) && !l.heldUser(s.DefaultUser):
		p.Warn = true
		p.Reason = fmt.Sprintf("%s has no from_domains: where the upstream knows users by other spellings of their"+
			" names, these get out of theirs", s.DefaultUser)
	default:
		return nil
	}

	return Problems{p}
}

func heldToDomains(u User) bool { return len(u.FromDomains) > 0 }

// Load reads and checks a configuration file and the users file that it names.
// The problems hold all that is wrong with either.
func Load(file string, role Role) (*Loaded, Problems) {
	return load(file, role, os.Getenv)
}

// needsUsers reports whether the users file has to be there. With auth =
// "upstream" it holds settings, and may be missing.
func (l *Loaded) needsUsers() bool {
	if l.Submission.Auth == "upstream" && len(l.Submission.Sources) == 0 && l.Submission.DefaultUser == "" {
		_, err := os.Stat(l.Submission.UsersFile)
		return err == nil
	}
	return true
}

func load(file string, role Role, env func(string) string) (*Loaded, Problems) {
	b := newBinder(file, env)
	l := &Loaded{Config: Default(), File: file, Role: role}

	b.load(l.Config)
	if len(b.problems) == 0 || len(b.lines) > 0 {
		b.check(l.Config, role)
	}

	l.binder = b
	problems := b.problems.byLine()

	if role == All && len(b.lines) > 0 && l.needsUsers() {
		more := l.loadUsers()
		if l.Submission.UsersFile != "" {
			problems = append(problems, more...)
		}
	}

	if role == All && len(b.lines) > 0 {
		problems = append(problems, checkLogins(b, l)...)
	}

	return l, problems
}
