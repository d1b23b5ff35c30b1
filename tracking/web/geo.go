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

// Geo looks up addresses in a MaxMind DB file, such as GeoLite2 City. The file is
// read into memory, so that it may be overwritten in place. All methods but Refresh
// are safe for concurrent use.
type Geo struct {
	file   string
	log    *slog.Logger
	reader atomic.Pointer[maxminddb.Reader]
	seen   time.Time // modification time of the file; Refresh only
}

// OpenGeo reads a database. Refresh logs to log, unless it is nil.
func OpenGeo(file string, log *slog.Logger) (*Geo, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Geo{file: file, log: log}

	return g, g.load()
}

// CheckGeo returns an error if a file is not a readable database.
func CheckGeo(file string) error {
	_, err := readGeo(file)
	return err
}

// readGeo reads a database file.
func readGeo(file string) (*maxminddb.Reader, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("web: geo: %w", err)
	}

	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("web: geo: %s is not a MaxMind DB file: %w", file, err)
	}

	return r, nil
}

// load reads the file. If that fails, the old database remains in use.
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

// Refresh reloads the file if it has changed. If it cannot be read, the error is
// logged and the old database remains in use. Refresh must not be called
// concurrently.
func (g *Geo) Refresh() {
	info, err := os.Stat(g.file)
	if err != nil || info.ModTime().Equal(g.seen) {
		return
	}

	if err := g.load(); err != nil {
		g.log.Error("web: cannot reload geoip_db, keeping the old one", "err", err)
		return
	}

	g.log.Info("web: geoip_db reloaded", "file", g.file)
}

// geoRecord has the fields of a database record that are used.
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

// lookup returns the location of an address, or nil if it is not in the database.
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
