package dialect

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

// Limits on X-MSYS-API. Metadata and tags are part of the events of every
// recipient.
const (
	maxCampaign    = 64     // bytes
	maxMetadata    = 10_000 // bytes of JSON without white space
	maxTags        = 10
	maxTag         = 255 // bytes
	maxRecipients  = 1000
	maxUnknownKeys = 20
)

// Limits on the text of a refusal, in bytes.
const (
	maxRefusal = 450      // of a reply line of 512 (RFC 5321 section 4.5.3.1.5)
	maxAddress = 254 + 64 // what is repeated of an address: the longest one fits
)

// msysAPI is the JSON of an X-MSYS-API field.
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
}

// msysKeys are the keys of msysAPI, and msysOptions those of its options. JSON
// keys are matched whatever their case.
var (
	msysKeys = []string{
		"campaign_id",
		"metadata",
		"tags",
		"options",
		"cc",
		"bcc",
		"archive",
	}
	msysOptions = []string{
		"open_tracking",
		"initial_open",
		"click_tracking",
		"transactional",
		"ip_pool",
		"dkim_key",
	}
)

// msysAddress is `{"email": "a@b", "name": "x"}` or `"a@b"`.
type msysAddress struct{ envelope.Address }

// UnmarshalJSON implements json.Unmarshaler.
func (a *msysAddress) UnmarshalJSON(b []byte) error {
	var object struct {
		Email string `json:"email"`
	}

	err := json.Unmarshal(b, &object.Email)
	if err != nil {
		err = json.Unmarshal(b, &object)
	}
	if err != nil {
		return err
	}

	a.Address, err = envelope.Parse(object.Email)
	if err != nil {
		return fmt.Errorf("%q: %w", quotable(object.Email), err)
	}
	return nil
}

// quotable returns what a refusal repeats of an address.
func quotable(s string) string {
	if s == "" {
		return "an empty address"
	}
	return reply.CleanLine(s, maxAddress)
}

// RefuseMsysAPI returns a permanent fault that names the field; its text is
// cleaned and bounded.
func RefuseMsysAPI(format string, args ...any) error {
	text := reply.CleanLine(fmt.Sprintf(format, args...), maxRefusal)
	return reply.Refuse(550, reply.EnhancedCode{5, 6, 0}, "X-MSYS-API: "+text)
}

// ParseMsysAPI reads an X-MSYS-API field, given with its name and line ends.
// Its errors are permanent faults.
func ParseMsysAPI(field []byte) (Instructions, error) {
	_, value, _ := bytes.Cut(field, []byte(":"))
	text := unfold(value)

	m, err := decodeMsysAPI(text)
	if err != nil {
		return Instructions{}, err
	}

	m.Metadata, err = compactMetadata(m.Metadata)
	if err != nil {
		return Instructions{}, err
	}
	if err := m.checkLimits(); err != nil {
		return Instructions{}, err
	}

	return Instructions{
		CampaignID:    m.CampaignID,
		Metadata:      m.Metadata,
		Tags:          m.Tags,
		OpenTracking:  m.Options.OpenTracking,
		InitialOpen:   m.Options.InitialOpen,
		ClickTracking: m.Options.ClickTracking,
		Transactional: m.Options.Transactional,
		IPPool:        m.Options.IPPool,
		DKIMKey:       m.Options.DKIMKey,
		CC:            addresses(m.CC),
		BCC:           addresses(m.BCC),
		Archive:       addresses(m.Archive),
		UnknownKeys:   unknownKeys(text),
	}, nil
}

// decodeMsysAPI decodes the one JSON value of text.
func decodeMsysAPI(text []byte) (*msysAPI, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	m := &msysAPI{}
	if err := d.Decode(m); err != nil {
		var typeError *json.UnmarshalTypeError
		switch {
		case errors.As(err, &typeError):
			return nil, RefuseMsysAPI("%s must not be a %s", typeError.Field, typeError.Value)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, RefuseMsysAPI("the JSON ends too early")
		}
		return nil, RefuseMsysAPI("%v", err)
	}

	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, RefuseMsysAPI("something follows the JSON")
	}
	return m, nil
}

func (m *msysAPI) checkLimits() error {
	switch {
	case len(m.CampaignID) > maxCampaign:
		return RefuseMsysAPI("campaign_id is longer than %d bytes", maxCampaign)
	case len(m.Tags) > maxTags:
		return RefuseMsysAPI("more than %d tags", maxTags)
	case slices.ContainsFunc(m.Tags, func(tag string) bool { return len(tag) > maxTag }):
		return RefuseMsysAPI("a tag is longer than %d bytes", maxTag)
	case len(m.CC)+len(m.BCC)+len(m.Archive) > maxRecipients:
		return RefuseMsysAPI("more than %d recipients in cc, bcc and archive", maxRecipients)
	}

	return nil
}

// compactMetadata returns metadata as events hold it: without white space, and
// in UTF-8. It fails if that is not an object, or too long; null is nil.
func compactMetadata(metadata json.RawMessage) (json.RawMessage, error) {
	if len(metadata) == 0 {
		return nil, nil
	}

	var buf bytes.Buffer
	if err := json.Compact(&buf, bytes.ToValidUTF8(metadata, []byte("\uFFFD"))); err != nil {
		return nil, RefuseMsysAPI("%v", err)
	}
	compact := buf.Bytes()

	switch {
	case string(compact) == "null":
		return nil, nil
	case compact[0] != '{':
		return nil, RefuseMsysAPI("metadata must be an object")
	case len(compact) > maxMetadata:
		return nil, RefuseMsysAPI("metadata is longer than %d bytes", maxMetadata)
	}
	return compact, nil
}

func addresses(list []msysAddress) []envelope.Address {
	var out []envelope.Address
	for _, a := range list {
		out = append(out, a.Address)
	}

	return out
}

// unfold undoes folding: a line end and the white space behind it become one
// space.
func unfold(b []byte) []byte {
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

// unknownKeys returns the keys of an X-MSYS-API value that are not acted upon,
// in order, those of options with "options." in front.
func unknownKeys(value []byte) []string {
	var unknown []string

	for key, raw := range objectFields(value) {
		if !isKnown(msysKeys, key) {
			unknown = append(unknown, key)
			continue
		}
		if !strings.EqualFold(key, "options") {
			continue
		}

		for option := range objectFields(raw) {
			if !isKnown(msysOptions, option) {
				unknown = append(unknown, "options."+option)
			}
		}
	}

	slices.Sort(unknown)
	return unknown[:min(len(unknown), maxUnknownKeys)]
}

// objectFields returns the fields of a JSON object, and none of anything else.
func objectFields(value []byte) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(value, &fields)
	return fields
}

func isKnown(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}
