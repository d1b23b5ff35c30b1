package web

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"postern/tracking/event"
)

func writeFile(t *testing.T, file, data string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}

	return file
}

func TestOpenGeoRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	other := writeFile(t, filepath.Join(dir, "other"), "no database")
	for file, want := range map[string]string{
		filepath.Join(dir, "none"): "web: geo: open ",
		other:                      "web: geo: " + other + " is not a MaxMind DB file: ",
	} {
		if _, err := OpenGeo(file, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("OpenGeo: got %v, want %s", err, want)
		}
		if err := CheckGeo(file); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("CheckGeo: got %v, want %s", err, want)
		}
	}
	if err := CheckGeo(geoFile(t, dir, "London")); err != nil {
		t.Errorf("a database: %v", err)
	}
}

func TestGeoLookup(t *testing.T) {
	dir := t.TempDir()
	geo, err := OpenGeo(geoFile(t, dir, "London"), nil)
	if err != nil {
		t.Fatal(err)
	}

	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	for network, v := range map[string]mmdbtype.DataType{
		"81.2.69.0/24": mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("GB")}},
		"81.2.70.0/24": mmdbtype.Map{ // of another form, in part
			"city":    mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String("London")}},
			"country": mmdbtype.String("GB"),
			"postal":  mmdbtype.Map{"code": mmdbtype.String("SW1")},
		},
		"81.2.71.0/24": mmdbtype.Map{"subdivisions": mmdbtype.Slice{}},
	} {
		_, n, _ := net.ParseCIDR(network)
		if err := w.Insert(n, v); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	poor, err := OpenGeo(writeFile(t, filepath.Join(dir, "poor"), b.String()), nil)
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name string
		geo  *Geo
		addr string
		want *event.GeoIP
	}{
		{"known", geo, "81.2.69.1", &event.GeoIP{Country: "GB", Region: "ENG", City: "London", Latitude: 51.5, Longitude: -0.1, Zip: "SW1", PostalCode: "SW1"}},
		{"the country alone", poor, "81.2.69.1", &event.GeoIP{Country: "GB"}},
		{"of another form", poor, "81.2.70.1", nil},
		{"nothing about it", poor, "81.2.71.1", nil},
		{"unknown", geo, "192.0.2.1", nil},
		{"unknown, IPv6", geo, "2001:db8::1", nil},
		{"no database", nil, "81.2.69.1", nil},
	} {
		got := c.geo.lookup(netip.MustParseAddr(c.addr))
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := geo.lookup(netip.Addr{}); got != nil {
		t.Errorf("no address is in %+v", got)
	}
}

// TestGeoRefreshSaysWhatItTook: a changed file is taken and a broken one is not,
// which is logged once each.
func TestGeoRefreshSaysWhatItTook(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	file := geoFile(t, dir, "London")
	geo, err := OpenGeo(file, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	city := func() string { return geo.lookup(netip.MustParseAddr("81.2.69.1")).City }
	touch := func(d time.Duration) {
		if err := os.Chtimes(file, time.Now().Add(d), time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
	}

	for _, c := range []struct {
		name   string
		change func()
		city   string
		log    string // in a line of its own; empty: nothing
	}{
		{"unchanged", func() {}, "London", ""},
		{"changed", func() { geoFile(t, dir, "Bath"); touch(time.Hour) }, "Bath", `level=INFO msg="web: geoip_db reloaded" file=` + file},
		{"unchanged since", func() {}, "Bath", ""},
		{"broken", func() { writeFile(t, file, "broken"); touch(2 * time.Hour) }, "Bath", `level=ERROR msg="web: cannot reload geoip_db, keeping the old one" err=`},
		{"still broken", func() {}, "Bath", ""},
		{"gone", func() { os.Remove(file) }, "Bath", ""},
		{"older", func() { geoFile(t, dir, "York"); touch(-time.Hour) }, "York", `msg="web: geoip_db reloaded"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			log.Reset()
			c.change()
			geo.Refresh()
			if got := city(); got != c.city {
				t.Errorf("city %s, want %s", got, c.city)
			}
			got := log.String()
			if c.log == "" && got != "" || c.log != "" && (strings.Count(got, "\n") != 1 || !strings.Contains(got, c.log)) {
				t.Errorf("logged %q, want %q", got, c.log)
			}
		})
	}
}
