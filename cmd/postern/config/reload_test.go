package config

import (
	"reflect"
	"slices"
	"testing"
)

// TestEveryKeySaysWhenItTakesEffect: a key that is added has to be thought of.
func TestEveryKeySaysWhenItTakesEffect(t *testing.T) {
	top := reflect.TypeFor[Config]()
	keys := map[string]bool{}
	for i := range top.NumField() {
		name := top.Field(i).Tag.Get("toml")
		keys[name] = true
		if _, ok := atStart[name]; !ok {
			t.Errorf("%s: got no word of when it takes effect", name)
		}
	}
	walk(top, "", keys)

	for key := range atStart {
		if !keys[key] {
			t.Errorf("%s: no such key", key)
		}
	}
}

// walk notes the keys of a table, and of lists of tables their names.
func walk(t reflect.Type, prefix string, keys map[string]bool) {
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("toml")
		if name == "" {
			continue
		}
		key := join(prefix, name)
		keys[key] = true
		if f := t.Field(i).Type; f.Kind() == reflect.Struct && hasKeys(f) {
			walk(f, key, keys)
		}
	}
}

func TestKeepFrom(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(running, now *Config)
		want   []string
		holds  func(c *Config) bool // after it
	}{
		{"nothing", func(_, _ *Config) {}, nil, nil},
		{"hostname", func(_, c *Config) { c.Hostname = "b" }, []string{"hostname"}, func(c *Config) bool { return c.Hostname == "a" }},
		{"a list", func(_, c *Config) { c.Submission.Listen = []Addr{"x:1"} }, []string{"submission.listen"}, func(c *Config) bool { return c.Submission.Listen[0] == "0.0.0.0:587" }},
		{"what is taken at once", func(_, c *Config) {
			c.Submission.UsersFile = "x"
			c.Submission.ReceivedHeader = "off"
			c.Signals.Subaccount = 3
			c.Signals.EnableSignals = No
			c.Signals.Filters = []SignalsFilter{{}}
			c.Tracking.Web.ExpiredURL = "http://x"
			c.Reports.Keep = "x"
			c.Log.Level = "debug"
			c.Certs.Mode = "self-signed"
		}, nil, func(c *Config) bool {
			return c.Submission.UsersFile == "x" && len(c.Signals.Filters) == 1 && c.Certs.Mode == "self-signed"
		}},
		{"part of a table", func(_, c *Config) {
			c.Signals.Subaccount = 3
			c.Signals.BatchAge = 7
		}, []string{"signals.batch_age"}, func(c *Config) bool { return c.Signals.Subaccount == 3 && c.Signals.BatchAge != 7 }},
		{"reports without a listener", func(_, c *Config) { c.Reports.BounceDomains = []string{"b.example"} },
			[]string{"reports.bounce_domains", "reports.fbl_domains"}, func(c *Config) bool { return !c.Reports.On() }},
		{"reports with a listener", func(r, c *Config) {
			r.Reports.BounceDomains = []string{"a.example"}
			c.Reports.BounceDomains = []string{"b.example"}
		}, nil, func(c *Config) bool { return c.Reports.BounceDomains[0] == "b.example" }},
		{"away from ACME", func(r, c *Config) {
			r.Certs.Mode = "acme"
			c.Certs.CertFile = "x"
		}, []string{"certs.mode"}, func(c *Config) bool { return c.Certs.Mode == "acme" && c.Certs.CertFile != "x" }},
		{"to ACME", func(_, c *Config) { c.Certs.Mode = "acme" }, []string{"certs.mode"}, func(c *Config) bool { return c.Certs.Mode == "files" }},
		{"within ACME", func(r, c *Config) {
			r.Certs.Mode = "acme"
			c.Certs.Mode = "acme"
			c.Certs.ACMEEmail = "x@example.com"
		}, []string{"certs.acme_email"}, func(c *Config) bool { return c.Certs.ACMEEmail == "" }},
		{"a tracking domain for ACME", func(r, c *Config) {
			r.Certs.Mode, c.Certs.Mode = "acme", "acme"
			r.Tracking.Web.TLS, c.Tracking.Web.TLS = true, true
			c.Tracking.URL = "https://t.example"
		}, []string{"certs.acme_domains (the tracking domains are among them)"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			running, now := Default(), Default()
			running.Hostname, now.Hostname = "a", "a"
			c.change(running, now)

			got := now.KeepFrom(running)

			if !slices.Equal(got, c.want) {
				t.Errorf("got %v kept, want %v", got, c.want)
			}
			if c.holds != nil && !c.holds(now) {
				t.Errorf("got %+v", now)
			}
		})
	}
}
