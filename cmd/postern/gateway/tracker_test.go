package gateway

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
)

// TestAChangedGeoIPDatabaseIsTaken; one that is damaged is not.
func TestAChangedGeoIPDatabaseIsTaken(t *testing.T) {
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	var db bytes.Buffer
	if _, err := w.WriteTo(&db); err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, "")
	dir := filepath.Dir(file)
	geo := writeFile(t, dir, "city.mmdb", db.String())
	replaceIn(t, file, "[tracking.web]\n", "[tracking.web]\ngeoip_db = \"city.mmdb\"\n")
	g, log := startGateway(t, file)
	log.take()

	for i, c := range []struct{ content, want string }{
		{"damaged", "level=ERROR msg=\"web: cannot reload geoip_db, keeping the old one\""},
		{db.String(), "level=INFO msg=\"web: geoip_db reloaded\" file=" + geo + "\n"},
	} {
		writeFile(t, dir, "city.mmdb", c.content)
		modified := time.Now().Add(time.Duration(i+1) * time.Minute)
		if err := os.Chtimes(geo, modified, modified); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			g.round(t.Context())
		}
		if text := log.take(); strings.Count(text, "msg=") != 1 || !strings.Contains(text, c.want) {
			t.Errorf("got log\n%s\nwant one line with %q", text, c.want)
		}
	}
}
