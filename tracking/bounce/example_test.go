package bounce_test

import (
	"fmt"

	"postern/tracking/bounce"
)

func ExampleClassify() {
	for _, r := range []bounce.Refusal{
		{Status: "5.1.1", Text: "550 5.1.1 <bob@example.com>: no such user here"},
		{Status: "5.7.1", Text: "550 5.7.1 blocked using zen.spamhaus.org"},
		{Status: "4.2.2", Text: "452 4.2.2 The mailbox is full"},
	} {
		v := bounce.Classify(r)
		fmt.Println(v.Class, v.Hard)
	}

	// Output:
	// 10 true
	// 51 false
	// 22 false
}
