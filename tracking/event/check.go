package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// fields is the JSON of one event, by name.
type fields map[string]json.RawMessage

// has reports whether a field has a value that is not empty.
func (f fields) has(name string) bool {
	v := string(f[name])

	return v != "" && v != `""` && v != "null"
}

// numbers are the fields whose values are numbers in strings.
var numbers = []string{"timestamp", "msg_size", "num_retries", "queue_time", "bounce_class"}

// check returns an error if the Ingest API would refuse an event with these
// fields.
func (f fields) check(s *schema) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !s.allowed[name] {
			return fmt.Errorf("no field %s in this type", name)
		}
	}

	if err := f.checkRequired(s); err != nil {
		return err
	}

	for _, name := range numbers {
		if !f.has(name) {
			continue
		}

		var n string
		_ = json.Unmarshal(f[name], &n) // cannot fail: Decode read it as a string
		if _, err := strconv.ParseUint(n, 10, 63); err != nil {
			return fmt.Errorf("%s %q is not a number", name, n)
		}
	}

	if f.has("rcpt_meta") && f["rcpt_meta"][0] != '{' {
		return errors.New("rcpt_meta is not an object")
	}

	return nil
}

// checkRequired returns an error if a field is missing that events of a type need.
// The recipient is given by its address or by hash and domain, never by both.
func (f fields) checkRequired(s *schema) error {
	required := join([]string{"message_id", "timestamp"}, s.must...)

	hash, domain := f.has("rcpt_hash"), f.has("rcpt_domain")
	switch {
	case hash != domain:
		return errors.New("rcpt_hash and rcpt_domain go together")
	case hash && (f.has("rcpt_to") || f.has("raw_rcpt_to")):
		return errors.New("rcpt_hash together with rcpt_to or raw_rcpt_to")
	case !hash:
		required = append(required, "rcpt_to")
	}

	for _, name := range required {
		if !f.has(name) {
			return fmt.Errorf("%s is missing", name)
		}
	}

	if !f.has("recv_method") && !f.has("delv_method") {
		return errors.New("recv_method or delv_method is missing")
	}

	return nil
}

// checkID returns an error if an event id is not a decimal number below 2^63
// without leading zeros.
func checkID(id string) error {
	n, err := strconv.ParseUint(id, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != id {
		return fmt.Errorf("event_id %q is not a decimal number below 2^63", id)
	}

	return nil
}
