package dsn_test

import (
	"fmt"
	"strings"
	"time"

	"postern/relay/dsn"
	"postern/relay/envelope"
)

func ExampleReport_Encode() {
	report := &dsn.Report{
		To:       envelope.Address{Local: "news", Domain: "example.com"},
		Original: dsn.Original{Header: []byte("Subject: Hello\r\n")},
		Arrived:  time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Failed: []dsn.Recipient{{
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "reader", Domain: "example.net"}},
			Reply:     "550 5.1.1 No such user",
			Upstream:  "mx.example.net:25",
		}},
	}

	notification, err := report.Encode(dsn.Options{
		ID:       "id",
		Hostname: "gw.example.com",
		Date:     time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	_, status, _ := strings.Cut(string(notification), "Final-Recipient:")
	status, _, _ = strings.Cut(status, "\r\n\r\n")
	fmt.Println("Final-Recipient:" + strings.ReplaceAll(status, "\r\n", "\n"))
	// Output:
	// Final-Recipient: rfc822;reader@example.net
	// Action: failed
	// Status: 5.1.1
	// Remote-Mta: dns; mx.example.net
	// Diagnostic-Code: smtp; 550 5.1.1 No such user
}
