package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"postern/tracking/event"
)

func ExampleEvent_EncodePublic() {
	e := &event.Event{
		Type:           event.Click,
		ID:             "9223372036854775807",
		MessageID:      "aaaaaaaaaaaaaaaaaaaaaaaaaa",
		Timestamp:      event.Timestamp{Time: time.Unix(1795500000, 0)},
		DelvMethod:     "esmtp",
		RcptTo:         "bob@example.com",
		TargetLinkURL:  "https://example.com/offer",
		TargetLinkName: event.DefaultLinkName,
	}

	line, err := e.EncodePublic()
	if err != nil {
		log.Fatal(err)
	}

	var out bytes.Buffer
	if err := json.Indent(&out, line, "", "  "); err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.String())

	// Output:
	// {
	//   "type": "click",
	//   "time": "2026-11-24T06:00:00Z",
	//   "event_id": "9223372036854775807",
	//   "message_id": "aaaaaaaaaaaaaaaaaaaaaaaaaa",
	//   "delv_method": "esmtp",
	//   "rcpt_to": "bob@example.com",
	//   "target_link_url": "https://example.com/offer",
	//   "target_link_name": "Raw URL"
	// }
}
