// Package event holds the public events of the Ingest API: one struct, its
// JSON to the letter, the check that a receiver makes of it, and event ids.
//
// Events are plain values. IDs is safe for concurrent use.
package event

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"postern/tracking/agent"
)

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
