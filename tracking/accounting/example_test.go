package accounting_test

import (
	"fmt"
	"log/slog"
	"strings"

	"postern/tracking/accounting"
	"postern/tracking/event"
)

func ExamplePrint() {
	const file = `type,timeLogged,orig,rcpt,dsnStatus,dsnDiag,bounceCat,header_X-Sp-Message-Id
d,2026-03-01 10:00:00+0000,news@example.com,ann@example.net,2.0.0,smtp;250 ok,,m1
b,2026-03-01 10:00:05+0000,news@example.com,bob@example.net,5.1.1,smtp;550 no such user,bad-mailbox,m2
`

	show := func(e *event.Event) error {
		fmt.Printf("%s of %s to %s: %q\n", e.Type.PublicName(), e.MessageID, e.RcptTo, e.Reason)
		return nil
	}
	err := accounting.Print(strings.NewReader(file), "acct.csv", accounting.Settings{}, slog.Default(), show)
	if err != nil {
		fmt.Println(err)
	}

	// Output:
	// delivery of m1 to ann@example.net: ""
	// bounce of m2 to bob@example.net: "550 no such user"
}
