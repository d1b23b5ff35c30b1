package main

import (
	"bufio"
	"bytes"
	goflag "flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"postern/tracking/event"
)

var update = goflag.Bool("update", false, "write generated parts of documents anew")

// section replaces what stands between two markers of a document, and returns
// what stood there.
func section(t *testing.T, file, begin, text string) string {
	t.Helper()

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	const end = "<!-- end -->"
	before, rest, ok := strings.Cut(string(data), begin)
	heading, rest, ok2 := strings.Cut(rest, "\n")
	old, after, ok3 := strings.Cut(rest, end)
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s: no section %q", file, begin)
	}

	if *update {
		whole := before + begin + heading + "\n" + text + end + after
		if err := os.WriteFile(file, []byte(whole), 0o644); err != nil {
			t.Fatal(err)
		}
		return text
	}

	return old
}

// TestEventTable holds the table of the documents to the code.
func TestEventTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| event | means | class | in the API's JSON | group |\n|---|---|---|---|---|\n")
	for _, info := range event.Types() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | `%s` |\n",
			info.Public, info.Meaning, info.Class, string(info.Type), info.Group)
	}

	if got := section(t, "EVENTS.md", "<!-- events: ", b.String()); got != b.String() {
		t.Errorf("EVENTS.md has\n%s\nwant\n%s", got, b.String())
	}
}

// storedEvent is a line of the spool.
func storedEvent(t *testing.T, typ event.Type, id string) []byte {
	t.Helper()

	e := &event.Event{
		Type:           typ,
		ID:             "1",
		MessageID:      id,
		Timestamp:      event.Timestamp{Time: time.Unix(1795500000, 0)},
		DelvMethod:     "esmtp",
		RecvMethod:     "esmtp",
		RcptTo:         "a@example.net",
		RawReason:      "550 5.1.1 no",
		BounceClass:    "10",
		TargetLinkURL:  "https://example.com/",
		TargetLinkName: "x",
	}
	switch typ {
	case event.Click:
		e.RecvMethod = ""
		e.RawReason = ""
		e.BounceClass = ""
	default:
		e.TargetLinkURL = ""
		e.TargetLinkName = ""
	}

	line, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := event.Decode(line); err != nil {
		t.Fatal(err)
	}

	return line
}

func TestTailPrints(t *testing.T) {
	bounce := storedEvent(t, event.Bounce, "m1")
	click := storedEvent(t, event.Click, "m2")
	for _, c := range []struct {
		name string
		cmd  eventsTailCmd
		line []byte
		want string // a part; empty: nothing is printed
	}{
		{"all", eventsTailCmd{}, bounce, `{"type":"bounce","time":"2026-11-24T06:00:00Z",`},
		{"raw", eventsTailCmd{Raw: true}, bounce, `{"msys":{"message_event":{"type":"inband",`},
		{"public name", eventsTailCmd{Type: []string{"bounce"}}, bounce, `"type":"bounce"`},
		{"the API's name", eventsTailCmd{Type: []string{"inband"}}, bounce, `"type":"bounce"`},
		{"class", eventsTailCmd{Type: []string{"engagement"}}, click, `"type":"click"`},
		{"another type", eventsTailCmd{Type: []string{"click"}}, bounce, ""},
		{"message", eventsTailCmd{Message: "m2"}, click, `"message_id":"m2"`},
		{"another message", eventsTailCmd{Message: "m"}, click, ""},
		{"unreadable", eventsTailCmd{}, []byte("no JSON"), "no JSON\n"},
		{"unreadable, with a filter", eventsTailCmd{Message: "no"}, []byte("no JSON"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			types, err := event.Select(c.cmd.Type)
			if err != nil {
				t.Fatal(err)
			}

			var b bytes.Buffer
			out := bufio.NewWriter(&b)
			c.cmd.print(out, types, newMessageFilter(c.cmd.Message), c.line)
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

	c := eventsTailCmd{Message: "s.1"}
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
		c.print(out, nil, f, line)
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
