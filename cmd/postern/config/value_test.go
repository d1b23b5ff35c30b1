package config

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// parsed is what a parser makes of a text: the value, or what is wrong.
func parsed(p parser, text string, value func() any) string {
	if err := p.parse(text); err != nil {
		return "! " + err.Error()
	}
	return fmt.Sprint(value())
}

func TestSizes(t *testing.T) {
	const bad = `! not a size, write for example "50MiB"`
	for text, want := range map[string]string{
		"0": "0", "1024": "1024", "7b": "7", "7B": "7",
		"1k": "1024", "1KiB": "1024", "1kb": "1000", "1 KiB": "1024",
		"1m": "1048576", "1MiB": "1048576", "4MB": "4000000",
		"1g": "1073741824", "1GiB": "1073741824", "1GB": "1000000000",
		"1t": "1099511627776", "1TiB": "1099511627776", "1TB": "1000000000000",
		"1.5k": "1536", "0.5MiB": "524288", "90 MB": "90000000", "9m": "9437184",
		"":  bad,
		"k": bad, "-1": bad, "1x": bad, "1..2": bad, "1 1": bad, "big": bad, "1KiBs": bad,
		"4611686018427387904":  "4611686018427387904", // half of what fits
		"4611686018427389000":  bad,
		"4194304TiB":           "4611686018427387904",
		"4194305TiB":           bad,
		"99999999999999999999": bad,
	} {
		t.Run(text, func(t *testing.T) {
			var s Size
			if got := parsed(&s, text, func() any { return int64(s) }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestDurations(t *testing.T) {
	const bad = `! not a duration, write for example "30s", "4m" or "365d"`
	for text, want := range map[string]string{
		"30s": "30s", "1h30m": "1h30m0s", "0s": "0s", "1d": "24h0m0s", "1d12h": "36h0m0s", "0.5d": "12h0m0s", "0d": "0s",
		"36500d": "876000h0m0s", "36500.1d": bad, "36501d": bad, "-1d": bad, "d": bad, "xd": bad, "1dx": bad, "1d-1s": bad,
		"": bad, "-1s": bad, "5": bad, "5 minutes": bad,
	} {
		t.Run(text, func(t *testing.T) {
			var d Duration
			if got := parsed(&d, text, func() any { return d.Std() }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestRates(t *testing.T) {
	const bad = `! not a rate, write for example "5/min" or "3/5m"`
	for text, want := range map[string]string{
		"5/s": "{5 1s}", "5/sec": "{5 1s}", "5/m": "{5 1m0s}", "5/min": "{5 1m0s}", "5/h": "{5 1h0m0s}", "5/hour": "{5 1h0m0s}",
		"3/5m": "{3 5m0s}", "1/1d": "{1 24h0m0s}", "1/min": "{1 1m0s}",
		"0/min": bad, "-1/min": bad, "x/min": bad, "5": bad, "5/": bad, "5/0s": bad, "5/soon": bad, "/min": bad, "5/min/s": bad,
	} {
		t.Run(text, func(t *testing.T) {
			var r Rate
			if got := parsed(&r, text, func() any { return r }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	const bad = `! not an address, write "HOST:PORT", for example "127.0.0.1:2525"`
	for text, want := range map[string]string{
		"127.0.0.1:25": "127.0.0.1:25", "[::1]:25": "[::1]:25", ":25": ":25", "mail.example.com:0": "mail.example.com:0",
		"h:65535": "h:65535", "h:65536": "! port 65536 is too big: ports go up to 65535",
		"h:-1": bad, "h:smtp": bad, "h:": bad, "h": bad, "::1:25": bad,
	} {
		t.Run(text, func(t *testing.T) {
			var a Addr
			if got := parsed(&a, text, func() any { return a }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			var o OptAddr
			if got := parsed(&o, text, func() any { return o }); got != want {
				t.Errorf("optional: got %s, want %s", got, want)
			}
		})
	}

	var a Addr
	if got := parsed(&a, "", func() any { return a }); got != bad {
		t.Errorf("no address: got %s, want %s", got, bad)
	}
	o := OptAddr("127.0.0.1:25")
	if got := parsed(&o, "", func() any { return o }); got != "" {
		t.Errorf("no address where there may be none: got %s, want an empty one", got)
	}
}

func TestURLs(t *testing.T) {
	const bad = `! not an address of the web, write for example "https://track.example.com"`
	for text, want := range map[string]string{
		"": "", "http://a.example": "http://a.example", "https://a.example:8443/x": "https://a.example:8443/x",
		"https://a.example/": "https://a.example", "https://a.example/x/": "https://a.example/x",
		"ftp://a.example": bad, "a.example": bad, "https://": bad, "https:///x": bad, "mailto:a@b.example": bad,
		"https://a.example/?x=1": bad, "https://a.example/#x": bad, "https://a b/": bad, "https://%zz/": bad,
	} {
		t.Run(text, func(t *testing.T) {
			u := URL("before")
			if got := parsed(&u, text, func() any { return u }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	const bad = `! not a host name, write for example "mail.example.com"`
	label := strings.Repeat("a", 50)
	long := strings.Repeat(label+".", 4) + strings.Repeat("b", 49) // 253 bytes
	for text, want := range map[string]string{
		"mail.example.com": "mail.example.com", "bücher.example": "bücher.example", "localhost": "localhost",
		long: long, long + "b": bad, "": bad,
		"a b": bad, "a\tb": bad, "a/b": bad, "a:25": bad, "a@b": bad, "<a": bad, "a>": bad, "(a": bad, "a)": bad,
		`"a`: bad, `a\`: bad, "a,b": bad, "a;b": bad,
	} {
		t.Run(text, func(t *testing.T) {
			var h Host
			if got := parsed(&h, text, func() any { return h }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestHeaderNames(t *testing.T) {
	const bad = `! not a header field's name, write for example "X-Job"`
	long := strings.Repeat("x", 70)
	for text, want := range map[string]string{
		"X-Job": "X-Job", "!~": "!~", long: long, long + "x": bad, "": bad,
		"X Job": bad, "X-Job:": bad, "X\tJob": bad, "X\x7f": bad, "Schlüssel": bad, ":": bad, " X": bad,
	} {
		t.Run(text, func(t *testing.T) {
			var h HeaderName
			if got := parsed(&h, text, func() any { return h }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestAPIKeys(t *testing.T) {
	const bad = "! an API key has exactly 40 hex digits"
	key := strings.Repeat("aF", 20)
	for text, want := range map[string]string{
		"": "", key: key, key[1:]: bad, key + "0": bad, key + "00": bad, key[2:]: bad, strings.Repeat("xy", 20): bad,
	} {
		t.Run(text, func(t *testing.T) {
			k := APIKey("before")
			if got := parsed(&k, text, func() any { return k }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestTristateTakesNoOtherWord(t *testing.T) {
	for text, want := range map[string]string{
		"filter": "filter",
		"flase":  `! want true, false or "filter"`,
		"true":   `! want true, false or "filter"`,
		"Filter": `! want true, false or "filter"`,
		"":       `! want true, false or "filter"`,
	} {
		t.Run(text, func(t *testing.T) {
			var v Tristate
			if got := parsed(&v, text, func() any { return v }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestEnableSignalsReadsTrueFalseAndFilter asks for the whole way: the booleans
// are not strings of the file.
func TestEnableSignalsReadsTrueFalseAndFilter(t *testing.T) {
	for text, want := range map[string]Tristate{"true": Yes, "false": No, `"filter"`: Filter} {
		t.Run(text, func(t *testing.T) {
			b := newBinder("postern.toml", noEnv)
			c := Default()
			b.bind([]byte("[signals]\nenable_signals = "+text+"\n[[pool]]\nenable_signals = "+text+"\n[[pool]]\n"), c)

			if len(b.problems) > 0 {
				t.Fatal(b.problems)
			}
			if c.Signals.EnableSignals != want || c.Pools[0].EnableSignals != want {
				t.Errorf("got %q and %q, want %q", c.Signals.EnableSignals, c.Pools[0].EnableSignals, want)
			}
			if got := c.Pools[1].EnableSignals; got != Unset {
				t.Errorf("left out: got %q, want none", got)
			}
		})
	}
}

func TestDatesThatAreNone(t *testing.T) {
	for _, text := range []string{"", "31.12.2026", "2026-13-01", "2026-12-31 12:00", "2026-12-31T12:00:00"} {
		t.Run(text, func(t *testing.T) {
			var d Date
			if err := d.parse(text); err == nil || err.Error() != `not a date, write for example "2026-12-31"` {
				t.Errorf("got %v, %v, want that it is not a date", d, err)
			}
		})
	}
}

func TestUnmapsOnlyWholeMappedNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"::ffff:0:0/95":      "! ::ffff:0:0/95 names an address within a network: write \"::fffe:0:0/95\" for the network, or \"::ffff:0.0.0.0\" for the address",
		"::fffe:0:0/95":      "::fffe:0:0/95",
		"::ffff:10.0.0.0/97": "! ::ffff:10.0.0.0/97 names an address within a network: write \"::ffff:0.0.0.0/97\" for the network, or \"::ffff:10.0.0.0\" for the address",
		"::ffff:0.0.0.0/97":  "0.0.0.0/1",
	} {
		t.Run(text, func(t *testing.T) {
			var p Prefix
			if got := parsed(&p, text, func() any { return netip.Prefix(p) }); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestDurationStringOfParts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                            "0s",
		time.Hour:                    "1h",
		10 * time.Minute:             "10m",
		time.Hour + time.Second:      "1h0m1s",
		48*time.Hour + 5*time.Second: "2d5s",
		24*time.Hour + time.Minute:   "1d1m",
		23*time.Hour + 59*time.Minute + 59*time.Second: "23h59m59s",
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

// FuzzDurationReadsBack: what is written as a duration reads as the same one.
func FuzzDurationReadsBack(f *testing.F) {
	for _, n := range []int64{0, 1, 59, 60, 3600, 86399, 86400, 86401, 36500 * 86400} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		if n < 0 || n > 36500*86400 {
			return
		}
		d := Duration(n) * Duration(time.Second)
		var again Duration
		if err := again.parse(d.String()); err != nil || again != d {
			t.Errorf("%v is written %s and reads back as %v, %v", d.Std(), d, again.Std(), err)
		}
	})
}

// FuzzSizeIsNeverNegative: whatever the text, a size fits an int64.
func FuzzSizeIsNeverNegative(f *testing.F) {
	for _, text := range []string{"50MiB", "9e18", "1e400", "99999999999999999999t", ".5k", "NaN", "Inf"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s Size
		if err := s.parse(text); err == nil && (s < 0 || s > math.MaxInt64/2+1) {
			t.Errorf("%q reads as %d", text, s)
		}
	})
}
