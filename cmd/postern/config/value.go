package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parser is implemented by types that parse a string of the file.
type parser interface{ parse(string) error }

// Size is a number of bytes: "50MiB", "4MB", "1024".
type Size int64

// units are the units of a Size, in bytes.
var units = map[string]float64{
	"":    1,
	"b":   1,
	"k":   1 << 10,
	"kib": 1 << 10,
	"kb":  1e3,
	"m":   1 << 20,
	"mib": 1 << 20,
	"mb":  1e6,
	"g":   1 << 30,
	"gib": 1 << 30,
	"gb":  1e9,
	"t":   1 << 40,
	"tib": 1 << 40,
	"tb":  1e12,
}

func (s *Size) parse(v string) error {
	i := strings.IndexFunc(v, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		i = len(v)
	}

	n, err := strconv.ParseFloat(v[:i], 64)
	unit, ok := units[strings.ToLower(strings.TrimSpace(v[i:]))]
	if err != nil || !ok || n*unit > math.MaxInt64/2 {
		return errors.New(`not a size, write for example "50MiB"`)
	}
	*s = Size(n * unit)

	return nil
}

// Duration is a time span: "30s", "4m", "1h30m", "365d", "4d12h".
type Duration time.Duration

func (d *Duration) parse(v string) error {
	bad := errors.New(`not a duration, write for example "30s", "4m" or "365d"`)

	total := time.Duration(0)
	rest := v
	if days, after, ok := strings.Cut(v, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n < 0 || n > 36500 {
			return bad
		}
		total = time.Duration(n * 24 * float64(time.Hour))
		rest = after
	}

	if rest != "" || v == "" {
		t, err := time.ParseDuration(rest)
		if err != nil || t < 0 {
			return bad
		}
		total += t
	}
	*d = Duration(total)

	return nil
}

// String returns the duration as it can be written in the file.
func (d Duration) String() string {
	t := d.Std()
	days := t / (24 * time.Hour)

	rest := (t % (24 * time.Hour)).String()
	if strings.HasSuffix(rest, "m0s") {
		rest = strings.TrimSuffix(rest, "0s")
	}
	if strings.HasSuffix(rest, "h0m") {
		rest = strings.TrimSuffix(rest, "0m")
	}

	switch {
	case days == 0:
		return rest
	case rest == "0s":
		return fmt.Sprintf("%dd", days)
	}

	return fmt.Sprintf("%dd%s", days, rest)
}

// Std returns the duration as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Date is a day, "2026-12-31", or a time, "2026-12-31T12:00:00Z", in UTC.
type Date struct {
	time.Time      // the first moment of a day
	day       bool // a day, not a time
}

func (d *Date) parse(v string) error {
	if t, err := time.ParseInLocation(time.DateOnly, v, time.UTC); err == nil {
		*d = Date{Time: t, day: true}
		return nil
	}
	if t, err := time.ParseInLocation(time.RFC3339, v, time.UTC); err == nil {
		*d = Date{Time: t}
		return nil
	}

	return errors.New(`not a date, write for example "2026-12-31"`)
}

// End returns the first moment after the date: a day is over when the next one
// begins. The zero Date has no end.
func (d Date) End() time.Time {
	if d.day {
		return d.AddDate(0, 0, 1)
	}

	return d.Time
}

// Rate is a number of events in a period: "5/min", "3/5m".
type Rate struct {
	N   int
	Per time.Duration
}

func (r *Rate) parse(v string) error {
	bad := errors.New(`not a rate, write for example "5/min" or "3/5m"`)

	n, per, ok := strings.Cut(v, "/")
	count, err := strconv.Atoi(n)
	if !ok || err != nil || count < 1 {
		return bad
	}

	switch per {
	case "s", "sec":
		r.Per = time.Second
	case "min", "m":
		r.Per = time.Minute
	case "h", "hour":
		r.Per = time.Hour
	default:
		var d Duration
		if d.parse(per) != nil || d <= 0 {
			return bad
		}
		r.Per = d.Std()
	}

	r.N = count

	return nil
}

// Addr is HOST:PORT.
type Addr string

// OptAddr is an Addr, or nothing: that listener is off.
type OptAddr string

