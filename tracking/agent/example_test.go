package agent_test

import (
	"fmt"

	"postern/tracking/agent"
)

func ExampleReader_Read() {
	r := agent.NewReader()

	mail := r.Read("Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148")
	fmt.Println(mail.AgentFamily, mail.OSFamily, mail.IsMobile)

	proxy := r.Read("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)")
	fmt.Println(proxy.AgentFamily, proxy.Proxy)

	robot := r.Read("Go-http-client/2.0")
	fmt.Println(robot.Robot)
	// Output:
	// Apple Mail iOS true
	// Gmail Image Proxy google
	// true
}
