package event

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEncode(t *testing.T) {
	yes := true
	at := Timestamp{time.Unix(1795500000, 0)}
	for _, c := range []struct {
		name string
		e    Event
		want string
	}{
		{"injection", Event{Type: Injection, ID: "1", MessageID: "m", Timestamp: at, RecvMethod: "esmtp", FriendlyFrom: "a@b.example",
			RcptTo: "r@c.example", MsgSize: "12", OpenTracking: &yes, SubaccountID: 3, Subject: "<a&b>"},
			`{"msys":{"message_event":{"type":"reception","event_id":"1","message_id":"m","timestamp":"1795500000","recv_method":"esmtp","friendly_from":"a@b.example","msg_size":"12","open_tracking":true,"rcpt_to":"r@c.example","subaccount_id":3,"subject":"<a&b>"}}}`},
		{"click", Event{Type: Click, ID: "2", MessageID: "m", Timestamp: at, DelvMethod: "esmtp", RcptTo: "r@c.example", TargetLinkURL: "http://x.example/?a&b", TargetLinkName: DefaultLinkName},
			`{"msys":{"track_event":{"type":"click","event_id":"2","message_id":"m","timestamp":"1795500000","delv_method":"esmtp","rcpt_to":"r@c.example","target_link_url":"http://x.example/?a&b","target_link_name":"Raw URL"}}}`},
		{"link unsubscribe", Event{Type: LinkUnsubscribe, ID: "3", MessageID: "m", Timestamp: at, DelvMethod: "esmtp", RcptTo: "r@c.example", TargetLinkURL: "http://x.example/"},
			`{"msys":{"unsubscribe_event":{"type":"link","event_id":"3","message_id":"m","timestamp":"1795500000","delv_method":"esmtp","rcpt_to":"r@c.example","target_link_url":"http://x.example/"}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.e.Encode()
			if err != nil || string(got) != c.want {
				t.Fatalf("got  %s, %v\nwant %s", got, err, c.want)
			}
			back, err := Decode(got)
			if err != nil || !reflect.DeepEqual(*back, c.e) {
				t.Errorf("decoded %+v, %v", back, err)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := `{"msys":{"track_event":{"type":"open","event_id":"2","message_id":"m","timestamp":"1795500000","delv_method":"esmtp","rcpt_to":"r@c.example"}}}`
	if _, err := Decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new string }{
		{"id of 2^63", `"2"`, `"9223372036854775808"`},
		{"id as a number", `"2"`, `2`},
		{"timestamp as a number", `"1795500000"`, `1795500000`},
		{"wrong group", "track_event", "message_event"},
		{"unknown type", `"open"`, `"opened"`},
		{"unknown field", `"rcpt_to"`, `"rcptto"`},
		{"no recipient", `,"rcpt_to":"r@c.example"`, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Decode([]byte(strings.Replace(good, c.old, c.new, 1))); err == nil {
				t.Error("taken")
			}
		})
	}
}

func TestIDs(t *testing.T) {
	ids := NewIDs()
	ids.next.Store(1<<64 - 3) // across the end of the counter
	seen := map[string]bool{}
	for range 10 {
		id := ids.Next()
		if _, err := strconv.ParseUint(id, 10, 63); err != nil || seen[id] {
			t.Errorf("id %s: %v, seen %v", id, err, seen[id])
		}
		seen[id] = true
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"msys":{"track_event":{"type":"open","event_id":"2","message_id":"m","timestamp":"1","delv_method":"esmtp","rcpt_to":"r@c.example"}}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Decode(line)
		if err != nil {
			return
		}
		out, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(out)
		if err != nil {
			t.Fatalf("%s became %s: %v", line, out, err)
		}
		if again, err := back.Encode(); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%s became %s, and that %s, %v", line, out, again, err)
		}
	})
}
