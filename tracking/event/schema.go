package event

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// schema is what a type's JSON may hold beside the common fields, and what it
// has to: the reference's table in section 6. Every type needs its recipient,
// by address or by hash.
type schema struct {
	public  string // the event's public name, as [signals] report has it
	class   string // of [signals] report, where one names several types
	meaning string // for the documents
	group   string
	may     []string
	must    []string
	allowed map[string]bool
}

var (
	common = []string{
		"type", "event_id", "message_id", "timestamp",
		"rcpt_to", "rcpt_hash", "rcpt_domain", "subaccount_id",
	}
	injection = []string{
		"binding", "binding_group", "campaign_id", "friendly_from", "msg_from", "msg_size",
		"open_tracking", "click_tracking", "initial_pixel", "recv_method", "routing_domain",
		"sending_ip", "subject", "rcpt_meta", "rcpt_tags",
	}
	delivery  = join(injection, "delv_method", "num_retries", "queue_time", "ip_address")
	bounce    = join(delivery, "bounce_class", "error_code", "reason", "raw_reason")
	open      = []string{"delv_method", "ip_address", "user_agent", "user_agent_parsed", "geo_ip", "is_prefetched"}
	click     = join(open, "target_link_url", "target_link_name")
	delivered = []string{"delv_method"}
)

func join(a []string, b ...string) []string { return append(slices.Clone(a), b...) }

var schemas = map[Type]*schema{
	Injection: {
		public:  "injection",
		meaning: "a copy was accepted by the upstream, or is safe in the retry spool",
		group:   "message_event",
		may:     injection,
		must:    []string{"recv_method", "friendly_from"},
	},
	Delivery: {
		public:  "delivery",
		meaning: "PowerMTA delivered a copy",
		group:   "message_event",
		may:     delivery,
		must:    delivered,
	},
	Bounce: {
		public:  "bounce",
		meaning: "a copy was refused for good, by the upstream or by the receiver",
		group:   "message_event",
		may:     bounce,
		must:    []string{"bounce_class", "raw_reason"},
	},
	Delay: {
		public:  "delay",
		meaning: "an attempt failed for now and will be repeated",
		group:   "message_event",
		may:     bounce,
		must:    []string{"bounce_class", "raw_reason"},
	},
	OutOfBand: {
		public:  "out_of_band",
		meaning: "a bounce came by mail after the delivery",
		group:   "message_event",
		may: []string{
			"bounce_class", "error_code", "reason", "raw_reason",
			"delv_method", "recv_method", "friendly_from", "msg_from",
		},
		must: []string{"bounce_class", "raw_reason"},
	},
	SpamComplaint: {
		public:  "spam_complaint",
		meaning: "a receiver's feedback loop reported the message",
		group:   "message_event",
		may: []string{
			"fbtype", "report_by", "report_to", "user_str",
			"friendly_from", "sending_ip", "delv_method",
		},
		must: []string{"fbtype", "delv_method"},
	},
	PolicyRejection: {
		public:  "policy_rejection",
		meaning: "the gateway itself refused a message",
		group:   "message_event",
		may:     []string{"bounce_class", "error_code", "reason", "raw_reason", "raw_rcpt_to", "recv_method"},
		must:    []string{"recv_method", "raw_reason"},
	},
	Open: {
		public:  "open",
		class:   Engagement,
		meaning: "the pixel at the end of the message was fetched",
		group:   "track_event",
		may:     open,
		must:    delivered,
	},
	InitialOpen: {
		public:  "initial_open",
		class:   Engagement,
		meaning: "the pixel at the start of the message was fetched",
		group:   "track_event",
		may:     open,
		must:    delivered,
	},
	Click: {
		public:  "click",
		class:   Engagement,
		meaning: "a tracked link was followed",
		group:   "track_event",
		may:     click,
		must:    []string{"delv_method", "target_link_url", "target_link_name"},
	},
	AmpOpen: {
		public:  "amp_open",
		class:   Engagement,
		meaning: "as open, of the AMP part",
		group:   "track_event",
		may:     open,
		must:    delivered,
	},
	AmpInitialOpen: {
		public:  "amp_initial_open",
		class:   Engagement,
		meaning: "as initial_open, of the AMP part",
		group:   "track_event",
		may:     open,
		must:    delivered,
	},
	AmpClick: {
		public:  "amp_click",
		class:   Engagement,
		meaning: "as click, of the AMP part",
		group:   "track_event",
		may:     click,
		must:    []string{"delv_method", "target_link_url", "target_link_name"},
	},
	LinkUnsubscribe: {
		public:  "link_unsubscribe",
		class:   Unsubscribe,
		meaning: "a link with data-msys-unsubscribe was followed",
		group:   "unsubscribe_event",
		may:     []string{"recv_method", "delv_method", "user_agent", "target_link_url"},
		must:    []string{"target_link_url"},
	},
	ListUnsubscribe: {
		public:  "list_unsubscribe",
		class:   Unsubscribe,
		meaning: "List-Unsubscribe was used, by one click or by mail",
		group:   "unsubscribe_event",
		may:     []string{"recv_method", "delv_method"},
	},
}

