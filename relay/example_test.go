package relay_test

import (
	"fmt"

	"postern/relay"
)

func ExampleJobID() {
	fmt.Println(relay.JobID("spring sale 2026"))
	fmt.Println(relay.JobID("Fr\u00fchjahr `a\"b"))
	// Output:
	// spring_sale_2026
	// Fr_hjahr__a_b
}
