package dialect_test

import (
	"fmt"

	"postern/relay/dialect"
)

func ExampleParseMsysAPI() {
	field := "X-MSYS-API: {\"campaign_id\": \"spring\",\r\n \"options\": {\"click_tracking\": false, \"colour\": \"red\"}}\r\n"
	in, err := dialect.ParseMsysAPI([]byte(field))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(in.CampaignID, *in.ClickTracking, in.UnknownKeys)

	_, err = dialect.ParseMsysAPI([]byte("X-MSYS-API: {\"tags\": 7}\r\n"))
	fmt.Println(err)
	// Output:
	// spring false [options.colour]
	// 550 5.6.0 X-MSYS-API: tags must not be a number
}
