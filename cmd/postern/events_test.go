package main

import (
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