func (a *OptAddr) parse(v string) error {
	if v == "" {
		*a = ""
		return nil
	}

	return (*Addr)(a).parse(v)
}

func (a *Addr) parse(v string) error {
	_, port, err := net.SplitHostPort(v)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}

	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("port %s is too big: ports go up to 65535", port)
	}
	if err != nil {
		return errors.New(`not an address, write "HOST:PORT", for example "127.0.0.1:2525"`)
	}
	*a = Addr(v)

	return nil
}

// URL is an absolute http or https URL without query and fragment, or empty.
type URL string

func (u *URL) parse(v string) error {
	if v == "" {
		*u = ""
		return nil
	}

	p, err := url.Parse(v)
	if err != nil || p.Scheme != "http" && p.Scheme != "https" || p.Host == "" || p.RawQuery != "" || p.Fragment != "" {
		return errors.New(`not an address of the web, write for example "https://track.example.com"`)
	}

	*u = URL(strings.TrimSuffix(v, "/"))

	return nil
}

// Prefix is a network: "10.1.0.0/16"; a single address is one, too. An IPv4
// network written as IPv6 ("::ffff:10.1.0.0/112") is the IPv4 network.
type Prefix netip.Prefix

func (p *Prefix) parse(v string) error {
	if a, err := netip.ParseAddr(v); err == nil {
		if a.Zone() != "" {
			return fmt.Errorf("%s names an interface, which a network has not: write %q", v, a.WithZone(""))
		}
		a = a.Unmap()
		*p = Prefix(netip.PrefixFrom(a, a.BitLen()))
		return nil
	}

	n, err := netip.ParsePrefix(v)
	if err != nil {
		return errors.New(`not a network, write for example "10.1.0.0/16"`)
	}
	if n != n.Masked() {
		return fmt.Errorf("%s names an address within a network: write %q for the network, or %q for the address",
			v, n.Masked(), n.Addr())
	}
	*p = Prefix(unmapped(n))

	return nil
}

// mappedBits is the length of the prefix of IPv4-mapped IPv6 addresses (RFC 4291
// section 2.5.5.2).
const mappedBits = 96

// unmapped returns the IPv4 network of an IPv4-mapped one, and any other network as it
// is. Clients are compared by their IPv4 address.
func unmapped(n netip.Prefix) netip.Prefix {
	if !n.Addr().Is4In6() || n.Bits() < mappedBits {
		return n
	}

	return netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-mappedBits)
}

// Host is a host name.
type Host string

func (h *Host) parse(v string) error {
	if v == "" || len(v) > 253 || strings.ContainsAny(v, " \t/:@<>()\"\\,;") {
		return errors.New(`not a host name, write for example "mail.example.com"`)
	}
	*h = Host(v)

	return nil
}

// HeaderName is the name of a message header field.
type HeaderName string

func (h *HeaderName) parse(v string) error {
	for i := 0; i < len(v); i++ {
		if v[i] <= ' ' || v[i] >= 0x7f || v[i] == ':' {
			v = ""
		}
	}
	if v == "" || len(v) > 70 {
		return errors.New(`not a header field's name, write for example "X-Job"`)
	}
	*h = HeaderName(v)

	return nil
}

// APIKey is an API key as PowerMTA wants it: exactly 40 hexadecimal digits, or empty.
type APIKey string

func (k *APIKey) parse(v string) error {
	if v != "" {
		if _, err := hex.DecodeString(v); err != nil || len(v) != 40 {
			return errors.New("an API key has exactly 40 hex digits")
		}
	}
	*k = APIKey(v)

	return nil
}

// Tristate is true, false, "filter", or left out.
type Tristate string

// The values of enable_signals.
const (
	Unset  Tristate = ""
	Yes    Tristate = "true"
	No     Tristate = "false"
	Filter Tristate = "filter"
)

func (t *Tristate) parse(v string) error {
	if v != "filter" {
		return errors.New(`want true, false or "filter"`)
	}
	*t = Filter

	return nil
}

// oneOf returns an error if v is not one of words.
func oneOf(v string, words ...string) error {
	if slices.Contains(words, v) {
		return nil
	}

	return fmt.Errorf("want one of %s", strings.Join(words, ", "))
}
