// Package event holds the public events of the Ingest API: one struct, its
// JSON to the letter, the check that a receiver makes of it, and event ids.
//
// Events are plain values. IDs is safe for concurrent use.
package event

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"postern/tracking/agent"
)

// Type is the type field of an event (reference, section 6).
type Type string

// The types of the reference's table, by their public names.
const (
	Injection       Type = "reception"
	Delivery        Type = "delivery"
	Bounce          Type = "inband"
	Delay           Type = "tempfail"
	OutOfBand       Type = "outofband"
	SpamComplaint   Type = "feedback"
	PolicyRejection Type = "rejection"
	Open            Type = "open"
	InitialOpen     Type = "initial_open"
	Click           Type = "click"
	AmpOpen         Type = "amp_open"
	AmpInitialOpen  Type = "amp_initial_open"
	AmpClick        Type = "amp_click"
	LinkUnsubscribe Type = "link"
	ListUnsubscribe Type = "list"
)

// DefaultLinkName is target_link_name where a link has no name of its own.
const DefaultLinkName = "Raw URL"

// Event is one event. Fields that are empty do not go out; which ones a type
// may have is the table's in schema.go. What the API wants as strings is a
// string here too.
type Event struct {
	Type      Type      `json:"type"`
	ID        string    `json:"event_id"`
	MessageID string    `json:"message_id"`
	Timestamp Timestamp `json:"timestamp"`

	RecvMethod string `json:"recv_method,omitempty"`
	DelvMethod string `json:"delv_method,omitempty"`

	Binding       string          `json:"binding,omitempty"`       // VirtualMTA
	BindingGroup  string          `json:"binding_group,omitempty"` // VirtualMTA pool
	CampaignID    string          `json:"campaign_id,omitempty"`   // job
	FriendlyFrom  string          `json:"friendly_from,omitempty"`
	MsgFrom       string          `json:"msg_from,omitempty"`
	MsgSize       string          `json:"msg_size,omitempty"` // bytes
	OpenTracking  *bool           `json:"open_tracking,omitempty"`
	ClickTracking *bool           `json:"click_tracking,omitempty"`
	InitialPixel  *bool           `json:"initial_pixel,omitempty"`
	RcptTo        string          `json:"rcpt_to,omitempty"`
	RawRcptTo     string          `json:"raw_rcpt_to,omitempty"`
	RcptHash      string          `json:"rcpt_hash,omitempty"` // with rcpt_domain, in the place of the two
	RcptDomain    string          `json:"rcpt_domain,omitempty"`
	RcptMeta      json.RawMessage `json:"rcpt_meta,omitempty"` // an object
	RcptTags      []string        `json:"rcpt_tags,omitempty"`
	RoutingDomain string          `json:"routing_domain,omitempty"`
	SendingIP     string          `json:"sending_ip,omitempty"`
	SubaccountID  uint32          `json:"subaccount_id,omitempty"`
	Subject       string          `json:"subject,omitempty"`

	NumRetries  string `json:"num_retries,omitempty"`
	QueueTime   string `json:"queue_time,omitempty"` // milliseconds
	BounceClass string `json:"bounce_class,omitempty"`
	ErrorCode   string `json:"error_code,omitempty"`
	Reason      string `json:"reason,omitempty"`
	RawReason   string `json:"raw_reason,omitempty"`

	FeedbackType string `json:"fbtype,omitempty"`
	ReportBy     string `json:"report_by,omitempty"`
	ReportTo     string `json:"report_to,omitempty"`
	UserString   string `json:"user_str,omitempty"`

	IPAddress       string         `json:"ip_address,omitempty"`
	UserAgent       string         `json:"user_agent,omitempty"`
	UserAgentParsed *agent.Program `json:"user_agent_parsed,omitempty"`
	GeoIP           *GeoIP         `json:"geo_ip,omitempty"`
	IsPrefetched    bool           `json:"is_prefetched,omitempty"`
	TargetLinkURL   string         `json:"target_link_url,omitempty"`
	TargetLinkName  string         `json:"target_link_name,omitempty"`

	// Class says who made an engagement event, where it was no person, and why.
	// It stands beside the API's object in the spool and is never uploaded.
	Class Class `json:"-"`

	// Local is what we know of the event beyond the API's fields. It stands
	// beside the API's object, too, and is never uploaded.
	Local Local `json:"-"`
}

