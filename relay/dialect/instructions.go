package dialect

import (
	"encoding/json"

	"postern/relay/envelope"
)

// Instructions are what the sender of a message asks for. The zero value asks
// for nothing.
type Instructions struct {
	CampaignID string
	Metadata   json.RawMessage // a compact JSON object in UTF-8; nil: none
	Tags       []string

	OpenTracking  *bool // nil: not given
	InitialOpen   *bool
	ClickTracking *bool
	Transactional bool

	IPPool  string // a VirtualMTA or a pool; empty: not given
	DKIMKey string // the name of a key; empty: not given

	CC      []envelope.Address // further recipients
	BCC     []envelope.Address
	Archive []envelope.Address // recipients whose copies carry the first recipient's links

	// UnknownKeys are the keys that are not acted upon, in order and of a
	// bounded number; those of options begin with "options.".
	UnknownKeys []string
}
