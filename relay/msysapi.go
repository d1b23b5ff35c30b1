package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// msysAPI is what a message's X-MSYS-API field asks for (SparkPost's SMTP API).
type msysAPI struct {
	CampaignID string          `json:"campaign_id"`
	Metadata   json.RawMessage `json:"metadata"`
	Tags       []string        `json:"tags"`
	Options    struct {
		OpenTracking  *bool  `json:"open_tracking"`
		InitialOpen   *bool  `json:"initial_open"`
		ClickTracking *bool  `json:"click_tracking"`
		Transactional bool   `json:"transactional"`
		IPPool        string `json:"ip_pool"`
		DKIMKey       string `json:"dkim_key"`
	} `json:"options"`
	CC      []msysAddress `json:"cc"`
	BCC     []msysAddress `json:"bcc"`
	Archive []msysAddress `json:"archive"`

	unknown []string // keys that nothing is made of
}

// msysAddress is `{"email": "a@b", "name": "x"}` or `"a@b"`.
type msysAddress struct{ envelope.Address }

func (a *msysAddress) UnmarshalJSON(b []byte) error {
	var o struct {
		Email string `json:"email"`
	}

	err := json.Unmarshal(b, &o.Email)
	if err != nil {
		err = json.Unmarshal(b, &o)
	}
	if err != nil {
		return err
	}

	a.Address, err = envelope.Parse(o.Email)
	if err != nil {
		return fmt.Errorf("%q: %w", shownAddress(o.Email), err)
	}
	return nil
}

// maxShown bounds what a refusal repeats of an address, in bytes.
const maxShown = 254 + 64

// shownAddress is what a refusal repeats of an address.
func shownAddress(s string) string {
	if s == "" {
		return "an empty address"
	}
	return reply.CleanLine(s, maxShown)
}

// Limits on X-MSYS-API. What the events of a message hold is in the event of
// each of its recipients.
const (
	maxCampaign  = 64     // bytes
	maxMetadata  = 10_000 // bytes of JSON without white space
	maxTags      = 10
	maxTag       = 255 // bytes
	maxMsysRcpts = 1000

	maxMsysRefusal = 450 // bytes of what a refusal says, of a reply line of 512
)

func msysRefusal(format string, args ...any) error {
	text := reply.CleanLine(fmt.Sprintf(format, args...), maxMsysRefusal)
	return reply.Refuse(550, reply.EnhancedCode{5, 6, 0}, "X-MSYS-API: "+text)
}

// parseMsysAPI reads the field's raw bytes.
func parseMsysAPI(raw []byte) (*msysAPI, error) {
	_, value, _ := bytes.Cut(raw, []byte(":"))
	text := unfoldOneSpace(value)

	d := json.NewDecoder(bytes.NewReader(text))
	m := &msysAPI{}
	if err := d.Decode(m); err != nil {
		var typ *json.UnmarshalTypeError
		switch {
		case errors.As(err, &typ):
			return nil, msysRefusal("%s must not be a %s", typ.Field, typ.Value)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, msysRefusal("the JSON ends too early")
		}
		return nil, msysRefusal("%v", err)
	}

	if _, err := d.Token(); err != io.EOF {
		return nil, msysRefusal("something follows the JSON")
	}
	if err := m.checkMetadata(); err != nil {
		return nil, err
	}

	switch {
	case len(m.CampaignID) > maxCampaign:
		return nil, msysRefusal("campaign_id is longer than %d bytes", maxCampaign)
	case len(m.Tags) > maxTags:
		return nil, msysRefusal("more than %d tags", maxTags)
	case slices.ContainsFunc(m.Tags, func(tag string) bool { return len(tag) > maxTag }):
		return nil, msysRefusal("a tag is longer than %d bytes", maxTag)
	case len(m.CC)+len(m.BCC)+len(m.Archive) > maxMsysRcpts:
		return nil, msysRefusal("more than %d recipients in cc, bcc and archive", maxMsysRcpts)
	}

	m.unknown = unknownMsysKeys(text)
	return m, nil
}

// checkMetadata holds metadata to an object of a bounded size, and leaves it in
// the form that events have it in: without white space, and in UTF-8.
func (m *msysAPI) checkMetadata() error {
	if len(m.Metadata) == 0 {
		return nil
	}

	var compact bytes.Buffer
	if err := json.Compact(&compact, bytes.ToValidUTF8(m.Metadata, []byte("\uFFFD"))); err != nil {
		return msysRefusal("%v", err)
	}
	meta := compact.Bytes()

	switch {
	case string(meta) == "null":
		m.Metadata = nil
		return nil
	case meta[0] != '{':
		return msysRefusal("metadata must be an object")
	case len(meta) > maxMetadata:
		return msysRefusal("metadata is longer than %d bytes", maxMetadata)
	}
	m.Metadata = meta
	return nil
}

// unfoldOneSpace undoes folding: a line end and the white space behind it
// become one space.
func unfoldOneSpace(b []byte) []byte {
	out := make([]byte, 0, len(b))

	for i := 0; i < len(b); i++ {
		if b[i] != '\r' && b[i] != '\n' {
			out = append(out, b[i])
			continue
		}

		for i+1 < len(b) && (b[i+1] == '\n' || b[i+1] == ' ' || b[i+1] == '\t') {
			i++
		}
		out = append(out, ' ')
	}

	return out
}

// maxUnknownKeys bounds the keys of one message that are counted.
const maxUnknownKeys = 20

// msysKeys are the keys of X-MSYS-API that are acted upon, and msysOptions those
// of its options. JSON's keys are matched whatever their case.
var (
	msysKeys    = []string{"campaign_id", "metadata", "tags", "options", "cc", "bcc", "archive"}
	msysOptions = []string{"open_tracking", "initial_open", "click_tracking", "transactional", "ip_pool", "dkim_key"}
)

// unknownMsysKeys returns the keys of X-MSYS-API that nothing is made of, in
// order; options' with "options." in front.
func unknownMsysKeys(value []byte) []string {
	fields := objectFields(value)

	var unknown []string
	for key, raw := range fields {
		if !known(msysKeys, key) {
			unknown = append(unknown, key)
			continue
		}
		if !strings.EqualFold(key, "options") {
			continue
		}
		for option := range objectFields(raw) {
			if !known(msysOptions, option) {
				unknown = append(unknown, "options."+option)
			}
		}
	}
	slices.Sort(unknown)

	return unknown[:min(len(unknown), maxUnknownKeys)]
}

// objectFields returns the fields of a JSON object; what is not one has none.
func objectFields(value []byte) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(value, &fields)
	return fields
}

func known(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}
