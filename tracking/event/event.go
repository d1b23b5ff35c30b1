// Package event defines events: what happened to a message, or was done with it.
//
// There is one struct for all types of events. Encode and Decode are the form in
// the event log, which is the JSON of SparkPost Signals' Ingest API (as its
// documentation describes it) and what Postern knows besides. EncodePublic is the
// form for people and scripts. A Log records events durably.
//
// Events are plain values. IDs and Log are safe for concurrent use.
package event

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"postern/tracking/agent"
)

// Event is one event. Empty fields are left out of its JSON; schema.go has the
// fields of each type. Numbers that are strings in the Ingest API are strings here
// too.
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
	RcptHash      string          `json:"rcpt_hash,omitempty"` // with rcpt_domain, instead of the two above
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

	// Class says who caused an engagement event if it was not a person. It is kept
	// in the event log and never uploaded.
	Class Class `json:"-"`

	// Local is what the Ingest API has no field for. It is kept in the event log
	// and never uploaded.
	Local Local `json:"-"`
}

// Local is what is known of an event beyond the fields of the Ingest API. All but
// Session is about messages that got no further than a policy_rejection.
type Local struct {
	Session string `json:"session,omitempty"`       // in the reply that the client got to the message
	User    string `json:"user,omitempty"`          // who submitted it
	From    string `json:"msg_from,omitempty"`      // MAIL FROM
	Author  string `json:"friendly_from,omitempty"` // the From field
	Subject string `json:"subject,omitempty"`
}

// Class says who opened or clicked. The zero value is a person.
type Class struct {
	Kind   string // Prefetch or Scanner
	Reason string // a word for the rule that decided
}

// Kinds of Class besides a person: a mail program or proxy that fetches images
// ahead of time, and a security scanner that follows links.
const (
	Prefetch = "prefetch"
	Scanner  = "scanner"
)

// DefaultLinkName is the target_link_name of a link that was not given a name.
const DefaultLinkName = "Raw URL"

// GeoIP is the location of an IP address, as far as the database knows it.
type GeoIP struct {
	Country    string  `json:"country,omitempty"`
	Region     string  `json:"region,omitempty"`
	City       string  `json:"city,omitempty"`
	Latitude   float64 `json:"latitude,omitempty"`
	Longitude  float64 `json:"longitude,omitempty"`
	Zip        string  `json:"zip,omitempty"`
	PostalCode string  `json:"postal_code,omitempty"`
}

// Timestamp is when something happened. Its JSON is a string of Unix seconds.
type Timestamp struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(t.Unix(), 10) + `"`), nil
}

// UnmarshalJSON implements json.Unmarshaler.
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

// Clip returns s, cut to at most n bytes at a boundary between characters.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}

	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}

	return s[:n]
}
