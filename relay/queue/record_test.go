package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/relay/envelope"
	"postern/tracking/spool"
)

// TestRecordOnDisk holds the format of the records, which later versions must
// be able to read.
func TestRecordOnDisk(t *testing.T) {
	tr := &Transaction{
		ID:       "t1",
		Session:  "s.1",
		Created:  time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
		From:     envelope.Address{Local: "s", Domain: "example.com"},
		EightBit: true,
		Info:     json.RawMessage(`{"a":"b\n"}`),
		Shared:   [][]byte{[]byte("x\\y\r\n")},
		Copies: []Copy{{
			From:       envelope.Address{Local: "r", Domain: "example.com"},
			Recipient:  envelope.Recipient{Address: envelope.Address{Local: "a", Domain: "example.net"}},
			MessageID:  "m1",
			EnvelopeID: "e1",
			Tried:      &Verdict{Done: true},
			Own:        [][]byte{[]byte("own\n"), nil},
		}},
		Recovered: true,
	}
	record, err := encodeTransaction(tr)
	if err != nil {
		t.Fatal(err)
	}

	if length := string(record[2:12]); length != fmt.Sprintf("%010d", len(record)) {
		t.Errorf("length %s of %d bytes", length, len(record))
	}
	if string(record[:2]) != "T " || record[12] != ' ' || bytes.ContainsAny(record, "\n") {
		t.Errorf("got %q, want T, the length, and no line end", record)
	}
	if !bytes.HasSuffix(record, []byte(`\nx\\y`+"\r"+`\nown\n`)) {
		t.Errorf("got %q, want the message behind the JSON", record)
	}

	head, _, _ := strings.Cut(string(record[13:]), `}\n`)
	var fields map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(head, `\\`, `\`)+"}"), &fields); err != nil {
		t.Fatalf("%s: %v", head, err)
	}
	for _, name := range []string{"id", "session", "created", "from", "params", "eight_bit", "info", "copies", "shared"} {
		if fields[name] == nil {
			t.Errorf("no %s in %s", name, head)
		}
		delete(fields, name)
	}
	if len(fields) != 0 {
		t.Errorf("more fields than expected: %v", fields)
	}

	back, err := decodeInPlace(bytes.Clone(record))
	if err != nil {
		t.Fatal(err)
	}
	if back.Recovered || back.Copies[0].Tried != nil {
		t.Errorf("what is not written came back: %+v", back)
	}
	if got := string(back.Message(0)); got != "own\nx\\y\r\n" {
		t.Errorf("message %q", got)
	}
	if back.ID != tr.ID || back.Session != tr.Session || !back.Created.Equal(tr.Created) || back.From != tr.From ||
		!back.EightBit || string(back.Info) != string(tr.Info) || back.Copies[0].From != tr.Copies[0].From ||
		back.Copies[0].EnvelopeID != "e1" || back.Copies[0].Recipient.Address != tr.Copies[0].Recipient.Address {
		t.Errorf("got %+v, want %+v", back, tr)
	}
}

// TestTransactionThatCannotBeEncoded checks that nothing is held or queued.
func TestTransactionThatCannotBeEncoded(t *testing.T) {
	q := open(t, newDisk(t), nil)
	defer finish(t, q)
	good, bad := transaction("t1", "a"), transaction("t2", "b")
	bad.Info = json.RawMessage("{")
	if err := q.Put(t.Context(), good, bad); err == nil || !strings.HasPrefix(err.Error(), "queue: ") {
		t.Errorf("got %v, want an error of queue", err)
	}
	if q.Len() != 0 {
		t.Errorf("%d copies wait, want none", q.Len())
	}
}

func TestDecodeRefuses(t *testing.T) {
	const two = `"copies":[{"own":[1,2]},{"own":[0,1]}]`
	for _, c := range []struct{ name, record string }{
		{"nothing", ""},
		{"no end of the JSON", `T 0000000040 {"id":"x","copies":[{}]}`},
		{"an escaped backslash before n is no end", `T 0000000040 {"id":"x","copies":[{}]}\\n`},
		{"a backslash at the end", `T 0000000040 {"id":"x\`},
		{"no JSON", `T 0000000040 what\n`},
		{"no id", `T 0000000040 {"copies":[{"own":[1]}]}\nx`},
		{"no copies", `T 0000000040 {"id":"x","copies":[]}\n`},
		{"a backslash at the end of the JSON", `T 0000000040 {"id":"x\"}\n`},
		{"a backslash at the end of the message", `T 0000000040 {"id":"x","copies":[{"own":[1]}]}\nx\`},
		{"an unknown escape", `T 0000000040 {"id":"x","copies":[{"own":[1]}]}\n\x`},
		{"shared bytes that are too few", `T 0000000040 {"id":"x","shared":[4],` + two + `}\nabc`},
		{"own bytes that are too few", `T 0000000040 {"id":"x","shared":[3],` + two + `}\nabcdef`},
		{"a negative length", `T 0000000040 {"id":"x","copies":[{"own":[-1]}]}\nabc`},
		{"parts that are too few", `T 0000000040 {"id":"x","shared":[1,1],` + two + `}\nabcdefghi`},
		{"parts that are too many", `T 0000000040 {"id":"x","shared":[],"copies":[{"own":[1,1]}]}\nabcdefghi`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, err := decodeInPlace([]byte(c.record))
			if !errors.Is(err, errRecord) || tr != nil {
				t.Errorf("got %+v, %v, want %v", tr, err, errRecord)
			}
		})
	}
}

func TestDecodeTakesAllBytes(t *testing.T) {
	record := `T 0000000040 {"id":"x","shared":[3],"copies":[{"own":[1,2]},{"own":[0,1]}]}\nabcdefg`
	tr, err := decodeInPlace([]byte(record))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"dabcef", "abcg"} {
		if got := string(tr.Message(i)); got != want {
			t.Errorf("copy %d: got %q, want %q", i, got, want)
		}
	}
	if tr.size() != 3 {
		t.Errorf("%d shared bytes, want 3", tr.size())
	}
	if cap(tr.Shared[0]) != 3 {
		t.Errorf("an append to a part would overwrite the next: capacity %d", cap(tr.Shared[0]))
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	for _, record := range []string{`D {"id":\`, `D \x`, "D what", "D "} {
		before := strings.Clone(record)
		raw := []byte(record)
		var d doneRecord
		if err := decodeJSON(raw, &d); !errors.Is(err, errRecord) {
			t.Errorf("%s: got %v, want %v", record, err, errRecord)
		}
		if string(raw) != before {
			t.Errorf("%q became %q", before, raw)
		}
	}

	record, err := encodeJSON(kindDone, doneRecord{"a\\b", "c\nd", "e"})
	if err != nil {
		t.Fatal(err)
	}
	before := string(record)
	var d doneRecord
	if err := decodeJSON(record, &d); err != nil || d != (doneRecord{"a\\b", "c\nd", "e"}) {
		t.Errorf("got %+v, %v", d, err)
	}
	if string(record) != before {
		t.Errorf("the record became %q", record)
	}
	if _, err := encodeJSON(kindDone, make(chan int)); err == nil {
		t.Error("a channel was encoded")
	}
}

// TestHeadIsNotOverwritten checks that decodeHead does not change a record,
// which is read as a whole later.
func TestHeadIsNotOverwritten(t *testing.T) {
	tr := transaction("t1", "a")
	tr.Session = `back\slash`
	record, err := encodeTransaction(tr)
	if err != nil {
		t.Fatal(err)
	}
	before := string(record)
	head, err := decodeHead(record)
	if err != nil || head.Session != tr.Session || string(record) != before {
		t.Errorf("got %+v, %v; the record became %q", head, err, record)
	}
}

func TestRecordLength(t *testing.T) {
	for _, c := range []struct {
		beginning string
		want      int
	}{
		{"T 0000000013 ", 13},
		{"T 0000000013", 0},
		{"T 0000000012 {", 0},
		{"T 0000123456 {", 123456},
		{"T 9999999999 {", 9999999999},
		{"D 0000000020 {", 0},
		{"T 00000000x0 {", 0},
		{"T -000000020 {", 0},
		{"", 0},
	} {
		if got := recordLength([]byte(c.beginning)); got != c.want {
			t.Errorf("%q: got %d, want %d", c.beginning, got, c.want)
		}
	}
}

func TestEscapeRoundTrip(t *testing.T) {
	for _, c := range []struct{ text, escaped string }{
		{"", ""},
		{"plain", "plain"},
		{"\n", `\n`},
		{`\`, `\\`},
		{`\n`, `\\n`},
		{"a\nb\\c\n\nd", `a\nb\\c\n\nd`},
	} {
		got := string(escape(nil, []byte(c.text)))
		if got != c.escaped {
			t.Errorf("%q: got %s, want %s", c.text, got, c.escaped)
		}
		back, err := unescape([]byte(c.escaped))
		if err != nil || string(back) != c.text {
			t.Errorf("%s: got %q, %v, want %q", c.escaped, back, err, c.text)
		}
	}
}

// FuzzEscape checks that unescape reverses escape, and that an escaped record
// has no line end.
func FuzzEscape(f *testing.F) {
	f.Add([]byte("a\\\nb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		want := strings.NewReplacer("\n", `\n`, `\`, `\\`).Replace(string(b))
		got := escape(nil, b)
		if string(got) != want || len(got) != Escaped(b) {
			t.Fatalf("%q: got %q of %d bytes, want %q", b, got, Escaped(b), want)
		}
		back, err := unescape(got)
		if err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%q: came back as %q, %v", b, back, err)
		}
	})
}

func TestCopyIsFoundByItsMessageID(t *testing.T) {
	tr := transaction("t", "a", "b")
	for id, want := range map[string]int{"t-a": 0, "t-b": 1, "t-c": -1} {
		if got := tr.find(id); got != want {
			t.Errorf("%s: got %d, want %d", id, got, want)
		}
	}
}

func TestRoomOfRecords(t *testing.T) {
	if got := recordRoom("abc", "de"); got != 128+10 {
		t.Errorf("an end: got %d, want 138", got)
	}
	if got := endRoom(transaction("t", "a", "bc")); got != 2*128+2*(1+3)+2*(1+4) {
		t.Errorf("two ends: got %d, want 274", got)
	}
	if baseRoom != 16384 {
		t.Errorf("%d bytes are held where nothing waits, want 16384", baseRoom)
	}
	if got := Room(1000, 320); got != 1000+320+20+4096 {
		t.Errorf("a transaction: got %d, want 5436", got)
	}
}

// TestEscapedIsExact checks that a record has the length that was reserved.
func TestEscapedIsExact(t *testing.T) {
	for _, text := range []string{"", "plain", "\r\n", strings.Repeat("\\", 1000), strings.Repeat("\\r\\n\n", 1000)} {
		if got, want := Escaped([]byte(text)), len(escape(nil, []byte(text))); got != want {
			t.Errorf("%.20q: got %d, want %d", text, got, want)
		}
		tr := transaction("t", "a", "b")
		tr.Shared[0] = []byte(text)
		record, err := encodeTransaction(tr)
		if err != nil {
			t.Fatal(err)
		}
		if len(record) != cap(record) {
			t.Errorf("%.20q: %d bytes were made for a record of %d", text, cap(record), len(record))
		}
		own := 0
		for _, c := range tr.Copies {
			own += total(lengths(c.Own)) + 300
		}
		if room := Room(Escaped(text2(tr)), own); room < int64(len(record)) {
			t.Errorf("%.20q: room %d for a record of %d", text, room, len(record))
		}
	}
}

func text2(t *Transaction) []byte {
	var all []byte
	for _, b := range t.Shared {
		all = append(all, b...)
	}

	return all
}

// TestEndFitsTheRoomHeldForIt uses ids with any bytes.
func TestEndFitsTheRoomHeldForIt(t *testing.T) {
	for _, id := range []string{"", "a2bh4f3dw2iyp3uk2bh4f3dw2i", strings.Repeat("x", 500)} {
		refused := failedWith("550 5.1.1 \"<no> such")
		for _, why := range []string{"sent", "unreadable", "dropped", refused, failedWith("no code")} {
			record, err := encodeJSON(kindDone, doneRecord{id, id, why})
			if err != nil {
				t.Fatal(err)
			}
			if room := recordRoom(id, id); room < int64(spool.LineBytes(len(record))) {
				t.Errorf("room %d for %q", room, record)
			}
		}
	}
}

// TestPartsAreTheMessage checks that Parts and Message return the same bytes.
func TestPartsAreTheMessage(t *testing.T) {
	tr := transaction("t", "a")
	if n := len(tr.Parts(0)); n != 5 {
		t.Errorf("%d parts, want 5", n)
	}
	var got []byte
	for _, p := range tr.Parts(0) {
		got = append(got, p...)
	}
	if string(got) != bytesOf("t", "a") || string(tr.Message(0)) != string(got) {
		t.Errorf("got %q, want %q", got, bytesOf("t", "a"))
	}
}
