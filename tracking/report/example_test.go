package report_test

import (
	"fmt"
	"strings"

	"postern/tracking/report"
)

// A delivery status notification (RFC 3464) names its recipients in a part for
// programs.
func ExampleParse() {
	mail := `From: MAILER-DAEMON@mx.example.net
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

I'm sorry to have to inform you that your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; bob@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <bob@example.com>: no such user

--b--
`

	r := report.Parse([]byte(strings.ReplaceAll(mail, "\n", "\r\n")))
	fmt.Println(r.Kind)
	for _, c := range r.Recipients {
		fmt.Println(c.Address(), c.Status, c.Class, c.Hard)
		fmt.Println(c.Diagnostic)
	}

	// Output:
	// bounce
	// bob@example.com 5.1.1 10 true
	// 550 5.1.1 <bob@example.com>: no such user
}
