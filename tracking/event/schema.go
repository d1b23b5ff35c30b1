package event

import (
	"slices"
)

// schema is what the Ingest API says of one type of event. All types have the
// common fields and need a recipient, by address or by hash.
type schema struct {
	public  string          // public name
	class   string          // Engagement, Unsubscribe, or empty
	meaning string          // for the documents
	group   string          // name of the object within "msys"
	may     []string        // fields besides the common ones
	must    []string        // fields that must not be empty
	allowed map[string]bool // may and common
}

var (
	commonFields = []string{
		"type", "event_id", "message_id", "timestamp",
		"rcpt_to", "rcpt_hash", "rcpt_domain", "subaccount_id",
	}
	injectionFields = []string{
		"binding", "binding_group", "campaign_id", "friendly_from", "msg_from", "msg_size",
		"open_tracking", "click_tracking", "initial_pixel", "recv_method", "routing_domain",
		"sending_ip", "subject", "rcpt_meta", "rcpt_tags",
	}
	deliveryFields = join(injectionFields, "delv_method", "num_retries", "queue_time", "ip_address")
	bounceFields   = join(deliveryFields, "bounce_class", "error_code", "reason", "raw_reason")
	openFields     = []string{
		"delv_method", "ip_address", "user_agent", "user_agent_parsed", "geo_ip", "is_prefetched",
	}
	clickFields     = join(openFields, "target_link_url", "target_link_name")
	deliveredFields = []string{"delv_method"}
)

// join returns a new slice of a and b.
func join(a []string, b ...string) []string { return append(slices.Clone(a), b...) }

var schemas = map[Type]*schema{
	Injection: {
		public:  "injection",
		meaning: "a copy was accepted by the upstream, or is safe in the retry spool",
		group:   "message_event",
		may:     injectionFields,
		must:    []string{"recv_method", "friendly_from"},
	},
	Delivery: {
		public:  "delivery",
		meaning: "PowerMTA delivered a copy",
		group:   "message_event",
		may:     deliveryFields,
		must:    deliveredFields,
	},
	Bounce: {
		public:  "bounce",
		meaning: "a copy was refused for good, by the upstream or by the receiver",
		group:   "message_event",
		may:     bounceFields,
		must:    []string{"bounce_class", "raw_reason"},
	},
	Delay: {
		public:  "delay",
		meaning: "an attempt failed for now and will be repeated",
		group:   "message_event",
		may:     bounceFields,
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
		may:     openFields,
		must:    deliveredFields,
	},
	InitialOpen: {
		public:  "initial_open",
		class:   Engagement,
		meaning: "the pixel at the start of the message was fetched",
		group:   "track_event",
		may:     openFields,
		must:    deliveredFields,
	},
	Click: {
		public:  "click",
		class:   Engagement,
		meaning: "a tracked link was followed",
		group:   "track_event",
		may:     clickFields,
		must:    []string{"delv_method", "target_link_url", "target_link_name"},
	},
	AmpOpen: {
		public:  "amp_open",
		class:   Engagement,
		meaning: "as open, of the AMP part",
		group:   "track_event",
		may:     openFields,
		must:    deliveredFields,
	},
	AmpInitialOpen: {
		public:  "amp_initial_open",
		class:   Engagement,
		meaning: "as initial_open, of the AMP part",
		group:   "track_event",
		may:     openFields,
		must:    deliveredFields,
	},
	AmpClick: {
		public:  "amp_click",
		class:   Engagement,
		meaning: "as click, of the AMP part",
		group:   "track_event",
		may:     clickFields,
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

// init fills in what is derived from the other fields.
func init() {
	for _, s := range schemas {
		s.allowed = map[string]bool{}
		for _, f := range join(commonFields, s.may...) {
			s.allowed[f] = true
		}
	}
}
