package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

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