func init() {
	for _, s := range schemas {
		s.allowed = map[string]bool{}
		for _, f := range join(common, s.may...) {
			s.allowed[f] = true
		}
	}
}

// PublicName is how the documents and [signals] report call the type.
func (t Type) PublicName() string {
	if s := schemas[t]; s != nil {
		return s.public
	}

	return ""
}

// ByPublicName finds a type.
func ByPublicName(name string) (Type, bool) {
	for t, s := range schemas {
		if s.public == name {
			return t, true
		}
	}

	return "", false
}

// Decode reads what Encode wrote and holds it to the API's rules: group, type,
// id, the fields that a type must and may have.
func Decode(line []byte) (*Event, error) {
	var outer struct {
		Msys    map[string]map[string]json.RawMessage `json:"msys"`
		Postern beside                                `json:"postern"`
	}
	if err := strict(line, &outer); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if len(outer.Msys) != 1 {
		return nil, fmt.Errorf("event: %d groups, want one", len(outer.Msys))
	}

	group := slices.Collect(maps.Keys(outer.Msys))[0]
	fields := outer.Msys[group]
	raw, _ := json.Marshal(fields) // of JSON that was just read
	var e Event
	if err := strict(raw, &e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	s := schemas[e.Type]
	if s == nil || s.group != group {
		return nil, fmt.Errorf("event: type %q in group %q", e.Type, group)
	}

	if err := e.check(s, fields); err != nil {
		return nil, fmt.Errorf("event: %s: %w", e.Type, err)
	}
	e.Class = Class{Kind: outer.Postern.Class, Reason: outer.Postern.Reason}
	e.Local = outer.Postern.Local
	return &e, nil
}

func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}

	return nil
}

// numbers are the fields that are numbers in strings.
var numbers = []string{"timestamp", "msg_size", "num_retries", "queue_time", "bounce_class"}

func (e *Event) check(s *schema, fields map[string]json.RawMessage) error {
	if n, err := strconv.ParseUint(e.ID, 10, 63); err != nil || strconv.FormatUint(n, 10) != e.ID {
		return fmt.Errorf("event_id %q is not a decimal below 2^63", e.ID)
	}

	for _, f := range slices.Sorted(maps.Keys(fields)) {
		if !s.allowed[f] {
			return fmt.Errorf("no field %s in this type", f)
		}
	}
	has := func(f string) bool {
		v := string(fields[f])
		return v != "" && v != `""` && v != "null"
	}
	must := join([]string{"message_id", "timestamp"}, s.must...)
	switch hash, domain := has("rcpt_hash"), has("rcpt_domain"); {
	case hash != domain:
		return errors.New("rcpt_hash and rcpt_domain go together")
	case hash && (has("rcpt_to") || has("raw_rcpt_to")):
		return errors.New("rcpt_hash stands in the place of rcpt_to and raw_rcpt_to")
	case !hash:
		must = append(must, "rcpt_to")
	}
	for _, f := range must {
		if !has(f) {
			return fmt.Errorf("%s is missing", f)
		}
	}
	if !has("recv_method") && !has("delv_method") {
		return errors.New("recv_method or delv_method is missing")
	}

	for _, f := range numbers {
		if !has(f) {
			continue
		}
		var n string
		_ = json.Unmarshal(fields[f], &n) // which read as a string before
		if _, err := strconv.ParseUint(n, 10, 63); err != nil {
			return fmt.Errorf("%s %q is not a number", f, n)
		}
	}
	if has("rcpt_meta") && fields["rcpt_meta"][0] != '{' {
		return errors.New("rcpt_meta is not an object")
	}

	return nil
}

// HashRecipient puts the hash of the lower-cased address in the place of the
// address: privacy_policy = "sha1" (reference, section 6).
func (e *Event) HashRecipient() {
	if e.RcptTo == "" {
		return
	}

	address := strings.ToLower(e.RcptTo)
	sum := sha1.Sum([]byte(address))
	e.RcptHash = base64.StdEncoding.EncodeToString(sum[:])
	e.RcptDomain = address[strings.LastIndexByte(address, '@')+1:]
	e.RcptTo, e.RawRcptTo = "", ""
}
