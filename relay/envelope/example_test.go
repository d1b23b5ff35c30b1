package envelope_test

import (
	"errors"
	"fmt"

	"postern/relay/envelope"
)

func ExampleParse() {
	a, err := envelope.Parse(`"john doe"@example.com`)
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println(a.Local)
	fmt.Println(a.Domain)
	fmt.Println(a.Path())
	// Output:
	// john doe
	// example.com
	// <"john doe"@example.com>
}

func ExampleParseMailboxes() {
	list, err := envelope.ParseMailboxes(`"News, Inc." <news@example.com>, sales@example.com`)
	fmt.Println(list, err)

	list, err = envelope.ParseMailboxes(`News, Inc. <news@example.com>`)
	fmt.Println(list, errors.Is(err, envelope.ErrUnquotedName))
	// Output:
	// [news@example.com sales@example.com] <nil>
	// [news@example.com] true
}

func ExampleMatchDomain() {
	for _, domain := range []string{"example.com", "news.example.com", "notexample.com"} {
		fmt.Println(domain, envelope.MatchDomain("*.example.com", domain))
	}
	// Output:
	// example.com false
	// news.example.com true
	// notexample.com false
}
