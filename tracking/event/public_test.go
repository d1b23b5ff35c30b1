package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

func TestTypesNamesEveryType(t *testing.T) {
	seen := map[Type]bool{}
	for _, info := range Types() {
		if seen[info.Type] {
			t.Errorf("%s is there twice", info.Public)
		}
		seen[info.Type] = true

		if info.Public == "" || info.Meaning == "" || info.Group == "" {
			t.Errorf("%q lacks something: %+v", string(info.Type), info)
		}
	}

	for typ := range schemas {
		if !seen[typ] {
			t.Errorf("%q is missing", string(typ))
		}
	}
}

func TestByNameTakesBothNames(t *testing.T) {
	for _, info := range Types() {
		for _, name := range []string{info.Public, string(info.Type)} {
			if got, ok := ByName(name); !ok || got != info.Type {
				t.Errorf("ByName(%q) = %s, %v, want %s", name, got, ok, info.Public)
			}
		}
	}

	for _, name := range []string{"", "engagement", "receptions", "Click"} {
		if got, ok := ByName(name); ok {
			t.Errorf("ByName(%q) = %s", name, got)
		}
	}
}

func TestTypeShowsItsPublicName(t *testing.T) {
	for typ, want := range map[Type]string{Injection: "injection", OutOfBand: "out_of_band", "other": "other"} {
		if got := fmt.Sprint(typ); got != want {
			t.Errorf("%q shows %q, want %q", string(typ), got, want)
		}
	}
}

func TestSelect(t *testing.T) {
	for _, c := range []struct {
		name  string
		names []string
		want  []Type
		err   string
	}{
		{name: "none"},
		{name: "public", names: []string{"injection"}, want: []Type{Injection}},
		{name: "of the API", names: []string{"tempfail"}, want: []Type{Delay}},
		{
			name:  "classes",
			names: []string{"engagement", "unsubscribe"},
			want: []Type{Open, InitialOpen, Click, AmpOpen, AmpInitialOpen, AmpClick,
				LinkUnsubscribe, ListUnsubscribe},
		},
		{name: "unknown", names: []string{"click", "klick"}, err: `no event is named "klick"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Select(c.names)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("error %v, want %s", err, c.err)
				}
				return
			}

			want := map[Type]bool{}
			for _, typ := range c.want {
				want[typ] = true
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestPublicJSON(t *testing.T) {
	for _, info := range Types() {
		t.Run(info.Public, func(t *testing.T) {
			e := full(info.Type)
			e.Class = Class{Kind: Scanner, Reason: "robot"}
			line, err := e.EncodePublic()
			if err != nil {
				t.Fatal(err)
			}

			var fields map[string]any
			if err := json.Unmarshal(line, &fields); err != nil {
				t.Fatal(err)
			}
			for key, want := range map[string]any{
				"type":         info.Public,
				"time":         "2026-11-24T06:00:00Z",
				"message_id":   e.MessageID,
				"class":        Scanner,
				"class_reason": "robot",
			} {
				if fields[key] != want {
					t.Errorf("%s is %v, want %v", key, fields[key], want)
				}
			}
			if _, ok := fields["timestamp"]; ok {
				t.Errorf("timestamp stands beside time: %s", line)
			}

			back, err := DecodePublic(line)
			if err != nil {
				t.Fatal(err)
			}
			if !back.Timestamp.Equal(e.Timestamp.Time) {
				t.Errorf("time %v, want %v", back.Timestamp, e.Timestamp)
			}
			back.Timestamp = e.Timestamp
			if !reflect.DeepEqual(back, e) {
				t.Errorf("got  %+v\nwant %+v", back, e)
			}
		})
	}
}

func TestDecodePublicRefuses(t *testing.T) {
	for name, line := range map[string]string{
		"no JSON":        `{`,
		"no type":        `{"time":"2026-11-24T06:00:00Z"}`,
		"unknown type":   `{"type":"receptions","time":"2026-11-24T06:00:00Z"}`,
		"unknown field":  `{"type":"open","time":"2026-11-24T06:00:00Z","event_id":"1","message_id":"m","rcpt_to":"a@b.example","delv_method":"esmtp","colour":"red"}`,
		"missing fields": `{"type":"open","time":"2026-11-24T06:00:00Z","event_id":"1"}`,
		"no time":        `{"type":"open","time":"yesterday","event_id":"1","message_id":"m","rcpt_to":"a@b.example","delv_method":"esmtp"}`,
	} {
		if e, err := DecodePublic([]byte(line)); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func FuzzDecodePublic(f *testing.F) {
	for _, info := range Types() {
		line, err := full(info.Type).EncodePublic()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
		stored, err := full(info.Type).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(stored)
	}

	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := DecodePublic(line)
		if err != nil {
			return
		}

		again, err := e.EncodePublic()
		if err != nil {
			t.Fatalf("decoded %q, cannot encode: %v", line, err)
		}
		back, err := DecodePublic(again)
		if err != nil {
			t.Fatalf("decoded %q, encoded %q: %v", line, again, err)
		}
		if twice, err := back.EncodePublic(); err != nil || !bytes.Equal(twice, again) {
			t.Errorf("decoded %q, encoded %q, and then %q, %v", line, again, twice, err)
		}
	})
}
