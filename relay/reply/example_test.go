package reply_test

import (
	"errors"
	"fmt"

	"postern/relay/reply"
)

func ExampleFor() {
	unknownUser := reply.Refuse(550, reply.EnhancedCode{5, 1, 1}, "No such user")
	fmt.Println(reply.For(fmt.Errorf("send: %w", unknownUser)))
	fmt.Println(reply.For(&reply.Fault{Class: reply.Overloaded}))
	fmt.Println(reply.For(errors.New("disk on fire")))
	// Output:
	// 550 5.1.1 No such user
	// 452 4.3.1 Insufficient system storage, try again later
	// 451 4.3.0 Internal error, try again later
}

func ExampleParseCodes() {
	code, enhanced := reply.ParseCodes("550 5.1.1 No such user")
	fmt.Println(code, enhanced)
	// Output:
	// 550 5.1.1
}
