package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestEveryKeyHasItsDefaultAndSaysWhenItTakesEffect holds each key's default,
// and whether a reload changes it, to a file.
func TestEveryKeyHasItsDefaultAndSaysWhenItTakesEffect(t *testing.T) {
	var b strings.Builder
	var describe func(v reflect.Value, prefix string)
	describe = func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("toml")
			if name == "" {
				continue
			}
			key := join(prefix, name)
			if f := v.Field(i); f.Kind() == reflect.Struct && hasKeys(f.Type()) {
				describe(f, key)
				continue
			}

			when := "reload"
			if takesEffectAtStart(key) {
				when = "start"
			}
			fmt.Fprintf(&b, "%-7s %s = %s\n", when, key, writeValue(v.Field(i)))
		}
	}
	describe(reflect.ValueOf(Default()).Elem(), "")

	compareGolden(t, "defaults.golden", b.String())
}

// writeValue writes a default as the file would have it.
func writeValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Duration:
		return x.String()
	case Rate:
		return fmt.Sprintf("%d per %v", x.N, x.Per)
	}
	if v.Kind() == reflect.Slice {
		out := make([]string, v.Len())
		for i := range out {
			out[i] = writeValue(v.Index(i))
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	if v.Kind() == reflect.String {
		return fmt.Sprintf("%q", v.String())
	}

	return fmt.Sprint(v.Interface())
}

// compareGolden holds a text to a file of testdata.
func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", golden, got, want)
	}
}

// TestExampleNamesTheDefaults: what the annotated example writes is what holds
// where a key is left out.
func TestExampleNamesTheDefaults(t *testing.T) {
	text, err := os.ReadFile("../example/postern.toml")
	if err != nil {
		t.Fatal(err)
	}
	c := &Config{}
	newBinder("postern.toml", noEnv).bind(text, c)

	want := Default()
	want.Hostname = c.Hostname
	want.Tracking.URL = c.Tracking.URL
	var check func(key string, got, want reflect.Value)
	check = func(key string, got, want reflect.Value) {
		if got.Kind() == reflect.Struct && hasKeys(got.Type()) {
			for i := range got.NumField() {
				check(join(key, got.Type().Field(i).Tag.Get("toml")), got.Field(i), want.Field(i))
			}
			return
		}
		if g, w := writeValue(got), writeValue(want); g != w && exampleDiffers[key] == "" {
			t.Errorf("%s: the example says %s, the default is %s", key, g, w)
		}
	}
	check("", reflect.ValueOf(c).Elem(), reflect.ValueOf(want).Elem())
}

// exampleDiffers says why the example has another value than the default.
var exampleDiffers = map[string]string{
	"dkim.key":                 "it shows one",
	"pool":                     "it shows one",
	"virtual_mta":              "it shows one",
	"relay.rewrite":            "it shows one",
	"tracking.rule":            "it shows one",
	"signals.filter":           "it shows one",
	"relay.timeouts.connect":   "the default is that of package upstream",
	"relay.timeouts.greeting":  "the default is that of package upstream",
	"relay.timeouts.command":   "the default is that of package upstream",
	"relay.timeouts.data":      "the default is that of package upstream",
	"relay.timeouts.final_dot": "the default is that of package upstream",
}

func TestElementsOfListsBeginWithTheirDefaults(t *testing.T) {
	file := write(t, folder(t), smallest+"[[submission.source]]\nnetwork = \"10.1.0.0/16\"\n")
	l, problems := load(file, All, noEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	if got := l.Submission.Sources; len(got) != 1 || !got[0].RequireAuth {
		t.Errorf("got %+v, want one source that has to authenticate", got)
	}
	if !l.Users[0].Tracking {
		t.Errorf("got %+v, want a user whose mail is tracked", l.Users[0])
	}
}

func TestDefaultIsNotShared(t *testing.T) {
	Default().Signals.Report[0] = "changed"
	if got := Default().Signals.Report[0]; got != "injection" {
		t.Errorf("got %q in a new default, want injection", got)
	}
}
