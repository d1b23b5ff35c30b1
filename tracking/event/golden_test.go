package event

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"postern/tracking/agent"
)

var update = flag.Bool("update", false, "write the golden files anew")

// full is an event with every field that a type may have.
func full(typ Type) *Event {
	yes := true
	s := schemas[typ]
	e := &Event{}
	all := Event{Binding: "mta1", BindingGroup: "default", CampaignID: "spring_sale", FriendlyFrom: "news@example.com", MsgFrom: "bounce@example.com", MsgSize: "1234",
		OpenTracking: &yes, ClickTracking: &yes, InitialPixel: &yes, RawRcptTo: "Reader@example.net", RcptMeta: json.RawMessage(`{"user":7}`), RcptTags: []string{"a", "b"},
		RoutingDomain: "example.net", SendingIP: "192.0.2.10", Subject: "Frühling <1>", NumRetries: "2", QueueTime: "1500", BounceClass: "10", ErrorCode: "550",
		Reason: "550 5.1.1 no such user", RawReason: "550 5.1.1 no such user", FeedbackType: "abuse", ReportBy: "isp.example", ReportTo: "fbl@example.com", UserString: "agent/1",
		RecvMethod: "esmtp", DelvMethod: "esmtp", IPAddress: "198.51.100.7", UserAgent: "Mozilla/5.0",
		UserAgentParsed: &agent.Program{AgentFamily: "Firefox", OSFamily: "Linux", OSVersion: "6", DeviceBrand: "x", DeviceFamily: "y", IsMobile: true},
		GeoIP:           &GeoIP{Country: "DE", Region: "BE", City: "Berlin", Latitude: 52.5, Longitude: 13.4, Zip: "10115", PostalCode: "10115"}, IsPrefetched: true,
		TargetLinkURL: "https://example.com/?a=1&b=2", TargetLinkName: DefaultLinkName}
	from, to := reflect.ValueOf(all), reflect.ValueOf(e).Elem()
	for i := range from.NumField() {
		tag := from.Type().Field(i).Tag.Get("json")
		name := tag[:len(tag)-len(tag[indexComma(tag):])]
		if s.allowed[name] {
			to.Field(i).Set(from.Field(i))
		}
	}
	e.Type, e.ID, e.MessageID, e.Timestamp = typ, "9223372036854775807", "agrazi7azul5udimj2slrzxbg4", Timestamp{time.Unix(1795500000, 0)}
	e.RcptTo, e.SubaccountID = "reader@example.net", 42
	return e
}

func indexComma(s string) int {
	for i := range s {
		if s[i] == ',' {
			return i
		}
	}
	return len(s)
}

// TestGolden holds a file for each type, the JSON to the letter, and reads it
// back.
func TestGolden(t *testing.T) {
	for typ, s := range schemas {
		t.Run(s.public, func(t *testing.T) {
			got, err := full(typ).Encode()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", s.public+".json")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || string(got)+"\n" != string(want) {
				t.Errorf("got  %s\nwant %s%v", got, want, err)
			}
			back, err := Decode(got)
			if err != nil || !reflect.DeepEqual(back, full(typ)) {
				t.Errorf("decoded %+v, %v", back, err)
			}
			if by, ok := ByPublicName(s.public); !ok || by != typ {
				t.Errorf("by public name: %s", by)
			}
		})
	}
}

func TestHashRecipient(t *testing.T) {
	e := full(PolicyRejection)
	e.RcptTo = "Reader@Example.NET"
	e.HashRecipient()
	// base64 of SHA-1 of reader@example.net
	if e.RcptTo != "" || e.RawRcptTo != "" || e.RcptDomain != "example.net" || e.RcptHash != "gN3oX/dr42gxKyDAaPy+nl+86aI=" {
		t.Errorf("%+v", e)
	}
	line, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(line); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Event){
		"hash without domain": func(e *Event) { e.RcptDomain = "" }, "domain without hash": func(e *Event) { e.RcptHash = "" },
		"hash beside address": func(e *Event) { e.RcptTo = "a@b" }, "hash beside raw address": func(e *Event) { e.RawRcptTo = "a@b" }} {
		bad := *e
		change(&bad)
		line, _ := bad.Encode()
		if _, err := Decode(line); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestIDsAcrossProcesses(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		ids := NewIDs()
		for range 1000 {
			id := ids.Next()
			if seen[id] {
				t.Fatalf("%s twice", id)
			}
			seen[id] = true
		}
	}
}