// Local is what the API has no field for. A Session, an id that a client got as
// the answer to a message, is that of all copies of the message; the rest is
// what a policy_rejection says of a message that got no further.
type Local struct {
	Session string `json:"session,omitempty"`
	User    string `json:"user,omitempty"`
	From    string `json:"msg_from,omitempty"`      // MAIL FROM
	Author  string `json:"friendly_from,omitempty"` // the From field
	Subject string `json:"subject,omitempty"`
}

// beside is the object beside the API's.
type beside struct {
	Class  string `json:"class,omitempty"`
	Reason string `json:"reason,omitempty"`
	Local
}

// Class is a kind of maker of opens and clicks; the zero value is a person.
type Class struct {
	Kind   string // Prefetch, Scanner
	Reason string // a word for the rule that said so
}

// What may have made an engagement event in the place of a person: a mail
// program or proxy that fetches ahead, and a machine that looks at links.
const (
	Prefetch = "prefetch"
	Scanner  = "scanner"
)

// GeoIP is where an address is, as far as a database knows.
type GeoIP struct {
	Country    string  `json:"country,omitempty"`
	Region     string  `json:"region,omitempty"`
	City       string  `json:"city,omitempty"`
	Latitude   float64 `json:"latitude,omitempty"`
	Longitude  float64 `json:"longitude,omitempty"`
	Zip        string  `json:"zip,omitempty"`
	PostalCode string  `json:"postal_code,omitempty"`
}

// Timestamp is when the thing happened, as Unix seconds in a string.
type Timestamp struct{ time.Time }

// MarshalJSON writes Unix seconds as a string.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(t.Unix(), 10) + `"`), nil
}

// UnmarshalJSON reads Unix seconds from a string.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}

	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("event: timestamp %q is not Unix seconds", s)
	}

	t.Time = time.Unix(n, 0)
	return nil
}

// Encode writes the event as one line of the Ingest API's NDJSON, without the
// newline: {"msys":{"<group>":{...}}}.
func (e *Event) Encode() ([]byte, error) {
	schema, ok := schemas[e.Type]
	if !ok {
		return nil, fmt.Errorf("event: unknown type %q", e.Type)
	}

	var b bytes.Buffer
	b.WriteString(`{"msys":{"` + schema.group + `":`)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	b.WriteString(`}`)
	if e.Class != (Class{}) || e.Local != (Local{}) {
		own, _ := json.Marshal(beside{ // strings alone, which cannot fail
			Class:  e.Class.Kind,
			Reason: e.Class.Reason,
			Local:  e.Local,
		})
		b.WriteString(`,"postern":` + string(own))
	}
	b.WriteString(`}`)
	return b.Bytes(), nil
}

// onlySession begins the object beside the API's where it holds a session alone.
const onlySession = `}},"postern":{"session":"`

// CutSession takes the session off a line that Encode wrote, where nothing else
// is beside the API's object: what is left is to be uploaded. Other lines are
// returned as they are. The line is not changed.
func CutSession(line []byte) (rest []byte, session string) {
	inner, ok := bytes.CutSuffix(line, []byte(`"}}`))
	if !ok {
		return line, ""
	}

	at := bytes.LastIndexByte(inner, '"') + 1
	api, ok := bytes.CutSuffix(inner[:at], []byte(onlySession))
	if !ok || bytes.IndexByte(inner[at:], '\\') >= 0 {
		return line, ""
	}

	rest = make([]byte, 0, len(api)+len(`}}}`))
	rest = append(rest, api...)
	return append(rest, `}}}`...), string(inner[at:])
}

// IDs gives out event ids: decimal strings below 2^63. Each process counts up
// from a random start, which keeps the ids of many processes apart better than
// drawing each at random would.
type IDs struct{ next atomic.Uint64 }

// StableID is an event id that depends on nothing but its parts: what happens
// again (a record read twice, a report that comes in twice, a step that a crash
// repeats) is the same event.
func StableID(parts ...string) string {
	text := make([]byte, 0, 512)
	for _, p := range parts {
		text = append(append(text, p...), 0)
	}
	sum := sha256.Sum256(text)

	return strconv.FormatUint(binary.BigEndian.Uint64(sum[:])&(1<<63-1), 10)
}

// NewIDs draws a start.
func NewIDs() *IDs {
	var b [8]byte
	rand.Read(b[:])
	ids := &IDs{}
	ids.next.Store(binary.BigEndian.Uint64(b[:]))
	return ids
}

// Next is the next id.
func (i *IDs) Next() string { return strconv.FormatUint(i.next.Add(1)&(1<<63-1), 10) }

// Clip cuts what others wrote to n bytes, at a character boundary.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}

	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}

	return s[:n]
}
