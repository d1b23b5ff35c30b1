package web

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"postern/tracking/event"
)

// Geo looks addresses up in a MaxMind DB file (GeoLite2 City and its like),
// which is held in memory: a file that is overwritten in place does no harm.
// Safe for concurrent use.
type Geo struct {
	file   string
	log    *slog.Logger
	reader atomic.Pointer[maxminddb.Reader]
	seen   time.Time // the file's time; one goroutine's
}

// OpenGeo reads a database. What Refresh does goes into log, if it is not nil.
func OpenGeo(file string, log *slog.Logger) (*Geo, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Geo{file: file, log: log}
	return g, g.load()
}

// CheckGeo reports what is wrong with a database file.
func CheckGeo(file string) error {
	_, err := readGeo(file)
	return err
}

func readGeo(file string) (*maxminddb.Reader, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("web: geo: %w", err)
	}

	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("web: geo: %s is no MaxMind DB file: %w", file, err)
	}

	return r, nil
}

func (g *Geo) load() error {
	if info, err := os.Stat(g.file); err == nil {
		g.seen = info.ModTime()
	}

	r, err := readGeo(g.file)
	if err != nil {
		return err
	}
	g.reader.Store(r)

	return nil
}

// Refresh takes the file anew where it has changed; one that cannot be read is
// not taken.
func (g *Geo) Refresh() {
	info, err := os.Stat(g.file)
	if err != nil || info.ModTime().Equal(g.seen) {
		return
	}

	if err := g.load(); err != nil {
		g.log.Error("changed geoip_db not taken, the old one goes on", "err", err)
		return
	}

	g.log.Info("geoip_db taken", "file", g.file)
}

// geoRecord is what is read of a record of the database.
type geoRecord struct {
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
	City struct {
		Names map[string]string `maxminddb:"names"`
	} `maxminddb:"city"`
	Location struct {
		Latitude  float64 `maxminddb:"latitude"`
		Longitude float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
	Postal struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"postal"`
}

// lookup returns where an address is; nil: the database does not know.
func (g *Geo) lookup(a netip.Addr) *event.GeoIP {
	if g == nil || !a.IsValid() {
		return nil
	}

	var r geoRecord
	if err := g.reader.Load().Lookup(a).Decode(&r); err != nil {
		return nil
	}

	out := event.GeoIP{
		Country:    r.Country.Code,
		City:       r.City.Names["en"],
		Latitude:   r.Location.Latitude,
		Longitude:  r.Location.Longitude,
		Zip:        r.Postal.Code,
		PostalCode: r.Postal.Code,
	}
	if len(r.Subdivisions) > 0 {
		out.Region = r.Subdivisions[0].Code
	}
	if out == (event.GeoIP{}) {
		return nil
	}

	return &out
}
