package config

import (
	"strings"
	"testing"
	"time"
)

func TestDateIncludesItsDay(t *testing.T) {
	for _, c := range []struct{ text, begin, end string }{
		{"2026-12-31", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"2024-02-28", "2024-02-28T00:00:00Z", "2024-02-29T00:00:00Z"},
		{"2026-12-31T12:00:00Z", "2026-12-31T12:00:00Z", "2026-12-31T12:00:00Z"},
		{"2026-12-31T01:00:00+02:00", "2026-12-30T23:00:00Z", "2026-12-30T23:00:00Z"},
	} {
		var d Date
		if err := d.parse(c.text); err != nil {
			t.Fatal(err)
		}
		begin, end := d.UTC().Format(time.RFC3339), d.End().UTC().Format(time.RFC3339)
		if begin != c.begin || end != c.end {
			t.Errorf("%s: got %s to %s, want %s to %s", c.text, begin, end, c.begin, c.end)
		}
	}

	if got := (Date{}).End(); !got.IsZero() {
		t.Errorf("no date: got end %v, want none", got)
	}
}

func TestCheckNamesTimesWithoutSignature(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		keys []string // domain, not_before, not_after; "-": none
		want []string // parts of the warnings, in order
	}{
		{"for ever", []string{"a.example - -"}, nil},
		{"the natural rotation", []string{"a.example - 2026-12-31", "a.example 2027-01-01 -"}, nil},
		{"a day between", []string{"a.example - 2026-12-30", "a.example 2027-01-01 -"}, []string{"dkim.key[1].not_before: warning: no key of a.example signs from 2026-12-31 00:00 UTC to 2027-01-01 00:00 UTC"}},
		{"two gaps", []string{"a.example 2027-03-01 -", "a.example - 2026-12-30", "a.example 2027-01-01 2027-01-31"},
			[]string{"from 2026-12-31 00:00 UTC to 2027-01-01 00:00 UTC", "from 2027-02-01 00:00 UTC to 2027-03-01 00:00 UTC"}},
		{"not yet", []string{"a.example 2026-12-01 -"}, []string{"from 2026-11-24 12:00 UTC to 2026-12-01 00:00 UTC"}},
		{"no longer", []string{"a.example - 2026-11-01", "a.example - 2026-11-20"}, []string{"dkim.key[1].not_after: warning: no key of a.example signs since 2026-11-21 00:00 UTC"}},
		{"a gap in the past", []string{"a.example - 2026-10-01", "a.example 2026-11-01 -"}, nil},
		{"ends today", []string{"a.example - 2026-11-24"}, []string{"the last key of a.example ends at 2026-11-25 00:00 UTC"}},
		{"ends within 14 days", []string{"a.example - 2026-12-07"}, []string{"the last key of a.example ends at 2026-12-08 00:00 UTC"}},
		{"ends later", []string{"a.example - 2026-12-08"}, nil},
		{"another domain does not help", []string{"a.example - 2026-11-24", "b.example - -"}, []string{"the last key of a.example"}},
		{"the domain's case does not count", []string{"A.example - 2026-11-24", "a.example - -"}, nil},
		{"a long key covers a short one", []string{"a.example - 2027-12-31", "a.example - 2026-11-24"}, nil},
		{"begins now", []string{"a.example 2026-11-24T12:00:00Z -"}, nil},
		{"begins a second from now", []string{"a.example 2026-11-24T12:00:01Z -"}, []string{"no key of a.example signs from 2026-11-24 12:00 UTC to 2026-11-24 12:00 UTC: mail goes out unsigned"}},
		{"ended now", []string{"a.example - 2026-11-24T12:00:00Z"}, []string{"dkim.key[0].not_after: warning: no key of a.example signs since 2026-11-24 12:00 UTC: mail goes out unsigned"}},
		{"ends in a second", []string{"a.example - 2026-11-24T12:00:01Z"}, []string{"dkim.key[0].not_after: warning: the last key of a.example ends at 2026-11-24 12:00 UTC, and no other follows"}},
		{"ends in 14 days", []string{"a.example - 2026-12-08T12:00:00Z"}, nil},
		{"ends a second before that", []string{"a.example - 2026-12-08T11:59:59Z"}, []string{"the last key of a.example ends at 2026-12-08 11:59 UTC"}},
		{"begins as the other ends", []string{"a.example - 2026-12-30T00:00:00Z", "a.example 2026-12-30T00:00:00Z -"}, nil},
		{"the last is the first of the file", []string{"a.example - 2026-11-30", "a.example - 2026-11-26"}, []string{"dkim.key[0].not_after: warning: the last key of a.example ends at 2026-12-01"}},
		{"domains in the file's order", []string{"b.example - 2026-11-24", "a.example - 2026-11-24"}, []string{"the last key of b.example", "the last key of a.example"}},
		{"a moment of no length", []string{"a.example 2026-12-01T00:00:00Z 2026-12-01T00:00:00Z"}, []string{"dkim.key[0].not_after: before not_before: the key would never sign"}},
		{"one turned round beside a good one", []string{"a.example 2027-01-02 2027-01-01", "a.example - -"}, []string{"dkim.key[0].not_after: before not_before"}},
		{"one day", []string{"a.example 2026-11-24 2026-11-24"}, []string{"the last key of a.example ends at 2026-11-25 00:00 UTC"}},
		{"for ever after a gap", []string{"a.example - 2026-12-01", "a.example 2026-12-10 -"}, []string{"from 2026-12-02 00:00 UTC to 2026-12-10 00:00 UTC"}},
		{"both forms of a domain", []string{"bücher.example - 2026-11-24", "xn--bcher-kva.example - -"}, nil},
		{"turned round", []string{"a.example 2027-01-02 2027-01-01"}, []string{"dkim.key[0].not_after: before not_before"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBinder("postern.toml", noEnv)
			b.checkSpans(dkimKeys(t, c.keys), now)

			if len(b.problems) != len(c.want) {
				t.Fatalf("got %v, want %d of them", b.problems, len(c.want))
			}
			for i, want := range c.want {
				if got := b.problems[i].Error(); !strings.Contains(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

func dkimKeys(t *testing.T, texts []string) []DKIMKey {
	t.Helper()
	var out []DKIMKey
	for _, text := range texts {
		f := strings.Fields(text)
		k := DKIMKey{Domain: f[0]}
		for i, d := range []*Date{&k.NotBefore, &k.NotAfter} {
			if v := f[1+i]; v != "-" {
				if err := d.parse(v); err != nil {
					t.Fatal(err)
				}
			}
		}
		out = append(out, k)
	}
	return out
}

func TestCheckFollowsSuccessors(t *testing.T) {
	for _, c := range []struct {
		name, successors string // of selectors a, b, c; "-": none
		want             string
		fatal            bool
	}{
		{"none", "- - -", "", false},
		{"a chain", "b c -", "", false},
		{"itself", "a - -", "dkim.key[0].successor: leads back to selector a", true},
		{"a circle", "b c a", "dkim.key[0].successor: leads back to selector a", true},
		{"into a circle", "b c b", "dkim.key[1].successor: leads back to selector b", true},
		{"a long circle", "b c d a", "dkim.key[3].successor: leads back to selector d", true},
		{"two that are unknown", "x y -", "dkim.key[1].successor: warning: d.example has no key with selector y", false},
		{"unknown, then a circle", "x c b", "dkim.key[2].successor: leads back to selector c: none of these keys would sign", true},
		{"a chain that ends at an unknown one", "b c x", "dkim.key[2].successor: warning: ", false},
		{"unknown", "x - -", "dkim.key[0].successor: warning: d.example has no key with selector x", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var keys []DKIMKey
			for i, s := range strings.Fields(c.successors) {
				k := DKIMKey{Domain: "d.example", Selector: string(rune('a' + i))}
				if s != "-" {
					k.Successor = s
				}
				keys = append(keys, k)
			}

			b := newBinder("postern.toml", noEnv)
			b.checkSuccessors(keys)

			if got := b.problems.Error(); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := len(b.problems.Fatal()) > 0; got != c.fatal {
				t.Errorf("got fatal %v, want %v", got, c.fatal)
			}
		})
	}
}

// TestSuccessorsAreOfTheSameDomain, in either form of its name.
func TestSuccessorsAreOfTheSameDomain(t *testing.T) {
	keys := []DKIMKey{
		{Domain: "bücher.example", Selector: "a", Successor: "b"},
		{Domain: "xn--bcher-kva.example", Selector: "b"},
		{Domain: "a.example", Selector: "a", Successor: "b"},
	}
	b := newBinder("postern.toml", noEnv)
	b.checkSuccessors(keys)

	if got, want := b.problems.Error(), "postern.toml:1: dkim.key[2].successor: warning: a.example has no key with selector b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoEndIsTheLatest(t *testing.T) {
	none, early, late := time.Time{}, time.Unix(1, 0), time.Unix(2, 0)
	for _, c := range []struct {
		a, b time.Time
		want int
	}{{none, none, 0}, {none, late, 1}, {late, none, -1}, {early, late, -1}, {late, early, 1}, {late, late, 0}} {
		if got := compareEnds(c.a, c.b); got != c.want {
			t.Errorf("%v and %v: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
