package event

import (
	"reflect"
	"strings"
	"testing"
)

func TestLocalStaysBesideTheAPI(t *testing.T) {
	for _, c := range []struct {
		name  string
		typ   Type
		local Local
		want  string // what stands beside the API's object
	}{
		{"session", Injection, Local{Session: "abc.1"}, `}},"postern":{"session":"abc.1"}}`},
		{
			"refusal",
			PolicyRejection,
			Local{
				Session: "abc.1",
				User:    "app",
				From:    "a@example.com",
				Author:  "b@example.com",
				Subject: `a "quoted" word`,
			},
			`}},"postern":{"session":"abc.1","user":"app","msg_from":"a@example.com","friendly_from":"b@example.com","subject":"a \"quoted\" word"}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := full(c.typ)
			e.Local = c.local
			line, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(string(line), c.want) {
				t.Errorf("got %s, want it to end with %s", line, c.want)
			}
			back, err := Decode(line)
			if err != nil || !reflect.DeepEqual(back.Local, c.local) {
				t.Errorf("stored: got %+v, %v, want %+v", back, err, c.local)
			}

			public, err := e.EncodePublic()
			if err != nil {
				t.Fatal(err)
			}
			back, err = DecodePublic(public)
			if err != nil || !reflect.DeepEqual(back.Local, c.local) {
				t.Errorf("public: got %+v, %v, want %+v", back, err, c.local)
			}
		})
	}
}

func TestCutSession(t *testing.T) {
	plain := full(Injection)
	want, err := plain.Encode()
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name    string
		change  func(*Event)
		session string
		kept    bool // the line stays as it is
	}{
		{"session", func(e *Event) { e.Local.Session = "abc.1" }, "abc.1", false},
		{"nothing", func(*Event) {}, "", false},
		{"user too", func(e *Event) { e.Local = Local{Session: "abc.1", User: "u"} }, "", true},
		{"class", func(e *Event) { e.Class = Class{Kind: Scanner, Reason: "robot"} }, "", true},
		{"escaped", func(e *Event) { e.Local.Session = `a"b` }, "", true},
		{"a backslash", func(e *Event) { e.Local.Session = `a\b` }, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := full(Injection)
			c.change(e)
			line, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			before := string(line)

			rest, session := CutSession(line)
			expected := string(want)
			if c.kept {
				expected = before
			}
			if string(rest) != expected || session != c.session {
				t.Errorf("got %q of %s, want %q of %s", session, rest, c.session, expected)
			}
			if string(line) != before {
				t.Errorf("the line was changed to %s", line)
			}
		})
	}
}
