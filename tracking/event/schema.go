package event

import (
	"slices"
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
