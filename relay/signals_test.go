package relay

import (
	"context"
	"fmt"
	"regexp"
	"testing"
)

// TestReporting holds every combination of what VirtualMTA, pool and [signals]
// say, with the filter's three answers.
func TestReporting(t *testing.T) {
	levels := []Enable{EnableUnset, EnableTrue, EnableFalse, EnableFilter}
	filters := map[string]*SignalsFilter{"yes.example": {Enable: true}, "no.example": {Enable: false}, "none.example": nil}
	for _, vmta := range levels {
		for _, pool := range levels {
			for _, global := range levels {
				for sender, f := range filters {
					name := fmt.Sprintf("vmta=%s pool=%s global=%s sender=%s", vmta, pool, global, sender)
					r := &Relay{cfg: Config{Routes: Routes{VirtualMTAs: []VirtualMTA{{Name: "v", Pool: "p", Enable: vmta}}, Pools: []Pool{{Name: "p", Enable: pool}}},
						Signals: Signals{Enable: global, Filters: []SignalsFilter{{Pattern: "yes.example", Enable: true}, {Pattern: "no.example"}}}}}
					first := EnableUnset
					for _, l := range []Enable{vmta, pool, global} {
						if first == EnableUnset {
							first = l
						}
					}
					want := map[Enable]bool{EnableUnset: true, EnableTrue: true, EnableFalse: false, EnableFilter: f != nil && f.Enable}[first]
					if got, _ := r.reporting(User{}, sentFrom("v", sender, 0)); got != want {
						t.Errorf("%s: %v, want %v", name, got, want)
					}
				}
			}
		}
	}
}

// sentFrom is what a message from a domain comes to.
func sentFrom(vmta, domain string, subaccount uint32) *headers {
	return &headers{
		virtualMTA: vmta,
		subaccount: subaccount,
		origin:     readOriginators(occurrence{value: "a@" + domain, n: 1}, occurrence{}),
	}
}

func TestReportingSubaccount(t *testing.T) {
	routes := Routes{VirtualMTAs: []VirtualMTA{{Name: "v", Pool: "p", Subaccount: 20}, {Name: "bare", Pool: "p"}}, Pools: []Pool{{Name: "p", Subaccount: 30}}}
	full := Config{Routes: routes,
		Signals: Signals{Enable: EnableFilter, Subaccount: 40, Filters: []SignalsFilter{{Pattern: "*.customer.example", Enable: true, Subaccount: 10},
			{Pattern: "vip.customer.example", Enable: true}, {Pattern: "*", Enable: false}}}}
	for _, c := range []struct {
		name, vmta, sender string
		given              uint32
		report             bool
		want               uint32
	}{
		{"the user's, the login's or the header's", "v", "a.customer.example", 5, true, 5},
		{"the filter that decided", "v", "a.customer.example", 0, true, 10},
		{"the VirtualMTA's", "v", "vip.customer.example", 0, true, 20},
		{"the pool's", "bare", "vip.customer.example", 0, true, 30},
		{"the pool's, by its own name", "p", "vip.customer.example", 0, true, 30},
		{"[signals]'s", "", "vip.customer.example", 0, true, 40},
		{"the exact pattern, then the longest, then *", "", "strange.example", 0, false, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			report, sub := (&Relay{cfg: full}).reporting(User{}, sentFrom(c.vmta, c.sender, c.given))
			if report != c.report || sub != c.want {
				t.Errorf("%v, %d", report, sub)
			}
		})
	}
}

// TestUnreported: no events, and links that make none.
func TestUnreported(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Signals = Signals{Enable: EnableFalse} })
	if r := b.relay.Submit(context.Background(), submission(htmlMessage, "a")); r.Code != 250 || len(b.rec.events) != 0 {
		t.Fatalf("%v, %d events", r, len(b.rec.events))
	}
	for _, m := range regexp.MustCompile(`https://t\.example/t/([\w-]+)`).FindAllStringSubmatch(string(b.up.got[0].Message[0]), -1) {
		if tok, err := b.keys.Open(m[1], "t.example"); err != nil || !tok.Unreported {
			t.Errorf("%+v, %v", tok, err)
		}
	}
}

// TestEnableValues are those of the configuration.
func TestEnableValues(t *testing.T) {
	for got, want := range map[Enable]string{EnableUnset: "", EnableTrue: "true", EnableFalse: "false", EnableFilter: "filter"} {
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
