package admin

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"postern/tracking/event"
)

func TestTailPrints(t *testing.T) {
	selected := func(name string) map[event.Type]bool {
		types, err := event.Select([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		return types
	}
	bounce := storedEvent(t, event.Bounce, "m1")
	click := storedEvent(t, event.Click, "m2")
	for _, c := range []struct {
		name string
		tail Tail
		line []byte
		want string // a part; empty: nothing is printed
	}{
		{"all", Tail{}, bounce, `{"type":"bounce","time":"2026-11-24T06:00:00Z",`},
		{"raw", Tail{Raw: true}, bounce, `{"msys":{"message_event":{"type":"inband",`},
		{"public name", Tail{Types: selected("bounce")}, bounce, `"type":"bounce"`},
		{"the API's name", Tail{Types: selected("inband")}, bounce, `"type":"bounce"`},
		{"class", Tail{Types: selected("engagement")}, click, `"type":"click"`},
		{"another type", Tail{Types: selected("click")}, bounce, ""},
		{"message", Tail{Message: "m2"}, click, `"message_id":"m2"`},
		{"another message", Tail{Message: "m"}, click, ""},
		{"unreadable", Tail{}, []byte("no JSON"), "no JSON\n"},
		{"unreadable, with a filter", Tail{Message: "no"}, []byte("no JSON"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			out := bufio.NewWriter(&b)
			c.tail.print(out, newMessageFilter(c.tail.Message), c.line)
			out.Flush()
			if got := b.String(); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestTailFindsCopiesBySession: the id that a client got leads to the events of
// all copies, those too that have no more than a message id.
func TestTailFindsCopiesBySession(t *testing.T) {
	injection := func(session, id string) []byte {
		e, err := event.Decode(storedEvent(t, event.Bounce, id))
		if err != nil {
			t.Fatal(err)
		}
		e.Local.Session = session
		line, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return line
	}

	c := Tail{Message: "s.1"}
	f := newMessageFilter(c.Message)
	f.note(injection("s.1", "m1"))
	f.note([]byte("no JSON"))

	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	for _, line := range [][]byte{
		injection("s.1", "m2"),
		injection("s.2", "m3"),
		storedEvent(t, event.Click, "m1"),
		storedEvent(t, event.Click, "m2"),
		storedEvent(t, event.Click, "m3"),
	} {
		c.print(out, f, line)
	}
	out.Flush()

	var got []string
	for line := range strings.Lines(b.String()) {
		e, err := event.DecodePublic([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Type.PublicName()+" "+e.MessageID)
	}
	if want := "bounce m2, click m1, click m2"; strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
}
